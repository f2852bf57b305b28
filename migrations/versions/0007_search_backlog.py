"""Whose messages are not all indexed yet: at first everybody's. The service indexes them while it runs."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0007"
down_revision = "0006"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
GREATEST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def upgrade() -> None:
    prepare_distribution()
    steps.create_table(
        "search_backlog",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("upto_id", ID, nullable=False),
        sa.Column("replaces", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_search_backlog"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_search_backlog_users", ondelete="CASCADE"
        ),
    )
    steps.insert_missing(
        "search_backlog",
        ["user_id", "upto_id", "replaces"],
        f"SELECT id, '{GREATEST_ID}', false FROM users WHERE true",
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("search_backlog")
