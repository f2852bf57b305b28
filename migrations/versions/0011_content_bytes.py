"""How many bytes the messages of a conversation have, so that nobody adds up messages to limit what a user stores."""

import sqlalchemy as sa
from alembic import context

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0011"
down_revision = "0010"

COUNT = (
    "UPDATE conversations SET content_bytes = (SELECT coalesce(sum(message.size_bytes), 0) FROM messages AS message"
    " WHERE message.user_id = conversations.user_id AND message.conversation_id = conversations.id)"
    " WHERE message_count > 0 AND content_bytes = 0"
)
LEFT = sa.text(
    "SELECT user_id, id FROM conversations WHERE message_count > 0 AND content_bytes = 0"
    " AND (user_id, id) > (:user_id, :id) ORDER BY user_id, id LIMIT 100"
)
LEAST_ID = "00000000-0000-0000-0000-000000000000"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column(
        "conversations", sa.Column("content_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    if context.is_offline_mode():
        steps.update_in_one(COUNT)
    else:
        steps.update_in_batches(Conversations().count_some)


class Conversations:
    """Goes through the conversations once, in the order of their key."""

    def __init__(self) -> None:
        self.after = {"user_id": LEAST_ID, "id": LEAST_ID}

    def count_some(self, connection: sa.Connection) -> bool:
        """Count the bytes of some conversations; whether any was left."""
        found = connection.execute(LEFT, self.after).all()
        if not found:
            return False
        last = {"user_id": str(found[-1].user_id), "id": str(found[-1].id)}
        span = " AND (user_id, id) > (:user_id, :id) AND (user_id, id) <= (:to_user, :to_id)"
        parameters = {**self.after, "to_user": last["user_id"], "to_id": last["id"]}
        connection.execute(sa.text(COUNT + span), parameters)
        self.after = last
        return True


def downgrade() -> None:
    steps.drop_column("conversations", "content_bytes")
