"""What a client of another dialect asked for, so that its answers can repeat it."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("completions", sa.Column("asked", sa.Text))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("completions", "asked")
