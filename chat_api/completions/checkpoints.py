"""What a worker does for all its replies at once: saving checkpoints of their text, renewing their leases."""

from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database.columns import Id
from ..database.parameters import USER_ID, given
from ..database.statements import Statement
from . import lease
from .models import Completion, CompletionCheckpoint
from .records import COMPLETION_ID, IS_RUNNING
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


def _listed(on_postgres: bool, **columns: Any) -> Any:
    """The rows of the JSON array `rows`, as a table of these columns."""
    if on_postgres:
        rows = sa.cast(given("rows", sa.Text()), postgresql.JSONB)
        typed = [sa.column(name, kind) for name, kind in columns.items()]
        return sa.func.jsonb_to_recordset(rows).table_valued(*typed).render_derived("listed", with_types=True)
    item = sa.func.json_each(given("rows", sa.Text())).table_valued("value", name="item")
    values = [
        sa.cast(sa.func.json_extract(item.c.value, f"$.{name}"), kind).label(name)
        if isinstance(kind, sa.Integer)
        else sa.func.json_extract(item.c.value, f"$.{name}", type_=kind).label(name)
        for name, kind in columns.items()
    ]
    return sa.select(*values).select_from(item).subquery("listed")


def _keys(on_postgres: bool) -> Any:
    return _listed(on_postgres, user_id=Id(), id=Id())


def _save(on_postgres: bool) -> sa.Executable:
    listed = _listed(on_postgres, user_id=Id(), id=Id(), position=sa.Integer(), chunks=sa.Text())
    # only where the completion is still there: one that was deleted must not stop the others' checkpoints
    rows = sa.select(Completion.user_id, Completion.id, listed.c.position, listed.c.chunks).join_from(
        listed, Completion, sa.and_(Completion.user_id == listed.c.user_id, Completion.id == listed.c.id)
    )
    # locked, so that on Postgres a transaction that finalizes either deletes the checkpoint or is seen here
    rows = rows.where(IS_RUNNING).with_for_update(read=True, of=Completion)
    # where the answer to a commit was lost the same checkpoint comes again
    insert: Any = postgresql.insert if on_postgres else sqlite.insert
    saved = insert(CompletionCheckpoint).from_select(["user_id", "completion_id", "position", "chunks"], rows)
    key = [CompletionCheckpoint.user_id, CompletionCheckpoint.completion_id, CompletionCheckpoint.position]
    return saved.on_conflict_do_nothing(index_elements=key)


def _renew(on_postgres: bool) -> sa.Executable:
    keys = _keys(on_postgres)
    mine = sa.tuple_(Completion.user_id, Completion.id).in_(sa.select(keys.c.user_id, keys.c.id))
    renewed = sa.update(Completion).where(mine, IS_RUNNING)
    return renewed.values(lease_expires_at=lease.NEXT_END)


def _uncancelled(on_postgres: bool) -> sa.Executable:
    keys = _keys(on_postgres)
    mine = sa.and_(Completion.user_id == keys.c.user_id, Completion.id == keys.c.id)
    return (
        sa.select(Completion.id).join_from(keys, Completion, mine).where(sa.not_(Completion.cancel_requested))
    )


_SAVE, _RENEW, _UNCANCELLED = Statement(_save), Statement(_renew), Statement(_uncancelled)


def read_checkpoints(*, user_id: str, completion_id: str, begin: int) -> list[Chunk]:
    """The durable chunks of a reply in progress, from the beginning of a checkpoint on."""
    rows = _CHECKPOINTS.all(user_id=user_id, completion_id=completion_id, begin=begin)
    return [chunk for (text,) in rows for chunk in from_json(text)]


def save_checkpoints_and_commit(checkpoints: Iterable[tuple[str, str, int, list[Chunk]]]) -> None:
    """Make what has come of replies durable: (user, completion, position, chunks) of each, all at once."""
    rows = [
        {"user_id": user_id, "id": completion_id, "position": position, "chunks": to_json(chunks)}
        for user_id, completion_id, position, chunks in checkpoints
    ]
    _SAVE.first_and_commit(rows=orjson.dumps(rows).decode())


def renew_leases_and_commit(keys: Iterable[tuple[str, str]]) -> None:
    """Extend the leases of these completions: they are still being written."""
    _RENEW.first_and_commit(rows=_as_rows(keys))


def find_uncancelled(keys: Iterable[tuple[str, str]]) -> set[str]:
    """Which of these completions are to go on: not cancelled, nor deleted with their conversation or user."""
    return {str(completion_id) for (completion_id,) in _UNCANCELLED.all(rows=_as_rows(keys))}


def _as_rows(keys: Iterable[tuple[str, str]]) -> str:
    return orjson.dumps(
        [{"user_id": user_id, "id": completion_id} for user_id, completion_id in keys]
    ).decode()
