"""Errors as pages of the AI SDK show them: one sentence, as plain text."""

from collections.abc import Mapping
from typing import Any

from ..errors import ApiError, Said


class RequestRefused(ApiError):
    """A request that this dialect does not take. The sentence says where, and why."""

    status, code = 400, "invalid_input"


def sentence(status: int, code: str, detail: str, extra: Mapping[str, Any]) -> Said:
    """An error of ours as text."""
    if errors := extra.get("errors"):
        name, messages = next(iter(errors.items()))
        detail = f"{name}: {' '.join(messages)}"
    return Said(status, detail, {})
