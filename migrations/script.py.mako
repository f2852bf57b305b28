"""${message}."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(27).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    prepare_distribution()
    ${downgrades if downgrades else "pass"}
