"""Which attachments were left out of what a completion sent."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("completions", sa.Column("omitted_attachments", sa.Text))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("completions", "omitted_attachments")
