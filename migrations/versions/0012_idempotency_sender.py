"""Who got the response that is stored with an Idempotency-Key; none where an older release has stored it."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("idempotency_keys", sa.Column("sender", sa.String(100)))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("idempotency_keys", "sender")
