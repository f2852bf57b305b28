"""The tables of completions, and of checkpoints: what has come of replies that are still being written."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, now
from ..database.projection import Projection
from ..database.session import Model

IN_PROGRESS = "in_progress"
MAX_WARNINGS = 100  # of a completion
MAX_WARNING_LENGTH = 1000
STATUSES = (IN_PROGRESS, "completed", "incomplete", "failed", "cancelled")
IS_KEPT = sa.text("is_listed IS NOT NULL")
_RUNNING = sa.text("status = 'in_progress'")


class Completion(Model):
    """One reply of a provider. The reply itself becomes a message when it ends, so that messages never change."""

    __tablename__ = "completions"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "parent_id"], ["messages.user_id", "messages.id"], ondelete="CASCADE"
        ),
        sa.Index(None, "user_id", "conversation_id", "id"),
        # the completions that go with a message when it is deleted
        sa.Index(None, "user_id", "parent_id"),
        # one at a time answers a message; and all that run are found without looking at those that ended
        sa.Index(
            "uq_completions_running",
            "user_id",
            "parent_id",
            unique=True,
            sqlite_where=_RUNNING,
            postgresql_where=_RUNNING,
        ),
        # those that clients keep, however many others there are
        sa.Index("ix_completions_kept", "user_id", "id", sqlite_where=IS_KEPT, postgresql_where=IS_KEPT),
        sa.CheckConstraint(
            "status IN ('in_progress', 'completed', 'incomplete', 'failed', 'cancelled')", name="status"
        ),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(Id)
    # the message that is answered
    parent_id: Mapped[str] = mapped_column(Id)
    # the message that the caller named, if any: runs of one conversation may go on in parallel if each names another
    branch_id: Mapped[str | None] = mapped_column(Id)
    # the id that the reply will have among the messages
    message_id: Mapped[str] = mapped_column(Id)
    # a record, not a key: the provider may be deleted, what it said stays
    provider_id: Mapped[str] = mapped_column(Id)
    model: Mapped[str] = mapped_column(sa.String(255))
    status: Mapped[str] = mapped_column(sa.String(16))
    finish_reason: Mapped[str | None] = mapped_column(sa.String(64))
    # a problem (RFC 9457) as JSON, where it did not end well
    problem: Mapped[str | None] = mapped_column(sa.Text)
    prompt_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    completion_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    # of these tokens: what the provider had in a cache, and what are thoughts; NULL where it does not say
    cached_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    reasoning_tokens: Mapped[int | None] = mapped_column(sa.Integer)
    # whether we counted the tokens because the provider did not say
    usage_estimated: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    # how many older messages were left out because the model's window is too small for all
    omitted_messages: Mapped[int] = mapped_column(sa.Integer)
    # attachments of the messages that were sent that were left out, a JSON list of their ids and reasons
    omitted_attachments: Mapped[str | None] = mapped_column(sa.Text)
    reasoning: Mapped[str | None] = mapped_column(sa.Text)
    # what of the request the provider can't do, a JSON list of texts
    warnings: Mapped[str | None] = mapped_column(sa.Text)
    # in which order text, reasoning and tool calls came, see reply_log
    outline: Mapped[str | None] = mapped_column(sa.Text)
    # the id of the last event of its stream
    last_event_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    # which worker process writes it, and until when that one is believed to live
    worker_id: Mapped[str] = mapped_column(Id)
    lease_expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    cancel_requested: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    # what a client of another dialect asked, as JSON: what its answers repeat
    asked: Mapped[str | None] = mapped_column(sa.Text)
    # of one that a client of a dialect keeps as an object of its own: whether it is in the client's list, and its
    # metadata, as JSON; NULL for all others
    is_listed: Mapped[bool | None] = mapped_column(sa.Boolean)
    client_metadata: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


# what clients get, besides the message, the usage and the problem
COMPLETION = Projection(
    Completion,
    "id",
    "conversation_id",
    "parent_id",
    "provider_id",
    "model",
    "status",
    "reasoning",
    "finish_reason",
    "omitted_messages",
    "created_at",
    "finished_at",
)
# columns of the usage that are there only where the provider says so
USAGE_DETAILS = ("cached_tokens", "reasoning_tokens")
# the whole row, for what is done with a completion here
COMPLETION_ROW = Projection(Completion, *Completion.__table__.c.keys())


class CompletionCheckpoint(Model):
    """A part of a reply in progress, made durable a few times a second; deleted when the reply becomes a message."""

    __tablename__ = "completion_pieces"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "completion_id"], ["completions.user_id", "completions.id"], ondelete="CASCADE"
        ),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    completion_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # where in the reply it begins, see reply_log
    position: Mapped[int] = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    # chunks of the reply log as JSON
    chunks: Mapped[str] = mapped_column(sa.Text)
