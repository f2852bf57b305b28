"""Making, finding, listing and changing conversations. Deleting one is a matter of its messages, to the right."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..database.columns import TIME_FORMAT, UTCDateTime, new_id, ordered_now
from ..database.folding import folded, folded_on_postgres
from ..database.metadata_filters import has_pairs
from ..database.parameters import CONVERSATION_ID, ROW_LIMIT, USER_ID, given, named_new, new
from ..database.session import db
from ..database.statements import IntegrityFailed, Statement
from ..errors import Conflict, NotFound
from ..users.quotas import Quota, Quotas
from ..web.metadata import as_stored
from ..web.pagination import Listing, Page
from .models import CONVERSATION, CONVERSATION_OF_KEY, CONVERSATION_OF_USER, IS_VISIBLE, NATIVE, Conversation

_GIVEN = ("user_id", "id", "title", "client_metadata", "source", "external_id", "created_at", "updated_at")
_NOTHING_YET = {
    "archived": sa.false(),
    "pinned": sa.false(),
    **{
        name: sa.literal_column("0")
        for name in ("message_count", "last_position", "path_length", "content_bytes")
    },
}
_INSERT = Statement(
    sa.insert(Conversation).values(
        {name: new(Conversation.__table__.c[name]) for name in _GIVEN} | _NOTHING_YET
    )
)
_OURS = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID, IS_VISIBLE)
_GET = Statement(sa.select(*CONVERSATION_OF_KEY.columns).where(*_OURS))
_EXISTS = Statement(sa.select(sa.literal(1)).where(*_OURS))
_BY_EXTERNAL_ID = Statement(
    sa.select(*CONVERSATION.columns).where(
        Conversation.user_id == USER_ID,
        Conversation.external_id == given("external_id", sa.String()),
        IS_VISIBLE,
    )
)

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
# where a list that is read from its end begins
LEAST_RECENT: Recency = (datetime(1970, 1, 1, tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
_FIRST: Recency = (datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")


def _contains(title: Any, text: Any, on_postgres: bool) -> sa.ColumnElement[bool]:
    """Whether a title contains this text, whatever their case, accents and width; without wildcards to escape."""
    if on_postgres:
        return sa.func.strpos(folded_on_postgres(title), sa.cast(text, sa.Text())) > 0
    return sa.func.instr(sa.func.folded(title), text) > 0


@cache
def _page(
    *, pinned: bool | None, has_text: bool, has_metadata: bool, has_source: bool, backwards: bool
) -> Statement:
    """A page by keyset, read from the index and no further than the page, unless it looks for a text."""

    def query(on_postgres: bool) -> sa.Executable:
        recency = sa.tuple_(Conversation.updated_at, Conversation.id)
        cursor = sa.tuple_(given("cursor_updated_at", UTCDateTime()), given("cursor_id"))
        rows = sa.select(*CONVERSATION_OF_USER.columns).where(
            Conversation.user_id == USER_ID,
            IS_VISIBLE,
            Conversation.archived == given("archived", sa.Boolean()),
            recency > cursor if backwards else recency < cursor,
        )
        if pinned is not None:  # as the partial index has it: for a Boolean SQLAlchemy writes `= 1` on SQLite
            is_pinned: sa.ColumnElement[Any] = sa.literal_column("conversations.pinned")
            rows = rows.where(is_pinned if pinned else sa.not_(is_pinned))
        if has_source:
            rows = rows.where(Conversation.source == given("source", sa.String()))
        if has_metadata:
            rows = rows.where(has_pairs(Conversation.client_metadata, on_postgres))
        if has_text:
            rows = rows.where(_contains(Conversation.title, given("text", sa.String()), on_postgres))
        order = [Conversation.updated_at, Conversation.id]
        rows = rows.order_by(*(column.asc() if backwards else column.desc() for column in order))
        return rows.limit(ROW_LIMIT)

    return Statement(query)


def list_conversations(
    *,
    user_id: str,
    page: Page,
    archived: bool = False,
    pinned: bool | None = None,
    q: str | None = None,
    source: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Listing[dict[str, Any]]:
    """A page of the user's conversations, most recently used first. Its cursors are those of `recency`.

    `metadata` are pairs that a conversation must have, all of them.
    """
    updated_at, cursor_id = page.before or page.after or _FIRST
    shape = {"has_text": q is not None, "has_metadata": bool(metadata), "has_source": source is not None}
    rows = _page(pinned=pinned, backwards=page.backwards, **shape).all(
        user_id=user_id,
        archived=archived,
        cursor_updated_at=updated_at,
        cursor_id=cursor_id,
        row_limit=page.limit + 1,
        **({} if q is None else {"text": folded(q)}),
        **({} if source is None else {"source": source}),
        **({"pairs": orjson.dumps(metadata).decode()} if metadata else {}),
    )
    to_json = CONVERSATION_OF_USER.to_json_with(user_id, archived)
    return page.listing([to_json(row) for row in rows])


def recency(*, conversation: Mapping[str, Any]) -> str:
    """The cursor of a conversation in the list: when it was used last, and its id."""
    used_at = conversation["updated_at"]
    moment = used_at.strftime(TIME_FORMAT) if isinstance(used_at, datetime) else used_at
    return f"{moment}_{conversation['id']}"


def find_recency(*, user_id: str, conversation_id: str) -> Recency:
    """The cursor of a conversation, as a page has it. Raises NotFound."""
    found = get_conversation(user_id=user_id, conversation_id=conversation_id)
    used_at = found["updated_at"]
    if not isinstance(used_at, datetime):
        used_at = datetime.strptime(used_at, TIME_FORMAT).replace(tzinfo=UTC)
    return used_at, conversation_id


def create_conversation(
    *,
    user_id: str,
    title: str,
    metadata: Mapping[str, str] | None = None,
    source: str = NATIVE,
    external_id: str | None = None,
) -> Conversation:
    """Begin a conversation.

    Raises NotFound where there is no such user, Conflict where the user has a conversation with this `external_id`, and
    QuotaExceeded.
    """
    QUOTAS.require_room(1, 0, 0, user_id=user_id)
    moment = ordered_now()
    conversation = Conversation(
        user_id=user_id,
        title=title,
        client_metadata=as_stored(metadata),
        source=source,
        external_id=external_id,
        created_at=moment,
        updated_at=moment,
    )
    db.session.add(conversation)
    try:
        db.session.flush()
    except IntegrityError as error:
        if external_id is not None and "external" in str(error.orig):
            raise Conflict("A conversation with this id already exists.") from error
        raise NotFound("user") from error
    return conversation


def begin_conversation(
    *, user_id: str, title: str, metadata: Mapping[str, str], source: str, external_id: str | None = None
) -> str:
    """As `create_conversation`, by a statement of any transaction; returns the id."""
    QUOTAS.require_room(1, 0, 0, user_id=user_id)
    moment, id_ = ordered_now(), new_id()
    values = {
        "user_id": user_id,
        "id": id_,
        "title": title,
        "client_metadata": as_stored(metadata),
        "source": source,
        "external_id": external_id,
        "created_at": moment,
        "updated_at": moment,
    }
    try:
        _INSERT.all(**named_new(values))
    except IntegrityFailed as error:
        if external_id is not None and "external" in str(error.__cause__):
            raise Conflict("A conversation with this id already exists.") from error
        raise NotFound("user") from error
    return id_


def find_by_external_id(*, user_id: str, external_id: str) -> dict[str, Any] | None:
    """The user's conversation that a client calls this, as plain values."""
    row = _BY_EXTERNAL_ID.first(user_id=user_id, external_id=external_id)
    return None if row is None else CONVERSATION.to_values(row)


def get_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation as plain values. Raises NotFound."""
    row = _GET.first(user_id=user_id, conversation_id=conversation_id)
    if row is None:
        raise NotFound("conversation")
    return CONVERSATION_OF_KEY.to_values(row, user_id, conversation_id)


def lock_conversation(*, user_id: str, conversation_id: str) -> dict[str, Any]:
    """The conversation, which nobody else can change until the session's transaction ends. Raises NotFound."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id, IS_VISIBLE)
    db.session.execute(sa.select(Conversation.id).where(*own).with_for_update())
    return get_conversation(user_id=user_id, conversation_id=conversation_id)


def update_conversation(*, user_id: str, conversation_id: str, changes: Mapping[str, Any]) -> None:
    """Change these fields of a locked conversation."""
    if "metadata" in changes:
        metadata = as_stored(changes["metadata"])
        changes = {name: value for name, value in changes.items() if name != "metadata"}
        changes["client_metadata"] = metadata
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    db.session.execute(sa.update(Conversation).where(*own).values(changes))


def require_conversation(*, user_id: str, conversation_id: str) -> None:
    """Raise NotFound where the user has no such conversation."""
    if not has_conversation(user_id=user_id, conversation_id=conversation_id):
        raise NotFound("conversation")


def has_conversation(*, user_id: str, conversation_id: str) -> bool:
    """Whether the user has such a conversation. Takes no lock."""
    return _EXISTS.first(user_id=user_id, conversation_id=conversation_id) is not None
