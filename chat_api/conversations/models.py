"""The table of conversations."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, OwnedByUser, UTCDateTime, now
from ..database.projection import Projection
from ..database.session import Model

NATIVE, *_ = SOURCES = ("native", "chat", "responses", "ui", "import")
_PINNED = sa.text("pinned")
_HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")
MAX_TITLE_CHARACTERS = 255
MAX_EXTERNAL_ID = 255
_HIDDEN = sa.text("hidden_by IS NOT NULL")


class Conversation(OwnedByUser, Model):
    """A conversation of one user. Its row numbers its messages and knows where its active path ends."""

    __tablename__ = "conversations"
    __table_args__ = (
        # the list, most recently used first
        sa.Index("ix_conversations_recent", "user_id", "archived", "updated_at", "id"),
        sa.Index(
            "ix_conversations_pinned",
            "user_id",
            "archived",
            "updated_at",
            "id",
            sqlite_where=_PINNED,
            postgresql_where=_PINNED,
        ),
        # what a client calls it
        sa.Index(
            "uq_conversations_external",
            "user_id",
            "external_id",
            unique=True,
            sqlite_where=_HAS_EXTERNAL_ID,
            postgresql_where=_HAS_EXTERNAL_ID,
        ),
        # what is not whole: to be continued or removed
        sa.Index("ix_conversations_hidden", "user_id", "id", sqlite_where=_HIDDEN, postgresql_where=_HIDDEN),
    )

    title: Mapped[str] = mapped_column(sa.String(MAX_TITLE_CHARACTERS))
    archived: Mapped[bool] = mapped_column(sa.Boolean, default=False, server_default=sa.false())
    pinned: Mapped[bool] = mapped_column(sa.Boolean, default=False, server_default=sa.false())
    # how many messages there are, of all branches
    message_count: Mapped[int] = mapped_column(sa.Integer, default=0)
    # the position of the newest message there ever was: a deleted one's is not given out again
    last_position: Mapped[int] = mapped_column(sa.Integer, default=0, server_default=sa.text("0"))
    # the message at which the active path ends
    active_leaf_id: Mapped[str | None] = mapped_column(Id)
    # the one before, so that the statement that moves the leaf can return what it was: the new message's parent
    previous_leaf_id: Mapped[str | None] = mapped_column(Id)
    # how many messages the path to `counted_leaf_id` has: the active leaf, unless a release that knows neither column
    # has moved that; see `messages.repair`
    path_length: Mapped[int] = mapped_column(sa.Integer, default=0, server_default=sa.text("0"))
    counted_leaf_id: Mapped[str | None] = mapped_column(Id)
    # NULL, or what hides the conversation and all that is in it from every reader: the id of the import that is storing
    # it batch by batch, or its own id while it is being deleted
    hidden_by: Mapped[str | None] = mapped_column(Id)
    # how many bytes the contents of its messages have, of all branches
    content_bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default=sa.text("0"))
    # JSON, or NULL: title, flags and time as the newest file had them that the conversation was imported from
    imported: Mapped[str | None] = mapped_column(sa.Text)
    # what a client wants to find it by, a JSON object of texts; NULL for none
    client_metadata: Mapped[str | None] = mapped_column(sa.Text)
    # what it came in by, see SOURCES
    source: Mapped[str] = mapped_column(sa.String(16), default=NATIVE, server_default=NATIVE)
    # what its client calls it, of which the user has one conversation
    external_id: Mapped[str | None] = mapped_column(sa.String(MAX_EXTERNAL_ID))
    # moved by each message
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


CONVERSATION = Projection(
    Conversation,
    "id",
    "user_id",
    "title",
    "archived",
    "pinned",
    "message_count",
    "active_leaf_id",
    "client_metadata",
    "source",
    "created_at",
    "updated_at",
    objects={"client_metadata": "metadata"},
)
# the same for a list, which is of one user
CONVERSATION_OF_USER = CONVERSATION.without("user_id", "archived")
# and for one that is found by its key
CONVERSATION_OF_KEY = CONVERSATION.without("user_id", "id")

IS_VISIBLE = Conversation.hidden_by.is_(None)


def is_in_visible(user_id: Any, conversation_id: Any) -> sa.ColumnElement[bool]:
    """Whether the conversation of a row, with these columns or parameters, is visible; for the WHERE of a reader."""
    its = (Conversation.user_id == user_id, Conversation.id == conversation_id, IS_VISIBLE)
    return sa.exists(
        sa.select(sa.literal_column("1")).select_from(Conversation).where(*its).correlate_except(Conversation)
    )
