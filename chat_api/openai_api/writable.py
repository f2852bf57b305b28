"""What can be read as JSON, but not written: JSON has numbers of any length, and any depth."""

from collections.abc import Mapping
from typing import Any

from ..llm.untrusted_json import is_serializable
from .errors import RequestRefused


def require_writable(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused for a field that can't be part of an answer, or of a request to a provider."""
    for name, value in fields.items():
        if not is_serializable(value):
            raise RequestRefused(
                f"{name} has a number that is too large, or is nested too deeply.", param=name
            )
