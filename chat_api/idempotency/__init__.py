"""Idempotency-Key: the same request sent twice has one effect and one answer."""

from .decorator import commits_once

__all__ = ["commits_once"]
