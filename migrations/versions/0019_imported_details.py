"""What the newest imported file said of a conversation, so that what was changed since is not overwritten."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("conversations", sa.Column("imported", sa.Text))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("conversations", "imported")
