"""What a provider needs besides its address, what it wants back with a message, and what it says besides text."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0013"
down_revision = "0012"

COLUMNS = {
    "llm_providers": (
        ("catalog", sa.String(64)),
        ("auth", sa.String(64)),
        ("encrypted_headers", sa.Text),
        ("extra_body", sa.Text),
        ("request_options", sa.Text),
        ("learned_options", sa.Text),
    ),
    "messages": (("sources", sa.Text), ("provider_state", sa.Text)),
    "completions": (("warnings", sa.Text),),
}


def upgrade() -> None:
    prepare_distribution()
    for table, columns in COLUMNS.items():
        for name, kind in columns:
            steps.add_column(table, sa.Column(name, kind))


def downgrade() -> None:
    prepare_distribution()
    for table, columns in reversed(COLUMNS.items()):
        for name, _ in reversed(columns):
            steps.drop_column(table, name)
