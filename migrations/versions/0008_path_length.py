"""How many messages the active path of a conversation has, so that nobody counts them before a reply."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0008"
down_revision = "0007"

COUNT = (
    "path_length = (SELECT count(*) FROM messages AS message"
    " WHERE message.user_id = conversations.user_id AND message.conversation_id = conversations.id"
    " AND message.on_path)"
)


def upgrade() -> None:
    prepare_distribution()
    steps.add_column(
        "conversations", sa.Column("path_length", sa.Integer(), nullable=False, server_default="0")
    )
    steps.update_conversations(COUNT, "active_leaf_id IS NOT NULL AND path_length = 0", at_once=1000)


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("conversations", "path_length")
