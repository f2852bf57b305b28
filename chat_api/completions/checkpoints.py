"""What a worker does for all its replies at once: making their pieces durable, renewing their leases."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..database import statements
from ..database.columns import Id, UTCDateTime, now
from ..database.statements import Statement
from .models import Completion, CompletionCheckpoint
from .records import ID, IS_RUNNING, OWNER
from .reply_log import Chunk, from_json, to_json

LEASE = timedelta(seconds=15)  # a worker that did not renew for so long is taken for dead


def _parameter(name: str, kind: Any) -> Any:
    return sa.bindparam(name, type_=kind)


_PIECES = Statement(
    sa.select(CompletionCheckpoint.chunks)
    .where(
        CompletionCheckpoint.user_id == OWNER,
        CompletionCheckpoint.completion_id == ID,
        CompletionCheckpoint.position >= _parameter("begin", sa.Integer()),
    )
    .order_by(CompletionCheckpoint.position)
)


def _listed(on_postgres: bool, **columns: Any) -> Any:
    """The rows of the JSON array `rows`, as a table of these columns."""
    if on_postgres:
        rows = sa.cast(_parameter("rows", sa.Text()), postgresql.JSONB)
        typed = [sa.column(name, kind) for name, kind in columns.items()]
        return sa.func.jsonb_to_recordset(rows).table_valued(*typed).render_derived("listed", with_types=True)
    item = sa.func.json_each(_parameter("rows", sa.Text())).table_valued("value", name="item")
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
    # only where the completion is still there: one that was deleted must not stop the others' pieces
    rows = sa.select(Completion.user_id, Completion.id, listed.c.position, listed.c.chunks).join_from(
        listed, Completion, sa.and_(Completion.user_id == listed.c.user_id, Completion.id == listed.c.id)
    )
    # locked, so that on Postgres a settling transaction either drops the piece or is seen to have been there
    rows = rows.where(IS_RUNNING).with_for_update(read=True, of=Completion)
    # where the answer to a commit was lost the same piece comes again
    insert: Any = postgresql.insert if on_postgres else sqlite.insert
    saved = insert(CompletionCheckpoint).from_select(["user_id", "completion_id", "position", "chunks"], rows)
    key = [CompletionCheckpoint.user_id, CompletionCheckpoint.completion_id, CompletionCheckpoint.position]
    return saved.on_conflict_do_nothing(index_elements=key)


def _renew(on_postgres: bool) -> sa.Executable:
    keys = _keys(on_postgres)
    mine = sa.tuple_(Completion.user_id, Completion.id).in_(sa.select(keys.c.user_id, keys.c.id))
    renewed = sa.update(Completion).where(mine, IS_RUNNING)
    return renewed.values(lease_expires_at=_parameter("lease", UTCDateTime()))


def _wanted(on_postgres: bool) -> sa.Executable:
    keys = _keys(on_postgres)
    mine = sa.and_(Completion.user_id == keys.c.user_id, Completion.id == keys.c.id)
    return (
        sa.select(Completion.id).join_from(keys, Completion, mine).where(sa.not_(Completion.cancel_requested))
    )


_SAVE, _RENEW, _WANTED = Statement(_save), Statement(_renew), Statement(_wanted)


def read_checkpoints(*, user_id: str, completion_id: str, begin: int) -> list[Chunk]:
    """The durable chunks of a reply in progress, from a piece's beginning on."""
    rows = _PIECES.all(owner=user_id, completion=completion_id, begin=begin)
    return [chunk for (text,) in rows for chunk in from_json(text)]


def save_checkpoints(pieces: Iterable[tuple[str, str, int, list[Chunk]]]) -> None:
    """Make pieces of replies durable: (user, completion, position, chunks) of each, all at once."""
    rows = [
        {"user_id": user_id, "id": completion_id, "position": position, "chunks": to_json(chunks)}
        for user_id, completion_id, position, chunks in pieces
    ]
    with statements.transaction():
        _SAVE.all(rows=orjson.dumps(rows).decode())


def renew_leases(keys: Iterable[tuple[str, str]]) -> None:
    """Say that these replies are still being written."""
    with statements.transaction():
        _RENEW.all(rows=_as_rows(keys), lease=now() + LEASE)


def find_uncancelled(keys: Iterable[tuple[str, str]]) -> set[str]:
    """Which of these replies are still wanted: not cancelled, nor deleted with their conversation or user."""
    return {str(completion_id) for (completion_id,) in _WANTED.all(rows=_as_rows(keys))}


def _as_rows(keys: Iterable[tuple[str, str]]) -> str:
    return orjson.dumps(
        [{"user_id": user_id, "id": completion_id} for user_id, completion_id in keys]
    ).decode()
