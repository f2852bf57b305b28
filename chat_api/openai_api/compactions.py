"""Compactions: a summary of a conversation that its client keeps, sealed for the user whose conversation it was.

Nothing of it is stored here. The client sends it back as an item, in place of what it sums up.
"""

import uuid
from typing import Any

from ..keyring import CannotDecrypt, keyring
from . import ids

CONTEXT = "compactions"  # what it is encrypted for, with the user's id


def compaction_item(*, user_id: str, summary: str) -> dict[str, Any]:
    """The item that stands for what was summed up."""
    sealed = keyring().encrypt(summary.encode(), encryption_context=(CONTEXT, user_id))
    id_ = ids.written(ids.COMPACTION, str(uuid.uuid4()))
    return {"id": id_, "type": "compaction", "encrypted_content": sealed}


def open_summary(*, user_id: str, sealed: str) -> str | None:
    """The summary that was sealed for this user; None for what is none, or was changed."""
    try:
        return keyring().decrypt(sealed, encryption_context=(CONTEXT, user_id)).decode()
    except (CannotDecrypt, UnicodeError):
        return None
