"""An index of system messages, made while the service goes on writing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INSTRUCTIONS = sa.text("role IN ('system', 'developer')")


def upgrade() -> None:
    with op.get_context().autocommit_block():  # what CREATE INDEX CONCURRENTLY needs
        op.create_index(
            "ix_messages_instructions",
            "messages",
            ["user_id", "conversation_id", "position"],
            sqlite_where=INSTRUCTIONS,
            postgresql_where=INSTRUCTIONS,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("ix_messages_instructions", "messages")
