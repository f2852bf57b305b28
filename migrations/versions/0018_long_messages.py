"""The words of long messages that one row on Postgres has no room for. `flask search rebuild` writes those of messages
that are there already."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0018"
down_revision = "0017"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
VECTOR = sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql")


def upgrade() -> None:
    prepare_distribution()
    steps.create_table(
        "long_message_terms",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("terms", VECTOR, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "message_id", "part", name="pk_long_message_terms"),
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"],
            ["message_terms.user_id", "message_terms.message_id"],
            name="fk_long_message_terms_message_terms",
            ondelete="CASCADE",
        ),
    )
    # no statistics: how a search is planned must not depend on who has how many messages
    steps.keep_no_statistics("long_message_terms", "user_id", "message_id", "part", "terms")
    steps.create_index(
        "ix_long_message_terms_first",
        "long_message_terms",
        ["user_id", "message_id"],
        postgresql_where=sa.text("part = 1"),
        sqlite_where=sa.text("part = 1"),
    )
    steps.create_index(
        "ix_long_message_terms_terms",
        "long_message_terms",
        ["terms"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 256},
        sqlite_where=sa.text("terms IS NULL"),
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_table("long_message_terms")
