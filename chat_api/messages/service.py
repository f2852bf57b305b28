"""Appending messages and finding single ones. Lists are in `pages`, the active path in `active_path`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ..conversations.models import Conversation
from ..database import statements
from ..database.bulk import prepare_rows
from ..database.chaining import chained, chained_in_sql
from ..database.columns import new_id, ordered_now
from ..database.id_lists import ids_value, select_listed
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, ROW_LIMIT, USER_ID, given, named_new, new
from ..database.projection import Projection
from ..database.session import db
from ..database.statements import Call, Statement
from ..errors import NotFound
from ..search_index import updates as index_updates
from ..search_index import writer as index_writer
from ..search_index.writer import Terms, Words, words_of
from .active_path import set_active_leaf
from .chain import digest_of_row
from .conditions import IN_CONVERSATION, IN_VISIBLE, ON_PATH, THIS_CONVERSATION
from .models import MESSAGE, MESSAGE_OF_CLIENT, MESSAGE_SIZE, MESSAGE_TO_SEND, Message
from .parts import encoded
from .repair import CAN_APPEND, repair_for_append

LEAF = "leaf"  # as a parent: whatever message the active path ends at

_THIS_MESSAGE = (Message.user_id == USER_ID, Message.id == MESSAGE_ID)

_FIRST_WORDS = Statement(
    sa.select(sa.func.substr(Message.content, 1, 1000))
    .where(*IN_CONVERSATION, Message.role == "user", Message.content != "")  # what was erased says nothing
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
).returning(
    # as text: the driver makes an object of an id, which takes 5 us to become one
    Conversation.last_position,
    sa.cast(Conversation.previous_leaf_id, sa.Text),
)
_OWN = (Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID)
_SCOPE = ("user_id", "conversation_id", "parent_id", "position")
_TEXTS = ("content", "tool_calls", "sources", "provider_state", "parts")

Appended = tuple[int, str | None]
"""Position and parent of a new message."""
Append = Callable[[dict[str, Any], dict[str, Any], Words], Appended | None]
"""Appends a message; None, and nothing written, where there is no conversation that CAN_APPEND."""


@cache
def _insert_at_end(fields: tuple[str, ...]) -> Statement:
    """Postgres: insert a message with these fields where the conversation's row says, which was just updated.

    No row is inserted where that found none. The position need not be known, so this goes out in one round trip with
    the update; and it is an INSERT … SELECT from one shard, without RETURNING, which Citus routes to that.
    """
    scope = (
        Conversation.user_id,
        Conversation.id,
        Conversation.previous_leaf_id,
        Conversation.last_position,
    )
    chain = _chain_after(Conversation.previous_leaf_id, on_postgres=True)
    row = sa.select(*scope, *_new(fields), chain).where(*_OWN, Conversation.active_leaf_id == new(Message.id))
    return Statement(sa.insert(Message).from_select([*_SCOPE, *fields, "chain_hash"], row))


@cache
def _insert_at(fields: tuple[str, ...]) -> Statement:
    """Insert a message with these fields, whose position was taken before.

    On SQLite it reads the parent's chain hash; Citus refuses that in an INSERT of values, and gets it as one of them.
    """
    values = dict(zip(_SCOPE, (USER_ID, CONVERSATION_ID, *_new(_SCOPE[2:])), strict=True))
    values |= dict(zip(fields, _new(fields), strict=True))

    def insert(on_postgres: bool) -> sa.Executable:
        chain = (
            new(Message.chain_hash)
            if on_postgres
            else _chain_after(new(Message.parent_id), on_postgres=False)
        )
        return sa.insert(Message).values({**values, "chain_hash": chain})

    return Statement(insert)


def _chain_after(parent_id: Any, *, on_postgres: bool) -> sa.ColumnElement[Any]:
    """The chain hash of a message with the digest of the parameters that answers this one."""
    parent = aliased(Message)
    found = sa.select(parent.chain_hash).where(parent.user_id == USER_ID, parent.id == parent_id)
    return chained_in_sql(on_postgres, parent_id, found.scalar_subquery(), given("digest", sa.Text()))


def _new(fields: Iterable[str]) -> list[Any]:
    return [new(getattr(Message, name)) for name in fields]


_CHAIN = Statement(sa.select(Message.chain_hash).where(*_THIS_MESSAGE))
_INDEX = Statement(index_writer.insert_vector(Message.user_id, Message.id, *_THIS_MESSAGE))
# others may have deleted the message, or changed its words, in what is committed together
_INDEX_BEFORE_COMMIT = Statement(
    index_writer.insert_numbered(
        "AND EXISTS (SELECT 1 FROM messages WHERE user_id = :owner AND id = :message)"
    )
)
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
    at least, `file_hashes` those of the files that are attached to it in the same transaction, and `is_recognised`,
    which may be False: no history that has the message is found by it. Raises NotFound.
    """
    scope: dict[str, Any] = {"user_id": user_id, "conversation_id": conversation_id}
    values = _values(fields)
    if stays_beside_path:
        append: Append = partial(_append_beside, parent_id)
    else:
        if parent_id != LEAF:
            set_active_leaf(**scope, message_id=parent_id)
        append = _append_on_postgres if statements.on_postgres() else _append_on_sqlite
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
    if parent_id != LEAF:
        with statements.transaction():
            return append_message(**scope, parent_id=parent_id, words=words, **fields)
    values = _values(fields)
    if statements.on_postgres():
        append: Append = _append_on_postgres
        appended = _append_on_postgres(scope, values, words, statements.fetch_pipelined_and_commit)
    else:
        append = _append_on_sqlite
        appended = statements.write_together_and_commit(partial(append, scope, values, words))
    if appended is None:
        with statements.transaction():
            appended = _append_repaired(append, scope, values, words)
    return _appended(scope, values, appended)


def append_last_and_commit(
    *, user_id: str, conversation_id: str, words: Words, last: Callable[[str], Call], **fields: Any
) -> dict[str, Any]:
    """On Postgres: append a message at the end of the active path of a conversation that the transaction block has
    locked, run the statement that `last` makes of its id, and commit; all in one round trip.

    `last` must be one that the database refuses where no message was appended, as of a conversation that needs a
    repair first. Raises IntegrityFailed then.
    """
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    values = _values(fields)
    call = last(values["id"])
    appended = _append_on_postgres(
        scope, values, words, lambda *calls: statements.end_pipelined_and_commit(*calls, call)
    )
    if appended is None:
        raise RuntimeError("A statement was run for a message that is not there.")
    return _appended(scope, values, appended)


def stored_fields(*, body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a message that a client appends; its attachments are rows of their own."""
    fields = {**body}
    if calls := fields.get("tool_calls"):
        fields["tool_calls"] = orjson.dumps(calls).decode()
    if parts := fields.get("parts"):
        fields["parts"] = encoded(parts)
    fields.pop("attachment_ids", None)
    return fields


def size_of(*, fields: Mapping[str, Any]) -> int:
    """What a message takes of its user's quota, in bytes: its texts and what is stored with it as JSON."""
    return sum(len(fields[name].encode()) for name in _TEXTS if fields.get(name))


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new message, and its digest; None for one that is not recognised in histories."""
    fields = {**fields}
    file_hashes = fields.pop("file_hashes", ())
    is_recognised = fields.pop("is_recognised", True)
    return {
        "digest": digest_of_row(row=fields, file_hashes=file_hashes) if is_recognised else None,
        "id": new_id(),
        "attachment_count": 0,
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
    scope: dict[str, Any],
    values: dict[str, Any],
    words: Words,
    run: Callable[..., list[list[Any]]] = statements.fetch_pipelined,
) -> Appended | None:
    user_id, message_id = scope["user_id"], values["id"]
    vector, later = index_writer.vectors_of(user_id, scope["conversation_id"], message_id, words)
    taken, *_ = run(
        (_TAKE_POSITION, _position_parameters(scope, values)),
        (_insert_at_end(_columns_of(values)), {**scope, **named_new(values), "digest": values["digest"]}),
        (_INDEX, {"user_id": user_id, "message_id": message_id, "vector": vector}),
        *index_writer.write_later(user_id, message_id, later),
    )
    return _position_and_parent(taken)


def _append_on_sqlite(scope: dict[str, Any], values: dict[str, Any], words: Words) -> Appended | None:
    appended = _position_and_parent(_TAKE_POSITION.all(**_position_parameters(scope, values)))
    if appended is None:
        return None
    position, parent_id = appended
    _insert_with_words(scope, {**values, "parent_id": parent_id, "position": position}, words)
    return appended


def _position_parameters(scope: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **scope,
        "new_id": values["id"],
        "new_updated_at": values["created_at"],
        "new_size_bytes": values["size_bytes"],
    }


def _position_and_parent(taken: Sequence[Any]) -> Appended | None:
    if not taken:
        return None
    position, parent_id = taken[0]
    return position, parent_id


def _append_beside(
    parent_id: str | None, scope: dict[str, Any], values: dict[str, Any], words: Words
) -> Appended | None:
    row = _COUNT.first(**_position_parameters(scope, values))
    if row is None:
        return None
    _insert_with_words(scope, {**values, "on_path": False, "parent_id": parent_id, "position": row[0]}, words)
    return row[0], parent_id


def _insert_with_words(scope: dict[str, Any], values: dict[str, Any], words: Words) -> None:
    """On SQLite the words are written when the message is committed, together with those of others: FTS5 makes a part
    of its index of what it has at each savepoint."""
    fields, parameters, message_id = _columns_of(values), named_new(values), values["id"]
    digest = parameters.pop("new_digest")
    if statements.on_postgres():
        parent = _chain_of(user_id=scope["user_id"], message_id=values["parent_id"])
        _insert_at(fields).all(**scope, **parameters, new_chain_hash=chained(parent, digest))
        index_writer.write(**scope, message_id=message_id, words=words)
        return
    _insert_at(fields).all(**scope, **parameters, digest=digest)
    numbered = index_writer.numbered_of(scope["conversation_id"], message_id, words)
    whose = {"owner": scope["user_id"], "message": message_id}
    statements.execute_before_commit(_INDEX_BEFORE_COMMIT, **whose, **numbered)


def _columns_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of a new message that are not in its scope."""
    return tuple(name for name in values if name != "digest" and name not in _SCOPE)


def _chain_of(*, user_id: str, message_id: str | None) -> str | None:
    """The chain hash of a message, None where it has none; "" for no message, which a first one answers."""
    if message_id is None:
        return ""
    row = _CHAIN.first(user_id=user_id, message_id=message_id)
    return str(row[0]) if row is not None and row[0] is not None else None


def insert_messages(*, rows: list[dict[str, Any]], terms: list[Terms]) -> None:
    """Insert whole rows of a user's messages with the terms of each, as an import restores them, in `db.session`.

    A parent comes before its answers. The rows get their chain hashes.
    """
    prepare_messages(rows=rows, terms=terms)()


def prepare_messages(*, rows: list[dict[str, Any]], terms: list[Terms]) -> Callable[[], None]:
    """The same in two steps: what this returns inserts them. Where all parents are among them, the first one needs no
    database, and on SQLite no lock."""
    _chain(rows)
    insert = prepare_rows(Message, rows)
    stored = [(row["id"], its) for row, its in zip(rows, terms, strict=True)]
    write_words = index_writer.prepare_new_words(rows[0]["user_id"], stored)

    def insert_both() -> None:
        insert()
        write_words(db.session.connection())

    return insert_both


def _chain(rows: list[dict[str, Any]]) -> None:
    user_id, own = rows[0]["user_id"], {row["id"] for row in rows}
    before = {row["parent_id"] for row in rows} - own - {None}
    query = sa.select(Message.id, Message.chain_hash).where(
        Message.user_id == user_id, Message.id.in_(before)
    )
    chains: dict[str | None, str | None] = {None: ""}
    if before:
        chains |= {row.id: row.chain_hash for row in db.session.execute(query)}
    for row in rows:
        parent = chains.get(row["parent_id"])
        row["chain_hash"] = chains[row["id"]] = chained(parent, digest_of_row(row=row))


_REPLACED = (
    "chain_hash", "content", "size_bytes", "status", "tool_calls", "sources", "parts", "provider_state",
)  # fmt: skip
_REPLACE = Statement(
    sa.update(Message).where(*_THIS_MESSAGE).values({name: new(getattr(Message, name)) for name in _REPLACED})
)
_SIZE = Statement(sa.select(Message.size_bytes, Message.parent_id).where(*_THIS_MESSAGE))

_HAS_ATTACHMENTS = Statement(sa.select(sa.literal(1)).where(*_THIS_MESSAGE, Message.attachment_count > 0))
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
    [(size_before, parent_id)] = _SIZE.all(**this_message)
    parent = _chain_of(user_id=user_id, message_id=None if parent_id is None else str(parent_id))
    chain_hash = chained(parent, digest_of_row(row={"role": "assistant", **fields}))
    values = {**dict.fromkeys(_REPLACED), **fields, "size_bytes": size_bytes, "chain_hash": chain_hash}
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
    if _HAS_ATTACHMENTS.first(**this_message) is not None:  # whose words have gone with the others
        index_updates.note_message(**this_message)
    return message


# -- finding -------------------------------------------------------------------------------------------------

_GET = Statement(sa.select(*MESSAGE.columns).where(*_THIS_MESSAGE, IN_VISIBLE))
_GET_LAST = Statement(
    sa.select(*MESSAGE.columns).where(*IN_CONVERSATION, ON_PATH).order_by(Message.position.desc()).limit(1)
)
_HAS_ANSWERS = Statement(
    sa.select(sa.literal(1))
    .where(
        *IN_CONVERSATION,
        Message.position > given("position", sa.Integer()),
        Message.parent_id == MESSAGE_ID,
    )
    .limit(1)
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
    found: sa.Executable = select_listed(columns.columns, Message.id, on_postgres=on_postgres)
    return found


def _visible_by_ids(on_postgres: bool) -> sa.Executable:
    found: Any = _by_ids(on_postgres)
    return found.where(IN_VISIBLE)


_LISTED = Statement(_visible_by_ids)
_TO_SEND = Statement(partial(_by_ids, columns=MESSAGE_TO_SEND))
_OF_CLIENT = Statement(partial(_by_ids, columns=MESSAGE_OF_CLIENT))


def list_by_ids(*, user_id: str, message_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the user's messages that have these ids, as plain values, in order of position."""
    rows = _LISTED.all(user_id=user_id, ids=ids_value(message_ids)) if message_ids else []
    return sorted(map(MESSAGE.to_values, rows), key=itemgetter("position"))


def list_to_send(*, user_id: str, message_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the user's messages that have these ids, in order of position, with what only providers get."""
    rows = _TO_SEND.all(user_id=user_id, ids=ids_value(message_ids))
    return sorted(map(MESSAGE_TO_SEND.to_values, rows), key=itemgetter("position"))


def list_of_client(*, user_id: str, message_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Those of the user's messages that have these ids, in order of position, with what their clients call them."""
    rows = _OF_CLIENT.all(user_id=user_id, ids=ids_value(message_ids)) if message_ids else []
    return sorted(map(MESSAGE_OF_CLIENT.to_values, rows), key=itemgetter("position"))


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


def has_answers(*, user_id: str, message: Mapping[str, Any]) -> bool:
    """Whether any message answers this one. Looks through the messages after it."""
    scope = {"user_id": user_id, "conversation_id": message["conversation_id"]}
    row = _HAS_ANSWERS.first(**scope, message_id=message["id"], position=message["position"])
    return row is not None


def list_instructions(
    *, user_id: str, conversation_id: str, before: int, limit: int
) -> list[tuple[str, int]]:
    """Id and size of the system messages on the path before a position, oldest first."""
    rows = _INSTRUCTIONS.all(user_id=user_id, conversation_id=conversation_id, before=before, row_limit=limit)
    return [(str(message_id), size_bytes) for message_id, size_bytes in rows]
