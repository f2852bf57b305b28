"""What an upload is for that came in by OpenAI's dialect."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("attachment_drafts", sa.Column("purpose", sa.String(32)))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("attachment_drafts", "purpose")
