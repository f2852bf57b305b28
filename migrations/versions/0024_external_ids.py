"""What clients call their conversations and messages, and how they mean the outputs of tools."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0024"
down_revision = "0023"

HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("conversations", sa.Column("external_id", sa.String(255)))
    steps.add_column("messages", sa.Column("external_id", sa.String(255)))
    steps.add_column("messages", sa.Column("output_kind", sa.String(16)))
    steps.create_index_concurrently(
        "uq_conversations_external",
        "conversations",
        ["user_id", "external_id"],
        unique=True,
        sqlite_where=HAS_EXTERNAL_ID,
        postgresql_where=HAS_EXTERNAL_ID,
    )
    steps.create_index_concurrently(
        "ix_messages_external",
        "messages",
        ["user_id", "conversation_id", "external_id"],
        sqlite_where=HAS_EXTERNAL_ID,
        postgresql_where=HAS_EXTERNAL_ID,
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_index("ix_messages_external", "messages")
    steps.drop_column("messages", "output_kind")
    steps.drop_column("messages", "external_id")
    steps.drop_index("uq_conversations_external", "conversations")
    steps.drop_column("conversations", "external_id")
