"""Which completions clients of a dialect list as objects of their own, and the metadata that they have."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0029"
down_revision = "0028"

IS_KEPT = sa.text("is_listed IS NOT NULL")


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("completions", sa.Column("is_listed", sa.Boolean))
    steps.add_column("completions", sa.Column("client_metadata", sa.Text))
    steps.create_index_concurrently(
        "ix_completions_kept",
        "completions",
        ["user_id", "id"],
        sqlite_where=IS_KEPT,
        postgresql_where=IS_KEPT,
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_index("ix_completions_kept", "completions")
    steps.drop_column("completions", "client_metadata")
    steps.drop_column("completions", "is_listed")
