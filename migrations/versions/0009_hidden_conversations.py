"""Conversations that nobody sees: those that are being imported or deleted, batch by batch."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0009"
down_revision = "0008"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
IS_HIDDEN = sa.text("hidden_by IS NOT NULL")


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("conversations", sa.Column("hidden_by", ID))
    steps.create_index_concurrently(
        "ix_conversations_hidden",
        "conversations",
        ["user_id", "id"],
        sqlite_where=IS_HIDDEN,
        postgresql_where=IS_HIDDEN,
    )


def downgrade() -> None:
    """What is not whole goes: without the column everybody would see it."""
    prepare_distribution()
    steps.update_in_one("DELETE FROM conversations WHERE hidden_by IS NOT NULL")
    steps.drop_index("ix_conversations_hidden", "conversations")
    steps.drop_column("conversations", "hidden_by")
