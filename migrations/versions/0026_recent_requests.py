"""What recent requests have made whose clients count their tries, so that a retry makes nothing a second time."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0026"
down_revision = "0025"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    steps.create_table(
        "recent_requests",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("object_ids", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_recent_requests"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_recent_requests_users", ondelete="CASCADE"
        ),
    )
    steps.create_index("ix_recent_requests_user_id_digest", "recent_requests", ["user_id", "digest"])


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("recent_requests")
