"""Links for a single use that were used, until they would have expired by themselves."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0022"
down_revision = "0021"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    steps.create_table(
        "used_links",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_used_links"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_used_links_users", ondelete="CASCADE"),
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("used_links")
