"""The texts of documents in the search: which files are still to be read, and which messages to be indexed again."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0017"
down_revision = "0016"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
INDEX = "ix_stored_files_without_text"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column(
        "stored_files", sa.Column("text_attempts", sa.Integer, nullable=False, server_default="0")
    )
    steps.create_table(
        "search_updates",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "message_id", name="pk_search_updates"),
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"],
            ["messages.user_id", "messages.id"],
            name="fk_search_updates_messages",
            ondelete="CASCADE",
        ),
    )
    waiting = sa.text("text_state IS NULL")
    steps.create_index_concurrently(
        INDEX, "stored_files", ["user_id", "id"], postgresql_where=waiting, sqlite_where=waiting
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_index(INDEX, "stored_files")
    steps.drop_table("search_updates")
    steps.drop_column("stored_files", "text_attempts")
