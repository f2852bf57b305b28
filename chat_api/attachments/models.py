"""The table of attachments."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ..database.columns import Id, UTCDateTime, new_id, now
from ..database.session import Model

MAX_FILE_PATH = 4096  # a signed link of an object store may have two thousand characters
# SQLite minds no length, and would copy the table to change one
FILE_PATH = sa.String(MAX_FILE_PATH).with_variant(sa.String(1024), "sqlite")


class Attachment(Model):
    """An attachment of a message, numbered by the message's row."""

    __tablename__ = "attachments"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"], ["messages.user_id", "messages.id"], ondelete="CASCADE"
        ),
        sa.UniqueConstraint("user_id", "message_id", "position"),
    )

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    message_id: Mapped[str] = mapped_column(Id)
    position: Mapped[int] = mapped_column(sa.Integer)
    file_type: Mapped[str] = mapped_column(sa.String(255))
    # the client's own label; never opened here
    file_path: Mapped[str] = mapped_column(FILE_PATH)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
