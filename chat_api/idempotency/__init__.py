"""Idempotency-Key: the same request sent twice has one effect and one answer."""

from .decorator import check_key, commits_once, create_once, has_key

__all__ = ["check_key", "commits_once", "create_once", "has_key"]
