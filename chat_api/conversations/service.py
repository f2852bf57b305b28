"""Making, finding, listing and changing conversations. Deleting one is a matter of its messages, to the right."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..database.columns import TIME_FORMAT, UTCDateTime, ordered_now
from ..database.folding import folded, folded_on_postgres
from ..database.parameters import CONVERSATION_ID, ROW_LIMIT, USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..users.quotas import Quota, Quotas
from ..web.pagination import Listing, Page
from .models import CONVERSATION, IS_VISIBLE, Conversation

_OURS = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID, IS_VISIBLE)
_READ = sa.select(*CONVERSATION.columns)
_GET = Statement(_READ.where(*_OURS))
_EXISTS = Statement(sa.select(sa.literal(1)).where(*_OURS))

# nobody counts messages for this, and few conversations are read often enough to notice
_USE = Statement(
    sa.select(
        sa.func.sum(sa.literal_column("1")),
        sa.func.sum(Conversation.message_count),
        sa.func.sum(Conversation.content_bytes),
    ).where(Conversation.user_id == USER_ID)
)
QUOTAS = Quotas(
    _USE,
    Quota("conversations", "MAX_CONVERSATIONS_PER_USER", "conversations"),
    Quota("messages", "MAX_MESSAGES_PER_USER", "messages"),
    Quota("message_bytes", "MAX_MESSAGE_BYTES_PER_USER", "bytes of messages"),
)

Recency = tuple[datetime, str]
_FIRST: Recency = (datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")


def _contains(title: Any, text: Any, on_postgres: bool) -> sa.ColumnElement[bool]:
    """Whether a title contains this text, whatever their case, accents and width; without wildcards to escape."""
    if on_postgres:
        return sa.func.strpos(folded_on_postgres(title), sa.cast(text, sa.Text())) > 0
    return sa.func.instr(sa.func.folded(title), text) > 0


@cache
def _page(*, pinned: bool | None, has_text: bool, backwards: bool) -> Statement:
    """A page by keyset, read from the index and no further than the page, unless it looks for a text."""

    def query(on_postgres: bool) -> sa.Executable:
        recency = sa.tuple_(Conversation.updated_at, Conversation.id)
        cursor = sa.tuple_(given("cursor_updated_at", UTCDateTime()), given("cursor_id"))
        rows = _READ.where(
            Conversation.user_id == USER_ID,
            IS_VISIBLE,
            Conversation.archived == given("archived", sa.Boolean()),
            recency > cursor if backwards else recency < cursor,
        )
        if pinned is not None:  # as the partial index has it: for a Boolean SQLAlchemy writes `= 1` on SQLite
            is_pinned: sa.ColumnElement[Any] = sa.literal_column("conversations.pinned")
            rows = rows.where(is_pinned if pinned else sa.not_(is_pinned))
        if has_text:
            rows = rows.where(_contains(Conversation.title, given("text", sa.String()), on_postgres))
        order = [Conversation.updated_at, Conversation.id]
        rows = rows.order_by(*(column.asc() if backwards else column.desc() for column in order))
        return rows.limit(ROW_LIMIT)

    return Statement(query)


def list_conversations(
    *, user_id: str, page: Page, archived: bool = False, pinned: bool | None = None, q: str | None = None
) -> Listing[dict[str, Any]]:
    """A page of the user's conversations, most recently used first. Its cursors are those of `recency`."""
    updated_at, cursor_id = page.before or page.after or _FIRST
    rows = _page(pinned=pinned, has_text=q is not None, backwards=page.backwards).all(
        user_id=user_id,
        archived=archived,
        cursor_updated_at=updated_at,
        cursor_id=cursor_id,
        row_limit=page.limit + 1,
        **({} if q is None else {"text": folded(q)}),
    )
    return page.listing([CONVERSATION.to_json(row) for row in rows])


def recency(*, conversation: Mapping[str, Any]) -> str:
    """The cursor of a conversation in the list: when it was used last, and its id."""
    used_at = conversation["updated_at"]
    moment = used_at.strftime(TIME_FORMAT) if isinstance(used_at, datetime) else used_at
    return f"{moment}_{conversation['id']}"


def create_conversation(*, user_id: str, title: str) -> Conversation:
    """Begin a conversation. Raises NotFound where there is no such user, and QuotaExceeded."""
    QUOTAS.require_room(1, 0, 0, user_id=user_id)
    moment = ordered_now()
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
    return CONVERSATION.to_values(row)


def lock_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation, which nobody else can change until the session's transaction ends. Raises NotFound."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id, IS_VISIBLE)
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
