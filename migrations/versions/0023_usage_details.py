"""Of which kinds the tokens of a completion are, where its provider says so: from a cache, and thoughts."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("completions", sa.Column("cached_tokens", sa.Integer))
    steps.add_column("completions", sa.Column("reasoning_tokens", sa.Integer))


def downgrade() -> None:
    prepare_distribution()
    steps.drop_column("completions", "reasoning_tokens")
    steps.drop_column("completions", "cached_tokens")
