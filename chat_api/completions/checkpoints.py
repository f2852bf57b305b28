"""What a worker does for all its replies at once: saving checkpoints of their text, renewing their leases.

One statement for each reply, as each names its owner, and many of them in one round trip.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database import statements
from ..database.parameters import USER_ID, given
from ..database.statements import Statement
from . import lease
from .models import Completion, CompletionCheckpoint
from .records import COMPLETION_ID, IS_RUNNING, THIS_COMPLETION
from .reply_log import Chunk, from_json, to_json

_CHECKPOINTS = Statement(
    sa.select(CompletionCheckpoint.chunks)
    .where(
        CompletionCheckpoint.user_id == USER_ID,
        CompletionCheckpoint.completion_id == COMPLETION_ID,
        CompletionCheckpoint.position >= given("begin", sa.Integer()),
    )
    .order_by(CompletionCheckpoint.position)
)


def _save(on_postgres: bool) -> sa.Executable:
    # only where the completion is still in progress: one that was deleted or finalized gets no more text
    row = sa.select(
        Completion.user_id,
        Completion.id,
        given("position", sa.Integer()),
        given("chunks", sa.Text()),
    ).where(*THIS_COMPLETION, IS_RUNNING)
    # locked, so that on Postgres a transaction that finalizes either deletes the checkpoint or is seen here
    row = row.with_for_update(read=True, of=Completion)
    # where the answer to a commit was lost the same checkpoint comes again
    insert: Any = postgresql.insert if on_postgres else sqlite.insert
    saved = insert(CompletionCheckpoint).from_select(["user_id", "completion_id", "position", "chunks"], row)
    key = [CompletionCheckpoint.user_id, CompletionCheckpoint.completion_id, CompletionCheckpoint.position]
    return saved.on_conflict_do_nothing(index_elements=key)


_SAVE = Statement(_save)
_RENEW = Statement(
    sa.update(Completion).where(*THIS_COMPLETION, IS_RUNNING).values(lease_expires_at=lease.NEXT_END)
)
_UNCANCELLED = Statement(
    sa.select(Completion.id).where(*THIS_COMPLETION, sa.not_(Completion.cancel_requested))
)


def read_checkpoints(*, user_id: str, completion_id: str, begin: int) -> list[Chunk]:
    """The durable chunks of a reply in progress, from the beginning of a checkpoint on."""
    rows = _CHECKPOINTS.all(user_id=user_id, completion_id=completion_id, begin=begin)
    return [chunk for (text,) in rows for chunk in from_json(text)]


Key = tuple[str, str]
"""User and completion."""


def save_checkpoints_and_commit(
    checkpoints: Iterable[tuple[str, str, int, list[Chunk]]],
) -> list[Exception | None]:
    """Make what has come of replies durable: (user, completion, position, chunks) of each.

    For each None, or the error that it met; one of a reply that has ended is stored nowhere, and no error.
    """
    return statements.write_each_and_commit(
        [
            (_SAVE, {**_this(user_id, completion_id), "position": position, "chunks": to_json(chunks)})
            for user_id, completion_id, position, chunks in checkpoints
        ]
    )


def renew_leases_and_commit(keys: Iterable[Key]) -> list[Exception | None]:
    """Extend the leases of these completions: they are still being written. For each None, or the error that it met."""
    return statements.write_each_and_commit([(_RENEW, _this(*key)) for key in keys])


def find_uncancelled(keys: Iterable[Key]) -> list[bool | Exception]:
    """Whether each of these completions is to go on: it is neither cancelled, nor deleted with its conversation or
    user. An error where that is not known."""
    found = statements.read_each([(_UNCANCELLED, _this(*key)) for key in keys])
    return [rows if isinstance(rows, Exception) else bool(rows) for rows in found]


def _this(user_id: str, completion_id: str) -> dict[str, str]:
    return {"user_id": user_id, "completion_id": completion_id}
