"""Paths and links of attachments may have 4,096 characters: signed links of object stores are long."""

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    prepare_distribution()
    steps.widen_text("attachments", "file_path", 4096)


def downgrade() -> None:
    """The column stays wide: what is stored may need it, and the release before does not mind."""
