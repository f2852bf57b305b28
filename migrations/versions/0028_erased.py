"""Which parts of a message were erased."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("messages", sa.Column("erased", sa.Text))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("messages", "erased")
