"""Branches of a conversation, and what its owner says of it: archived, pinned."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.distribution import prepare_distribution

revision = "0004"
down_revision = "0003"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    if op.get_context().dialect.name == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")  # filling in takes as long as there are messages
    add_columns()
    # until now positions had no gaps, and each message answered the one in front of it
    op.execute(
        "UPDATE messages SET parent_id = (SELECT parent.id FROM messages AS parent"
        " WHERE parent.user_id = messages.user_id AND parent.conversation_id = messages.conversation_id"
        " AND parent.position = messages.position - 1) WHERE position > 1"
    )
    op.execute(
        "UPDATE conversations SET last_position = message_count, active_leaf_id = (SELECT leaf.id"
        " FROM messages AS leaf WHERE leaf.user_id = conversations.user_id"
        " AND leaf.conversation_id = conversations.id AND leaf.position = conversations.message_count)"
        " WHERE message_count > 0"
    )


def add_columns() -> None:
    for name in ("archived", "pinned"):
        op.add_column(
            "conversations", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.add_column(
        "conversations", sa.Column("last_position", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("conversations", sa.Column("active_leaf_id", ID))
    op.add_column("conversations", sa.Column("previous_leaf_id", ID))
    op.add_column("messages", sa.Column("parent_id", ID))
    op.add_column("messages", sa.Column("on_path", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    """What lies beside the active path stays, in order of position among the rest. Gaps are closed: revision 0003
    knows none, and numbers by the count."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")
    for sign in ("-", ""):  # over negative numbers, so that no two messages have the same in between
        op.execute(
            f"UPDATE messages SET position = {sign}numbered.number FROM (SELECT m.user_id, m.id, row_number() OVER"
            " (PARTITION BY m.user_id, m.conversation_id ORDER BY abs(m.position)) AS number FROM messages AS m"
            " JOIN conversations AS c ON c.user_id = m.user_id AND c.id = m.conversation_id"
            " WHERE c.message_count < c.last_position) AS numbered"
            " WHERE numbered.user_id = messages.user_id AND numbered.id = messages.id"
        )
    for name in ("on_path", "parent_id"):
        op.drop_column("messages", name)
    for name in ("previous_leaf_id", "active_leaf_id", "last_position", "pinned", "archived"):
        op.drop_column("conversations", name)
