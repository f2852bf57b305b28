"""Making, finding, listing and changing conversations. Deleting one is a matter of its messages, to the right."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..database.columns import TIME_FORMAT, Id, UTCDateTime, now
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..web.pagination import Page
from .models import Conversation

_OWNER, _ID = sa.bindparam("user_id", type_=Id()), sa.bindparam("conversation_id", type_=Id())
_OURS = (Conversation.user_id == _OWNER, Conversation.id == _ID)
_FIELDS = ("title", "archived", "pinned", "message_count", "active_leaf_id", "created_at", "updated_at")
READ = sa.select(Conversation.id, *(getattr(Conversation, name) for name in _FIELDS))
_GET = Statement(READ.where(*_OURS))
_EXISTS = Statement(sa.select(sa.literal(1)).where(*_OURS))

Recency = tuple[datetime, str]
_FIRST: Recency = (datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")


def _contains(title: Any, text: Any, on_postgres: bool) -> sa.ColumnElement[bool]:
    """Whether a title has this text in it, in whatever case; a pattern would have to escape its wildcards."""
    if on_postgres:
        return sa.func.strpos(sa.func.lower(title), sa.func.lower(text)) > 0
    return sa.func.instr(sa.func.casefold(title), sa.func.casefold(text)) > 0


@cache
def _page(*, pinned: bool | None, has_text: bool, backwards: bool) -> Statement:
    """A page by keyset, read from the index and no further than the page, unless it looks for a text."""

    def query(on_postgres: bool) -> sa.Executable:
        place = sa.tuple_(Conversation.updated_at, Conversation.id)
        cursor = sa.tuple_(
            sa.bindparam("used_at", type_=UTCDateTime()), sa.bindparam("cursor_id", type_=Id())
        )
        rows = READ.where(
            Conversation.user_id == _OWNER,
            Conversation.archived == sa.bindparam("archived", type_=sa.Boolean()),
            place > cursor if backwards else place < cursor,
        )
        if pinned is not None:  # as the partial index has it: for a Boolean SQLAlchemy writes `= 1` on SQLite
            is_pinned: sa.ColumnElement[Any] = sa.literal_column("conversations.pinned")
            rows = rows.where(is_pinned if pinned else sa.not_(is_pinned))
        if has_text:
            text = sa.bindparam("text", type_=sa.String())
            rows = rows.where(_contains(Conversation.title, text, on_postgres))
        order = [Conversation.updated_at, Conversation.id]
        rows = rows.order_by(*(column.asc() if backwards else column.desc() for column in order))
        return rows.limit(sa.bindparam("limit_", type_=sa.Integer()))

    return Statement(query)


def list_conversations(
    *, user_id: str, page: Page, archived: bool = False, pinned: bool | None = None, q: str | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """A page of the user's conversations, most recently used first, and whether there are more in its direction.

    The page's cursors are places as `recency` tells them.
    """
    used_at, cursor_id = page.before or page.after or _FIRST
    looked_for = {} if q is None else {"text": q}
    rows = _page(pinned=pinned, has_text=q is not None, backwards=page.backwards).all(
        user_id=user_id,
        archived=archived,
        used_at=used_at,
        cursor_id=cursor_id,
        limit_=page.limit + 1,
        **looked_for,
    )
    found, more = page.cut(rows)
    return [shown(user_id, row) for row in found], more


def recency(conversation: Mapping[str, Any]) -> str:
    """The place of a conversation in the list, as a cursor."""
    used_at = conversation["updated_at"]
    moment = used_at.strftime(TIME_FORMAT) if isinstance(used_at, datetime) else used_at
    return f"{moment}_{conversation['id']}"


def create_conversation(*, user_id: str, title: str) -> Conversation:
    """Begin a conversation. Raises NotFound where there is no such user."""
    moment = now()
    conversation = Conversation(user_id=user_id, title=title, created_at=moment, updated_at=moment)
    db.session.add(conversation)
    try:
        db.session.flush()
    except IntegrityError as error:
        raise NotFound("user") from error
    return conversation


def get_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation as plain values. Raises NotFound."""
    row = _GET.first(user_id=user_id, conversation_id=conversation_id)
    if row is None:
        raise NotFound("conversation")
    return shown(user_id, row)


def lock_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation, which nobody else can change until the session's transaction ends. Raises NotFound."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.select(Conversation.id).where(*own).with_for_update())
    return get_conversation(user_id=user_id, conversation_id=conversation_id)


def update_conversation(*, user_id: str, conversation_id: str, changes: Mapping[str, Any]) -> None:
    """Change these fields of a locked conversation."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.update(Conversation).where(*own).values(changes))


def require_conversation(*, user_id: str, conversation_id: str) -> None:
    """Raise NotFound where the user has no such conversation."""
    if not has_conversation(user_id=user_id, conversation_id=conversation_id):
        raise NotFound("conversation")


def has_conversation(*, user_id: str, conversation_id: str) -> bool:
    """Whether the user has such a conversation. Takes no lock."""
    return _EXISTS.first(user_id=user_id, conversation_id=conversation_id) is not None


def shown(user_id: str, row: Any) -> dict[str, Any]:
    conversation_id, title, archived, pinned, message_count, active_leaf_id, created_at, updated_at = row
    return {
        "id": conversation_id,
        "user_id": user_id,
        "title": title,
        "archived": bool(archived),  # SQLite has 0 and 1
        "pinned": bool(pinned),
        "message_count": message_count,
        "active_leaf_id": active_leaf_id,
        "created_at": created_at,
        "updated_at": updated_at,
    }
