"""Idempotency-Key: the same request sent twice has one effect and one answer."""

from .decorator import accepts_key, check_key, commits_once, create_once, has_key, takes_idempotency_key

__all__ = ["accepts_key", "check_key", "commits_once", "create_once", "has_key", "takes_idempotency_key"]
