"""The SQL of an import. It runs in the caller's transaction unless it says otherwise."""

import dataclasses
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ..attachments.models import Attachment
from ..conversations.models import IS_VISIBLE, Conversation
from ..database.columns import Id, new_id
from ..database.dialect import is_postgres
from ..database.id_lists import ids_value, listed_ids
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..errors import NotFound
from ..files.models import AttachmentFile
from ..llm_providers import service as llm_providers
from ..llm_providers.models import LLMProvider
from ..llm_providers.slugs import unique_slug
from ..messages.models import Message
from .formats.ids import id_at

Row = dict[str, Any]


def insert_conversation(row: Row) -> bool:
    """Insert a conversation; whether it was not there yet. Raises NotFound where the user is gone.

    What its client calls it is left out where another conversation of the user is called that already.
    """
    if (external_id := row.get("external_id")) is not None:
        own = (Conversation.user_id == row["user_id"], Conversation.id != row["id"])
        other = sa.select(Conversation.id).where(*own, Conversation.external_id == external_id)
        if db.session.scalar(other.limit(1)) is not None:
            row = {**row, "external_id": None}
    return _insert_new(Conversation, row)


_HERE_OF = Statement(
    lambda on_postgres: sa.select(Conversation.id).where(
        Conversation.user_id == USER_ID, Conversation.id.in_(sa.select(listed_ids(on_postgres).c.value))
    )
)


def which_are_here(*, user_id: str, conversation_ids: Iterable[str]) -> set[str]:
    """Those that the user has, also hidden ones. Outside a transaction."""
    return {str(id_) for (id_,) in _HERE_OF.all(user_id=user_id, ids=ids_value(conversation_ids))}


def lock_hidden(*, user_id: str, conversation_id: str, hidden_by: str) -> bool:
    """Lock a conversation that is being stored; whether it is still hidden by this import."""
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id)
    hidden = sa.select(Conversation.id).where(*own, Conversation.hidden_by == hidden_by)
    return db.session.scalar(hidden.with_for_update()) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class ConversationHere:
    """What is here of a conversation that a file has, too."""

    title: str
    archived: bool
    pinned: bool
    client_metadata: str | None
    updated_at: datetime
    imported: str | None
    active_leaf_id: str | None
    last_position: int
    message_count: int


_HERE = sa.select(*(getattr(Conversation, field.name) for field in dataclasses.fields(ConversationHere)))


def find_visible(*, user_id: str, conversation_id: str) -> ConversationHere | None:
    """A conversation that the user sees; takes no lock that lasts."""
    try:
        return _visible(_HERE, user_id, conversation_id)
    finally:
        db.session.rollback()


def lock_visible(*, user_id: str, conversation_id: str) -> ConversationHere | None:
    """The same, which nobody else changes until the transaction ends."""
    return _visible(_HERE.with_for_update(), user_id, conversation_id)


def _visible(query: sa.Select[Any], user_id: str, conversation_id: str) -> ConversationHere | None:
    own = (Conversation.user_id == user_id, Conversation.id == conversation_id, IS_VISIBLE)
    row = db.session.execute(query.where(*own)).first()
    return ConversationHere(*row) if row is not None else None


def find_messages(*, user_id: str, ids: Iterable[str]) -> dict[str, Any]:
    """Those of the ids that messages of the user have, with what is quickly compared."""
    columns = (Message.id, Message.conversation_id, Message.parent_id, Message.role, Message.size_bytes)
    found = used_ids(Message, Message.user_id == user_id, ids=ids)
    rows = sa.select(*columns).where(Message.user_id == user_id, Message.id.in_(found))
    return {row.id: row for row in db.session.execute(rows)} if found else {}


def contents_of(*, user_id: str, ids: Collection[str]) -> dict[str, str]:
    """The contents of these messages."""
    rows = sa.select(Message.id, Message.content).where(Message.user_id == user_id, Message.id.in_(ids))
    return {row.id: row.content for row in db.session.execute(rows)} if ids else {}


def scopes_of(model: Any, scope: str, *, user_id: str, ids: Collection[str]) -> dict[str, str]:
    """Those of the ids that rows of the user have, each with what the row belongs to."""
    column = getattr(model, scope)
    rows = sa.select(model.id, column).where(model.user_id == user_id, model.id.in_(ids))
    return {row[0]: row[1] for row in db.session.execute(rows)}


def attachment_counts(*, user_id: str, message_ids: Collection[str]) -> dict[str, int]:
    """How many attachments these messages have."""
    own = (Message.user_id == user_id, Message.id.in_(message_ids))
    return {
        row[0]: row[1]
        for row in db.session.execute(sa.select(Message.id, Message.attachment_count).where(*own))
    }


def discard_plans() -> None:
    """Have Postgres plan its checks of foreign keys again.

    A connection keeps those plans from when the tables were small, and then each row that it inserts makes it read all
    rows of the owner, until autovacuum has looked at the table: 10,000 messages took 9 s in a new database, not 1.
    """
    if is_postgres(db.engine):
        db.session.connection().exec_driver_sql("DISCARD PLANS")


def used_ids(model: Any, *conditions: sa.ColumnElement[bool], ids: Iterable[str]) -> set[str]:
    """Those of the ids that a row has already which meets the conditions, one of which names the owner."""
    rows = sa.select(model.id).where(*conditions)
    if not is_postgres(db.engine):
        return set(db.session.scalars(rows.where(model.id.in_(list(ids)))))
    # Each id is looked up. Of a table that it knows little of, as while it is being filled, Postgres would otherwise
    # read all rows of the owner
    looked_up = (
        sa.func.unnest(sa.literal(list(ids), postgresql.ARRAY(Id()))).table_valued("id").render_derived()
    )
    found = rows.where(model.id == looked_up.c.id).limit(1).lateral()
    return set(db.session.scalars(sa.select(found.c.id).select_from(looked_up).join(found, sa.true())))


def messages_here(*, user_id: str, conversation_id: str, ids: Iterable[str]) -> set[str]:
    """Those of the ids that messages of the conversation have."""
    here = Message.user_id == user_id, Message.conversation_id == conversation_id
    return used_ids(Message, *here, ids=ids)


def count_attachments(*, user_id: str, message_id: str, count: int) -> None:
    """Correct the number of a message's attachments, where it was inserted before they were all known."""
    own = Message.user_id == user_id, Message.id == message_id
    db.session.connection().execute(sa.update(Message).where(*own).values(attachment_count=count))


_CONTENT = Statement(
    sa.select(AttachmentFile.id).where(
        AttachmentFile.user_id == USER_ID, AttachmentFile.id == given("attachment_id")
    )
)


def has_content(*, user_id: str, attachment_id: str) -> bool:
    """Whether the user has an attachment with this id that has content. Outside a transaction."""
    return _CONTENT.first(user_id=user_id, attachment_id=attachment_id) is not None


def relabel(*, user_id: str, attachment_id: str, file_type: str, file_path: str) -> None:
    """Say what the content of an attachment is, which gets one in this transaction."""
    own = Attachment.user_id == user_id, Attachment.id == attachment_id
    values = {"file_type": file_type, "file_path": file_path}
    db.session.connection().execute(sa.update(Attachment).where(*own).values(values))


def update_conversation(*, user_id: str, conversation_id: str, **values: Any) -> None:
    """Set what is known of a conversation when all its messages are there."""
    own = Conversation.user_id == user_id, Conversation.id == conversation_id
    db.session.connection().execute(sa.update(Conversation).where(*own).values(values))


def restore_provider(*, user_id: str, fields: Row, others: Collection[str]) -> tuple[str, bool]:
    """The id of the user's provider like this one, and whether it was made. Raises NotFound where the user is gone,
    and QuotaExceeded.

    `others` are those that stand for other providers of the file, however alike they are. A new one has an id that
    follows from the user's and the file's: whether the file's own id is taken would reveal other users' rows.
    """
    fields = {**fields, **llm_providers.stored_details(details=fields)}
    own_id = id_at(fields["created_at"], user_id, fields["id"])
    own = sa.select(LLMProvider.id).where(
        LLMProvider.owner_id == user_id, LLMProvider.id.not_in(list(others))
    )
    same = (getattr(LLMProvider, name) == fields[name] for name in ("name", "api_endpoint", "api_format"))
    is_it = (LLMProvider.id == fields["id"], LLMProvider.id == own_id, sa.and_(*same))
    for condition in is_it:
        found = db.session.scalar(own.where(condition).order_by(LLMProvider.id).limit(1))
        if found is not None:
            return found, False
    llm_providers.QUOTAS.require_room(1, user_id=user_id)
    name = fields.get("slug") or fields["name"]
    free = llm_providers.find_free_slug(owner_id=user_id, name=name)
    for provider_id in (own_id, new_id()):  # the first one may stand for another provider of the file
        for slug in (
            free,
            unique_slug(name, provider_id),
        ):  # somebody may take the first one at the same time
            if _insert_new(LLMProvider, {**fields, "id": provider_id, "owner_id": user_id, "slug": slug}):
                return provider_id, True
            if db.session.scalar(
                own.where(LLMProvider.id == provider_id)
            ):  # by the same file, at the same time
                return provider_id, False
    raise RuntimeError("A new id was taken.")


def _insert_new(model: Any, row: Row) -> bool:
    """Insert a row; whether it was not there yet. Raises NotFound where the user is gone."""
    insert = (postgresql if is_postgres(db.engine) else sqlite).insert(model)
    try:
        made = db.session.scalar(insert.values(row).on_conflict_do_nothing().returning(model.id))
    except IntegrityError as error:  # of the row's keys only the owner's is left
        raise NotFound("user") from error
    return made is not None
