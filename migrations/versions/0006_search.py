"""The words of messages, for full-text search. The service writes those of messages that are there already."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0006"
down_revision = "0005"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
VECTOR = sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql")

# FTS5 keeps no copy of the text (external content); these keep it equal to the table, also when a key cascades
OWNED = "replace({row}.terms, ' ', ' ' || substr({row}.user_id, -6))"
ON_SQLITE = (
    "CREATE VIEW IF NOT EXISTS message_index_content AS SELECT number, "
    f"{OWNED.format(row='message_terms')} AS terms FROM message_terms",
    "CREATE VIRTUAL TABLE IF NOT EXISTS message_index USING fts5(terms, content = 'message_index_content', "
    "content_rowid = 'number', tokenize = \"ascii tokenchars '~'\")",
    "CREATE TRIGGER IF NOT EXISTS message_terms_inserted AFTER INSERT ON message_terms BEGIN "
    f"INSERT INTO message_index (rowid, terms) VALUES (new.number, {OWNED.format(row='new')}); END",
    "CREATE TRIGGER IF NOT EXISTS message_terms_deleted AFTER DELETE ON message_terms BEGIN "
    "INSERT INTO message_index (message_index, rowid, terms) "
    f"VALUES ('delete', old.number, {OWNED.format(row='old')}); END",
)


def upgrade() -> None:
    prepare_distribution()
    steps.create_table(
        "message_terms",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("terms", VECTOR, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "message_id", name="pk_message_terms"),
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"],
            ["messages.user_id", "messages.id"],
            name="fk_message_terms_messages",
            ondelete="CASCADE",
        ),
    )
    # no statistics: how a search is planned must not depend on who has how many messages
    steps.keep_no_statistics("message_terms", "user_id", "message_id", "terms")
    steps.create_index(
        "uq_message_terms_number",
        "message_terms",
        ["user_id", "number"],
        unique=True,
        postgresql_where=sa.text("number IS NOT NULL"),
    )
    steps.create_index(
        "ix_message_terms_terms",
        "message_terms",
        ["terms"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 256},
        sqlite_where=sa.text("terms IS NULL"),
    )
    if steps.is_on_sqlite():
        for statement in ON_SQLITE:
            steps.execute(statement)


def downgrade() -> None:
    prepare_distribution()
    if steps.is_on_sqlite():
        steps.execute("DROP TABLE IF EXISTS message_index")
        steps.execute("DROP VIEW IF EXISTS message_index_content")
    steps.drop_table("message_terms")
