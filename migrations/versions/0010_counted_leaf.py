"""For which active leaf the length of the path was counted, so that a leaf that an older release moved is noticed."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0010"
down_revision = "0009"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Nothing is filled in: the service counts again where this is not the active leaf."""
    prepare_distribution()
    steps.add_column("conversations", sa.Column("counted_leaf_id", ID))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("conversations", "counted_leaf_id")
