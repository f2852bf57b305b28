"""Idempotency-Key: a request that is sent twice has one effect and one response."""

from .decorator import (
    LongFields,
    accepts_key,
    attempt_of_request,
    check_key,
    commits_once,
    create_once,
    has_key,
    takes_idempotency_key,
)

__all__ = [
    "LongFields",
    "accepts_key",
    "attempt_of_request",
    "check_key",
    "commits_once",
    "create_once",
    "has_key",
    "takes_idempotency_key",
]
