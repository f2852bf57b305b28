"""Branches of a conversation, and what its owner says of it: archived, pinned."""

from itertools import accumulate

import sqlalchemy as sa
from alembic import context
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0004"
down_revision = "0003"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")

# Until now positions had no gaps, and each message answered the one before it
PARENTS = (
    "UPDATE messages SET parent_id = (SELECT parent.id FROM messages AS parent"
    " WHERE parent.user_id = messages.user_id AND parent.conversation_id = messages.conversation_id"
    " AND parent.position = messages.position - 1) WHERE position > 1"
)
LEAVES = (
    "UPDATE conversations SET last_position = message_count, active_leaf_id = (SELECT leaf.id"
    " FROM messages AS leaf WHERE leaf.user_id = conversations.user_id"
    " AND leaf.conversation_id = conversations.id AND leaf.position = conversations.message_count)"
    " WHERE message_count > 0"
)
# What is left: revision 0003 numbers by the count, so these differ also where it went on after an interruption
LEFT = sa.text(
    "SELECT user_id, id, message_count FROM conversations WHERE message_count <> last_position"
    " AND (user_id, id) > (:user_id, :id) ORDER BY user_id, id LIMIT 1000"
)
LEAST_ID = "00000000-0000-0000-0000-000000000000"
MESSAGES_AT_ONCE = 5000


def upgrade() -> None:
    prepare_distribution()
    add_columns()
    if context.is_offline_mode():
        steps.update_in_one(PARENTS)
        steps.update_in_one(LEAVES)
    else:
        steps.update_in_batches(Conversations().fill_some)


class Conversations:
    """Goes through the conversations without a path once, in the order of their key."""

    def __init__(self) -> None:
        self.after = {"user_id": LEAST_ID, "id": LEAST_ID}

    def fill_some(self, connection: sa.Connection) -> bool:
        """Give some conversations their path; whether any was left. A long one takes several statements."""
        found = connection.execute(LEFT, self.after).all()
        if not found:
            return False
        totals = accumulate(row.message_count for row in found)
        few = [row for row, total in zip(found, totals, strict=True) if total <= MESSAGES_AT_ONCE] or found[
            :1
        ]
        last = {"user_id": str(few[-1].user_id), "id": str(few[-1].id)}
        parameters = {**self.after, "to_user": last["user_id"], "to_id": last["id"]}
        here = " AND ({key}) > (:user_id, :id) AND ({key}) <= (:to_user, :to_id)"
        parents = PARENTS + here.format(key="user_id, conversation_id")
        longest = max(row.message_count for row in few)
        for first in range(0, longest, MESSAGES_AT_ONCE):
            span = {"first": first, "last": first + MESSAGES_AT_ONCE}
            connection.execute(
                sa.text(f"{parents} AND position > :first AND position <= :last"), parameters | span
            )
        connection.execute(sa.text(LEAVES + here.format(key="user_id, id")), parameters)
        self.after = last
        return True


def add_columns() -> None:
    for name in ("archived", "pinned"):
        steps.add_column(
            "conversations", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        )
    steps.add_column(
        "conversations", sa.Column("last_position", sa.Integer(), nullable=False, server_default="0")
    )
    steps.add_column("conversations", sa.Column("active_leaf_id", ID))
    steps.add_column("conversations", sa.Column("previous_leaf_id", ID))
    steps.add_column("messages", sa.Column("parent_id", ID))
    steps.add_column("messages", sa.Column("on_path", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    """What lies beside the active path stays, in order of position among the rest. Gaps are closed: revision 0003
    knows none, and numbers by the count."""
    prepare_distribution()
    for sign in ("-", ""):  # over negative numbers, so that no two messages have the same in between
        steps.update_in_one(
            f"UPDATE messages SET position = {sign}numbered.number FROM (SELECT m.user_id, m.id, row_number() OVER"
            " (PARTITION BY m.user_id, m.conversation_id ORDER BY abs(m.position)) AS number FROM messages AS m"
            " JOIN conversations AS c ON c.user_id = m.user_id AND c.id = m.conversation_id"
            " WHERE c.message_count < c.last_position) AS numbered"
            " WHERE numbered.user_id = messages.user_id AND numbered.id = messages.id"
        )
    for name in ("on_path", "parent_id"):
        steps.drop_column("messages", name)
    for name in ("previous_leaf_id", "active_leaf_id", "last_position", "pinned", "archived"):
        steps.drop_column("conversations", name)
