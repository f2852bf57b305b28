"""The tables of files: what is stored, and what refers to it.

That an attachment has content is a row of its own: SQLite can't add a composite foreign key to a table that exists.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, OwnedByUser, UTCDateTime, new_id, now
from ..database.session import Model

MAX_FILE_NAME = 255
UNKNOWN = "application/octet-stream"  # the type of content that is of no known type


def _stored_file_key(**options: Any) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id", "file_id"], ["stored_files.user_id", "stored_files.id"], **options
    )


def _kept_file_key() -> sa.ForeignKeyConstraint:
    """A file that something refers to can't be deleted; checked at the end of the transaction, as the files of an
    account and what refers to them go in any order."""
    return _stored_file_key(deferrable=True, initially="DEFERRED")


class StoredFile(OwnedByUser, Model):
    """A file of a user, once for equal content. Its bytes are in the storage, as `<user_id>/<id>`."""

    __tablename__ = "stored_files"
    __table_args__ = (
        sa.UniqueConstraint("user_id", "sha256"),
        sa.Index(
            "ix_stored_files_without_text",
            "user_id",
            "id",
            postgresql_where=sa.text("text_state IS NULL"),
            sqlite_where=sa.text("text_state IS NULL"),
        ),
    )

    sha256: Mapped[str] = mapped_column(sa.String(64))
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    # what the content is, whatever the client called it
    file_type: Mapped[str] = mapped_column(sa.String(255))
    # of the text that is extracted of it: NULL before that, "done", "done: cut", "none", or "failed: " and why
    text_state: Mapped[str | None] = mapped_column(sa.String(64))
    # how often that was begun
    text_attempts: Mapped[int] = mapped_column(sa.Integer, default=0, server_default="0")
    # when it was uploaded last; an upload locks the row with this
    last_used_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class AttachmentFile(Model):
    """That the attachment with this id has content, and which. One without such a row is a label."""

    __tablename__ = "attachment_files"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "id"], ["attachments.user_id", "attachments.id"], ondelete="CASCADE"
        ),
        _kept_file_key(),
        sa.Index(None, "user_id", "message_id"),
        sa.Index(None, "user_id", "file_id"),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    # as the attachment has it, so that the files of messages are found without that
    message_id: Mapped[str] = mapped_column(Id)
    file_id: Mapped[str] = mapped_column(Id)
    # the client's own name of the file: a label, never part of a path
    file_name: Mapped[str] = mapped_column(sa.String(MAX_FILE_NAME))


class AttachmentDraft(OwnedByUser, Model):
    """An upload that belongs to no message yet. With its message it becomes an attachment with the same id."""

    __tablename__ = "attachment_drafts"
    __table_args__ = (_kept_file_key(), sa.Index(None, "user_id", "file_id"))

    file_id: Mapped[str] = mapped_column(Id)
    file_name: Mapped[str] = mapped_column(sa.String(MAX_FILE_NAME))
    # what a client of OpenAI's dialect says it is for; NULL for what came in otherwise
    purpose: Mapped[str | None] = mapped_column(sa.String(32))
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)


class FileRelease(Model):
    """That a file may have lost the last reference to it. Written in the transaction that deletes one.

    It has no foreign keys, as it outlives the account.
    """

    __tablename__ = "file_releases"

    owner_id: Mapped[str] = mapped_column(Id, primary_key=True)
    file_id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class UsedLink(OwnedByUser, Model):
    """That a link for a single use was used. It goes when the link would have expired by itself."""

    __tablename__ = "used_links"

    expires_at: Mapped[datetime] = mapped_column(UTCDateTime)


class AttachmentText(Model):
    """The text that was extracted of a file."""

    __tablename__ = "attachment_texts"
    __table_args__ = (_stored_file_key(ondelete="CASCADE"),)

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    file_id: Mapped[str] = mapped_column(Id, primary_key=True)
    text: Mapped[str] = mapped_column(sa.Text)
