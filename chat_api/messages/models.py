"""The table of messages."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, now
from ..database.projection import Projection
from ..database.session import Model

ROLES = ("system", "developer", "user", "assistant", "tool")
STATUSES = ("completed", "incomplete", "cancelled")
_INSTRUCTIONS = sa.text("role IN ('system', 'developer')")
_ON_PATH = sa.text("on_path")
_HAS_CHAIN = sa.text("chain_hash IS NOT NULL")
_HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")
MAX_EXTERNAL_ID = 255
JSON_OUTPUT, ERROR_OUTPUT = OUTPUT_KINDS = ("json", "error")


class Message(Model):
    """A message. It never changes; its position says when it was accepted."""

    __tablename__ = "messages"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        sa.UniqueConstraint("user_id", "conversation_id", "position"),
        # system messages are sent along however long the conversation is
        sa.Index(
            "ix_messages_instructions",
            "user_id",
            "conversation_id",
            "position",
            sqlite_where=_INSTRUCTIONS,
            postgresql_where=_INSTRUCTIONS,
        ),
        # the active path, however many other branches there are
        sa.Index(
            "ix_messages_path",
            "user_id",
            "conversation_id",
            "position",
            sqlite_where=_ON_PATH,
            postgresql_where=_ON_PATH,
        ),
        # where a history that a client sends is stored already
        sa.Index(
            "ix_messages_chain",
            "user_id",
            "chain_hash",
            sqlite_where=_HAS_CHAIN,
            postgresql_where=_HAS_CHAIN,
        ),
        # what a client calls a message, in a conversation
        sa.Index(
            "ix_messages_external",
            "user_id",
            "conversation_id",
            "external_id",
            sqlite_where=_HAS_EXTERNAL_ID,
            postgresql_where=_HAS_EXTERNAL_ID,
        ),
        sa.CheckConstraint("role IN ('system', 'developer', 'user', 'assistant', 'tool')", name="role"),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(Id)
    # The message that it answers; none for a first one. No key: whoever deletes a message deletes its descendants,
    # and a cascade would go as deep as the conversation is long, further than SQLite lets triggers go.
    parent_id: Mapped[str | None] = mapped_column(Id)
    position: Mapped[int] = mapped_column(sa.Integer)
    # whether it is on the active path: the conversation's active leaf, or above it
    on_path: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())
    role: Mapped[str] = mapped_column(sa.String(16))
    content: Mapped[str] = mapped_column(sa.Text)
    # size of all its texts in UTF-8, so that a page can end before it grows too large without reading it; releases
    # before 0013 counted the content only
    size_bytes: Mapped[int] = mapped_column(sa.Integer)
    # how many attachments there are, and so the position of the newest one
    attachment_count: Mapped[int] = mapped_column(sa.Integer, default=0)
    # how a reply ended; what clients append is "completed"
    status: Mapped[str] = mapped_column(sa.String(16), server_default="completed")
    # the calls that an assistant's message asks for, as JSON, and the call that a tool's message answers
    tool_calls: Mapped[str | None] = mapped_column(sa.Text)
    tool_call_id: Mapped[str | None] = mapped_column(sa.String(255))
    # what a reply refers to, as JSON: a list of url, title, places
    sources: Mapped[str | None] = mapped_column(sa.Text)
    # the content as a list of texts and attachments, as JSON, where it was sent as one; `content` has the texts
    parts: Mapped[str | None] = mapped_column(sa.Text)
    # what the provider that wrote it wants back with it, as JSON: provider_id, model, state. Clients don't get it.
    provider_state: Mapped[str | None] = mapped_column(sa.Text)
    # of what was said up to here, see chain.py; NULL for messages of earlier releases, and for what answers them
    chain_hash: Mapped[str | None] = mapped_column(Id)
    # what its client calls it; an edited message has that of the one beside it
    external_id: Mapped[str | None] = mapped_column(sa.String(MAX_EXTERNAL_ID))
    # how a client means the content of a tool's message, see OUTPUT_KINDS; NULL: a text
    output_kind: Mapped[str | None] = mapped_column(sa.String(16))
    # which parts were erased, as JSON: their kinds by their places; see completions/erasing.py
    erased: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


MESSAGE = Projection(
    Message,
    "id",
    "conversation_id",
    "parent_id",
    "position",
    "role",
    "content",
    "status",
    "created_at",
    optional=("tool_calls", "tool_call_id", "sources", "parts", "erased"),
    as_json=("tool_calls", "sources", "parts", "erased"),
)
# the same for the rows of one conversation
MESSAGE_OF_CONVERSATION = MESSAGE.without("conversation_id")
# the same with what clients of the AI SDK call it
MESSAGE_OF_CLIENT = Projection(
    Message,
    *MESSAGE.names[:8],
    optional=("tool_calls", "tool_call_id", "sources", "parts", "erased", "external_id", "output_kind"),
    as_json=("tool_calls", "sources", "parts", "erased"),
)
# what is sent to a provider; `provider_state` stays text until it is known to be the provider's own
MESSAGE_TO_SEND = Projection(
    Message,
    "id",
    "parent_id",
    "position",
    "role",
    "content",
    "attachment_count",
    optional=("tool_calls", "tool_call_id", "provider_state", "parts", "erased"),
    as_json=("tool_calls", "parts", "erased"),
)
# what a message takes of a page, without reading it; characters of the calls will do, no bound is exact
MESSAGE_SIZE = Message.size_bytes + sa.func.coalesce(sa.func.length(Message.tool_calls), 0)
