"""How many bytes the messages of a conversation have, so that nobody adds up messages to limit what a user stores."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0011"
down_revision = "0010"

COUNT = (
    "content_bytes = (SELECT coalesce(sum(message.size_bytes), 0) FROM messages AS message"
    " WHERE message.user_id = conversations.user_id AND message.conversation_id = conversations.id)"
)


def upgrade() -> None:
    prepare_distribution()
    steps.add_column(
        "conversations", sa.Column("content_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    steps.update_conversations(COUNT, "message_count > 0 AND content_bytes = 0", at_once=100)


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("conversations", "content_bytes")
