"""Appending messages and finding single ones. Lists are in `pages`, the active path in `active_path`."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..conversations.models import Conversation
from ..database import statements
from ..database.bulk import insert_rows
from ..database.columns import new_id, ordered_now
from ..database.dialect import is_postgres
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, ROW_LIMIT, USER_ID, given, named_new, new
from ..database.projection import Projection
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..search_index import writer as index_writer
from ..search_index.writer import Words, words_of
from .active_path import set_active_leaf
from .conditions import IN_CONVERSATION, IN_VISIBLE, ON_PATH, THIS_CONVERSATION
from .models import MESSAGE, MESSAGE_SIZE, MESSAGE_TO_SEND, Message
from .repair import CAN_APPEND, repair_for_append

LEAF = "leaf"  # as a parent: whatever message the active path ends at

_THIS_MESSAGE = (Message.user_id == USER_ID, Message.id == MESSAGE_ID)

_FIRST_WORDS = Statement(
    sa.select(sa.func.substr(Message.content, 1, 1000))
    .where(*IN_CONVERSATION, Message.role == "user")
    .order_by(Message.position)
    .limit(1)
)

# -- appending -----------------------------------------------------------------------------------------------

# The conversation's row numbers the message and names its parent: the lock on it is what makes positions total and
# the path unbroken, and naming the owner here is the whole check of ownership. No row is found either where the row
# needs a repair.
_count = (
    sa.update(Conversation)
    .where(*THIS_CONVERSATION, CAN_APPEND)
    .values(
        message_count=Conversation.message_count + 1,
        last_position=Conversation.last_position + 1,
        content_bytes=Conversation.content_bytes + new(Message.size_bytes),
        # never earlier than it was: another process's clock may be behind
        updated_at=sa.case(
            (new(Conversation.updated_at) > Conversation.updated_at, new(Conversation.updated_at)),
            else_=Conversation.updated_at,
        ),
    )
)
_take_position = _count.values(
    previous_leaf_id=Conversation.active_leaf_id,
    active_leaf_id=new(Message.id),
    path_length=Conversation.path_length + 1,
    counted_leaf_id=new(Message.id),
).returning(Conversation.user_id, Conversation.id, Conversation.previous_leaf_id, Conversation.last_position)
_SCOPE = ("user_id", "conversation_id", "parent_id", "position")
_TEXTS = ("content", "tool_calls", "sources", "provider_state")

Appended = tuple[int, str | None]
"""Position and parent of a new message."""
Append = Callable[[dict[str, Any], dict[str, Any], Words], Appended | None]
"""Appends a message; None, and nothing written, where there is no conversation that CAN_APPEND."""


def _insert(fields: tuple[str, ...], scope: tuple[Any, ...]) -> Any:
    """Insert a message with these fields; owner, conversation, parent and position come from `scope`."""
    values = [new(getattr(Message, name)) for name in fields]
    return sa.insert(Message).from_select(
        [*_SCOPE, *fields, "attachment_count"], sa.select(*scope, *values, sa.literal_column("0"))
    )


@cache
def _append_with_words(fields: tuple[str, ...]) -> Statement:
    """Postgres: position, message and words in one statement.

    user_id comes from the CTE, which lets Citus route it to one shard.
    """
    taken = _take_position.cte("taken")
    inserted = _insert(fields, tuple(taken.c)).returning(
        Message.user_id, Message.id, Message.position, Message.parent_id
    )
    rows = inserted.cte("inserted")
    indexed = index_writer.insert_vector(rows).cte("indexed")
    return Statement(sa.select(rows.c.position, rows.c.parent_id).add_cte(indexed))


@cache
def _insert_at(fields: tuple[str, ...]) -> Statement:
    """The message alone, whose position was taken before."""
    scope = (USER_ID, CONVERSATION_ID, new(Message.parent_id), new(Message.position))
    return Statement(_insert(fields, scope))


_TAKE_POSITION = Statement(_take_position)
# for a message beside the active path, which stays as it is
_COUNT = Statement(_count.returning(Conversation.last_position))


def append_message(
    *,
    user_id: str,
    conversation_id: str,
    parent_id: str | None = LEAF,
    stays_beside_path: bool = False,
    words: Words,
    **fields: Any,
) -> dict[str, Any]:
    """Append a message to the user's conversation and return it as plain values. Inside a transaction.

    It answers the message at the end of the active path, or `parent_id`, which becomes the active leaf first; None
    makes it a first message. `stays_beside_path` leaves the path as it is. `words` are the `words_of` its content,
    which the caller computes before the transaction. `fields` are other columns of the message, `role` and `content`
    at least. Raises NotFound.
    """
    scope: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
    values = _values(fields)
    if stays_beside_path:
        append: Append = partial(_append_beside, parent_id)
    else:
        if parent_id != LEAF:
            set_active_leaf(**scope, message_id=parent_id)
        append = _append_on_postgres if is_postgres(db.engine) else _append_on_sqlite
    return _appended(
        scope, values, append(scope, values, words) or _append_repaired(append, scope, values, words)
    )


def append_message_and_commit(
    *,
    user_id: str,
    conversation_id: str,
    parent_id: str | None = LEAF,
    words: Words | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """As `append_message`, in a transaction of its own; at the end of the path on Postgres that is one round trip."""
    if words is None:
        words = words_of(fields["content"])
    scope: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
    if parent_id != LEAF or not is_postgres(db.engine):
        with statements.transaction():
            return append_message(**scope, parent_id=parent_id, words=words, **fields)
    values = _values(fields)
    appended = _append_on_postgres(scope, values, words, Statement.first_and_commit)
    if appended is None:
        with statements.transaction():
            appended = _append_repaired(_append_on_postgres, scope, values, words)
    return _appended(scope, values, appended)


def stored_fields(*, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a message that a client appends."""
    calls = body.get("tool_calls")
    return {**body, **({"tool_calls": orjson.dumps(calls).decode()} if calls else {})}


def size_of(*, fields: Mapping[str, Any]) -> int:
    """What a message takes of its user's quota, in bytes: its texts and what is stored with it as JSON."""
    return sum(len(fields[name].encode()) for name in _TEXTS if fields.get(name))


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id(),
        "size_bytes": size_of(fields=fields),
        "status": "completed",
        "created_at": ordered_now(),
        **fields,
    }


def _append_repaired(append: Append, scope: dict[str, Any], values: dict[str, Any], words: Words) -> Appended:
    """Append to a conversation that was not found, or that has to be repaired first. Raises NotFound."""
    repair_for_append(**scope)
    appended = append(scope, values, words)
    if appended is None:
        raise RuntimeError("A conversation that is locked and repaired takes no message.")
    return appended


def _appended(scope: Mapping[str, Any], values: Mapping[str, Any], appended: Appended) -> dict[str, Any]:
    position, parent_id = appended
    return MESSAGE.of({**scope, **values, "position": position, "parent_id": parent_id})


def _append_on_postgres(
    scope: dict[str, Any], values: dict[str, Any], words: Words, run: Callable[..., Any] = Statement.first
) -> Appended | None:
    vector = index_writer.vector_of(scope["user_id"], scope["conversation_id"], values["id"], words)
    row = run(
        _append_with_words(tuple(values)),
        **scope,
        **named_new(values),
        vector=vector,
        new_updated_at=values["created_at"],
    )
    return None if row is None else (row[0], None if row[1] is None else str(row[1]))


def _append_on_sqlite(scope: dict[str, Any], values: dict[str, Any], words: Words) -> Appended | None:
    row = _TAKE_POSITION.first(
        **scope,
        new_id=values["id"],
        new_updated_at=values["created_at"],
        new_size_bytes=values["size_bytes"],
    )
    if row is None:
        return None
    _, _, parent_id, position = row
    _insert_with_words(scope, {**values, "parent_id": parent_id, "position": position}, words)
    return position, parent_id


def _append_beside(
    parent_id: str | None, scope: dict[str, Any], values: dict[str, Any], words: Words
) -> Appended | None:
    row = _COUNT.first(**scope, new_updated_at=values["created_at"], new_size_bytes=values["size_bytes"])
    if row is None:
        return None
    _insert_with_words(scope, {**values, "on_path": False, "parent_id": parent_id, "position": row[0]}, words)
    return row[0], parent_id


def _insert_with_words(scope: dict[str, Any], values: dict[str, Any], words: Words) -> None:
    fields = tuple(name for name in values if name not in _SCOPE)
    _insert_at(fields).all(**scope, **named_new(values))
    index_writer.write(**scope, message_id=values["id"], words=words)


def insert_messages(*, rows: list[dict[str, Any]], words: list[Words]) -> None:
    """Insert whole rows of a user's messages with the `words_of` each, as an import restores them, in `db.session`."""
    insert_rows(Message, rows)
    stored = [(row["id"], row["conversation_id"], its) for row, its in zip(rows, words, strict=True)]
    index_writer.write_new_words(db.session.connection(), rows[0]["user_id"], stored)


_REPLACED = ("content", "size_bytes", "status", "tool_calls", "sources", "provider_state")
_REPLACE = Statement(
    sa.update(Message).where(*_THIS_MESSAGE).values({name: new(getattr(Message, name)) for name in _REPLACED})
)
_SIZE = Statement(sa.select(Message.size_bytes).where(*_THIS_MESSAGE))

_GROW = Statement(
    sa.update(Conversation)
    .where(*THIS_CONVERSATION)
    .values(content_bytes=Conversation.content_bytes + given("growth", sa.BigInteger()))
)


def replace_reply(*, user_id: str, message_id: str, words: Words, **fields: Any) -> dict[str, Any]:
    """Give a reply that was finalized before the text that it has by now, and return it; inside a transaction.

    `fields` are the columns that a reply has when it ends.
    """
    this_message = {"user_id": user_id, "message_id": message_id}
    size_bytes = size_of(fields=fields)
    [(size_before,)] = _SIZE.all(**this_message)
    values = {**dict.fromkeys(_REPLACED), **fields, "size_bytes": size_bytes}
    _REPLACE.all(**this_message, **named_new(values))
    message = get_message(**this_message)
    growth = size_bytes - size_before
    _GROW.all(user_id=user_id, conversation_id=message["conversation_id"], growth=growth)
    index_writer.rewrite(
        user_id=user_id,
        conversation_id=message["conversation_id"],
        message_id=message_id,
        words=words,
    )
    return message


# -- finding -------------------------------------------------------------------------------------------------

_GET = Statement(sa.select(*MESSAGE.columns).where(*_THIS_MESSAGE, IN_VISIBLE))
_GET_LAST = Statement(
    sa.select(*MESSAGE.columns).where(*IN_CONVERSATION, ON_PATH).order_by(Message.position.desc()).limit(1)
)
_IS_ON_PATH = Statement(sa.select(sa.literal(1)).where(*_THIS_MESSAGE, ON_PATH))
_INSTRUCTIONS = Statement(
    sa.select(Message.id, MESSAGE_SIZE)
    .where(
        *IN_CONVERSATION,
        ON_PATH,
        # literals, as in the partial index; a list of parameters would be laid out only when SQLAlchemy executes it
        Message.role.in_([sa.literal_column("'system'"), sa.literal_column("'developer'")]),
        Message.position < given("before", sa.BigInteger()),
    )
    .order_by(Message.position)
    .limit(ROW_LIMIT)
)


def get_message(*, user_id: str, message_id: str) -> dict[str, Any]:
    """A message of the user as plain values. Raises NotFound."""
    row = _GET.first(user_id=user_id, message_id=message_id)
    if row is None:
        raise NotFound("message")
    return MESSAGE.to_values(row)


def _by_ids(on_postgres: bool, columns: Projection = MESSAGE) -> sa.Executable:
    ids: Any = given("ids", sa.Text())
    if on_postgres:
        array = sa.cast(ids, postgresql.ARRAY(postgresql.UUID(as_uuid=False)))
        listed = sa.func.unnest(array).table_valued("value", name="listed").render_derived()
    else:
        listed = sa.func.json_each(ids).table_valued("value", name="listed")
    is_it = sa.and_(Message.user_id == USER_ID, Message.id == listed.c.value)
    return sa.select(*columns.columns).select_from(listed).join(Message, is_it)


_TO_SEND = Statement(partial(_by_ids, columns=MESSAGE_TO_SEND))


def list_to_send(*, user_id: str, message_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the user's messages that have these ids, in order of position, with what only providers get."""
    quote, brackets = ("", "{}") if is_postgres(db.engine) else ('"', "[]")
    ids = ",".join(f"{quote}{message_id}{quote}" for message_id in message_ids)
    rows = _TO_SEND.all(user_id=user_id, ids=f"{brackets[0]}{ids}{brackets[1]}")
    return sorted(map(MESSAGE_TO_SEND.to_values, rows), key=itemgetter("position"))


def find_last_message(*, user_id: str, conversation_id: str) -> dict[str, Any] | None:
    """The message at the end of the active path as plain values, None where there is none."""
    row = _GET_LAST.first(user_id=user_id, conversation_id=conversation_id)
    return None if row is None else MESSAGE.to_values(row)


def first_words(*, user_id: str, conversation_id: str) -> str:
    """What the user said first in a conversation; empty where the user has said nothing."""
    row = _FIRST_WORDS.first(user_id=user_id, conversation_id=conversation_id)
    return str(row[0]) if row else ""


def is_on_path(*, user_id: str, message_id: str) -> bool:
    """Whether the user has such a message on the active path of its conversation."""
    return _IS_ON_PATH.first(user_id=user_id, message_id=message_id) is not None


def list_instructions(
    *, user_id: str, conversation_id: str, before: int, limit: int
) -> list[tuple[str, int]]:
    """Id and size of the system messages on the path before a position, oldest first."""
    rows = _INSTRUCTIONS.all(user_id=user_id, conversation_id=conversation_id, before=before, row_limit=limit)
    return [(str(message_id), size_bytes) for message_id, size_bytes in rows]
