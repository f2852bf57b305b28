"""Files as clients get them, and the fields that they send with one. Pure functions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ...database.columns import seconds_of
from ...errors import NotFound
from .. import ids
from ..errors import RequestRefused

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
DEFAULT_PURPOSE = "user_data"  # of what came in otherwise
LIFETIME = timedelta(days=30)
SHORTEST_S, LONGEST_S = 3600, int(LIFETIME.total_seconds())
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


def file_object(attachment: Mapping[str, Any]) -> dict[str, Any]:
    """An upload as a file. Raises NotFound for a label, which has no content."""
    if "sha256" not in attachment:
        raise NotFound("attachment")
    expires_at = attachment.get("expires_at")
    return {
        "id": ids.written(ids.FILE, str(attachment["id"])),
        "object": "file",
        "bytes": attachment["size_bytes"],
        "created_at": int(seconds_of(attachment["created_at"])),
        "expires_at": None if expires_at is None else int(seconds_of(expires_at)),
        "filename": attachment["file_name"],
        "purpose": attachment.get("purpose") or DEFAULT_PURPOSE,
        "status": "processed",
        "status_details": None,
    }


def fields_of(form: Mapping[str, str]) -> dict[str, Any]:
    """What a form says of its file: purpose and lifetime. Raises RequestRefused."""
    purpose = form.get("purpose")
    if not purpose:
        raise RequestRefused("purpose is missing.", param="purpose", code="missing_required_parameter")
    return {"purpose": known_purpose(purpose), "lifetime": _lifetime(form)}


def known_purpose(purpose: str) -> str:
    """The purpose, if it is one. Raises RequestRefused."""
    if purpose not in PURPOSES:
        raise RequestRefused(f"purpose must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose


def _lifetime(form: Mapping[str, str]) -> timedelta:
    seconds = form.get(_SECONDS)
    if seconds is None:
        return LIFETIME
    if form.get(_ANCHOR) != "created_at":
        raise RequestRefused(f"{_ANCHOR} must be created_at.", param="expires_after")
    is_number = seconds.isascii() and seconds.isdigit() and len(seconds) < 10
    if not is_number or not SHORTEST_S <= int(seconds) <= LONGEST_S:
        raise RequestRefused(
            f"{_SECONDS} must be a number of {SHORTEST_S} to {LONGEST_S}.", param="expires_after"
        )
    return timedelta(seconds=int(seconds))
