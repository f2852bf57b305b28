"""The SQL of an import. All of it runs in the caller's transaction.

Rows are written past the unit of work, on the session's connection: there are very many, and nobody has them loaded.
"""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ..attachments.models import Attachment
from ..columns import new_id
from ..completions.models import Completion
from ..conversations.models import Conversation
from ..errors import NotFound
from ..extensions import db
from ..llm_providers.models import LLMProvider
from ..messages.models import Message

Row = dict[str, Any]


def insert_conversation(row: Row) -> bool:
    """Insert a conversation; whether it was not there yet. Raises NotFound where the user is gone."""
    try:
        inserted = db.session.scalar(
            _insert(Conversation).values(row).on_conflict_do_nothing().returning(Conversation.id)
        )
    except IntegrityError as error:  # of its keys only the owner's is left
        raise NotFound("user") from error
    return inserted is not None


def insert_attachments(rows: list[Row]) -> None:
    """Insert whole rows."""
    db.session.connection().execute(sa.insert(Attachment), rows)


def insert_completions(rows: list[Row]) -> None:
    """Insert whole rows."""
    db.session.connection().execute(sa.insert(Completion), rows)


def used_ids(model: Any, *, user_id: str, ids: Iterable[str]) -> set[str]:
    """Those of the ids that a row of the user's has already."""
    query = sa.select(model.id).where(model.user_id == user_id, model.id.in_(list(ids)))
    return set(db.session.scalars(query))


def messages_here(*, user_id: str, conversation_id: str, ids: Iterable[str]) -> set[str]:
    """Those of the ids that messages of the conversation have."""
    query = sa.select(Message.id).where(
        Message.user_id == user_id,
        Message.conversation_id == conversation_id,
        Message.id.in_(list(ids)),
    )
    return set(db.session.scalars(query))


def count_attachments(*, user_id: str, message_id: str, count: int) -> None:
    """Correct the number of a message's attachments, where it was inserted before they were all known."""
    own = Message.user_id == user_id, Message.id == message_id
    db.session.connection().execute(sa.update(Message).where(*own).values(attachment_count=count))


def update_conversation(*, user_id: str, conversation_id: str, **values: Any) -> None:
    """Set what is known of a conversation when all its messages are there."""
    own = Conversation.user_id == user_id, Conversation.id == conversation_id
    db.session.connection().execute(sa.update(Conversation).where(*own).values(values))


def restore_provider(*, user_id: str, fields: Row, others: Collection[str]) -> tuple[str, bool]:
    """The id of the user's provider like this one, and whether it was made: with the same id, if that is free.

    `others` are those that stand for other providers of the file, however alike they are.
    """
    own = sa.select(LLMProvider.id).where(LLMProvider.owner_id == user_id, LLMProvider.id.not_in(others))
    same = (getattr(LLMProvider, name) == fields[name] for name in ("name", "api_endpoint", "api_format"))
    for query in (own.where(LLMProvider.id == fields["id"]), own.where(*same).order_by(LLMProvider.id)):
        found = db.session.scalar(query.limit(1))
        if found is not None:
            return found, False
    for provider_id in (fields["id"], new_id()):
        row = {**fields, "id": provider_id, "owner_id": user_id}
        insert = _insert(LLMProvider).values(row).on_conflict_do_nothing().returning(LLMProvider.id)
        made = db.session.scalar(insert)
        if made is not None:
            return made, True
    raise RuntimeError("A new id was taken.")


def _insert(model: Any) -> Any:
    """An insert that knows ON CONFLICT, of the database at hand."""
    dialect = postgresql if db.engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(model.__table__)
