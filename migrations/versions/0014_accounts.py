"""Refresh tokens that were just used, and invitations to register."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0014"
down_revision = "0013"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("logins", sa.Column("used_refresh_tokens", sa.Text))
    steps.create_table(
        "invitations",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_invitations"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_invitations_users", ondelete="CASCADE"),
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("invitations")
    steps.drop_column("logins", "used_refresh_tokens")
