"""Which messages have to be indexed again: noted in the transaction that changes what their documents say."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.dialect import is_postgres
from ..database.parameters import MESSAGE_ID, USER_ID
from ..database.statements import Statement
from .models import SearchUpdate


def _note_one(on_postgres: bool) -> sa.Executable:
    insert: Any = (postgresql if on_postgres else sqlite).insert(SearchUpdate)
    return _or_again(insert.values(user_id=USER_ID, message_id=MESSAGE_ID))


def _or_again(insert: Any) -> sa.Executable:
    changed = {"message_id": insert.excluded.message_id}
    updated: sa.Executable = insert.on_conflict_do_update(
        index_elements=["user_id", "message_id"], set_=changed
    )
    return updated


_NOTE_ONE = Statement(_note_one)


def note_message(*, user_id: str, message_id: str) -> None:
    """As `note`, for one message, as a compiled statement: part of its transaction, be that a session's or not."""
    _NOTE_ONE.all(user_id=user_id, message_id=message_id)


def note(connection: sa.Connection, *, user_id: str, message_ids: Iterable[str]) -> None:
    """Have these messages indexed again soon.

    One that is noted already is written all the same: that locks its row, so whoever is indexing the message just now
    and takes the row off sees what this transaction changes, or fails to take it.
    """
    rows = [{"user_id": user_id, "message_id": message_id} for message_id in sorted(set(message_ids))]
    if not rows:
        return
    insert: Any = (postgresql if is_postgres(connection) else sqlite).insert(SearchUpdate)
    connection.execute(_or_again(insert.values(rows)))
