"""An index of system messages, made while the service goes on writing."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0003"
down_revision = "0002"

INSTRUCTIONS = sa.text("role IN ('system', 'developer')")


def upgrade() -> None:
    steps.create_index_concurrently(
        "ix_messages_instructions",
        "messages",
        ["user_id", "conversation_id", "position"],
        sqlite_where=INSTRUCTIONS,
        postgresql_where=INSTRUCTIONS,
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_index("ix_messages_instructions", "messages")
