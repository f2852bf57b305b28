"""The words of messages, for full-text search."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

from chat_api.search_index.rebuild import index_missing
from migrations.distribution import distribute, prepare_distribution

revision = "0006"
down_revision = "0005"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
VECTOR = sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql")

# FTS5 keeps no copy of the text (external content); these keep it equal to the table, also when a key cascades
OWNED = "replace({row}.terms, ' ', ' ' || substr({row}.user_id, -6))"
ON_SQLITE = (
    "CREATE VIEW message_index_content AS SELECT number, "
    f"{OWNED.format(row='message_terms')} AS terms FROM message_terms",
    "CREATE VIRTUAL TABLE message_index USING fts5(terms, content = 'message_index_content', "
    "content_rowid = 'number', tokenize = \"ascii tokenchars '~'\")",
    "CREATE TRIGGER message_terms_inserted AFTER INSERT ON message_terms BEGIN "
    f"INSERT INTO message_index (rowid, terms) VALUES (new.number, {OWNED.format(row='new')}); END",
    "CREATE TRIGGER message_terms_deleted AFTER DELETE ON message_terms BEGIN "
    "INSERT INTO message_index (message_index, rowid, terms) "
    f"VALUES ('delete', old.number, {OWNED.format(row='old')}); END",
)


def upgrade() -> None:
    prepare_distribution()
    op.create_table(
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
    if op.get_context().dialect.name == "postgresql":
        # no statistics: how a search is planned must not depend on who has how many messages
        for column in ("user_id", "message_id", "terms"):
            op.execute(f"ALTER TABLE message_terms ALTER COLUMN {column} SET STATISTICS 0")
    distribute("message_terms")
    op.create_index(
        "uq_message_terms_number",
        "message_terms",
        ["user_id", "number"],
        unique=True,
        postgresql_where=sa.text("number IS NOT NULL"),
    )
    op.create_index(
        "ix_message_terms_terms",
        "message_terms",
        ["terms"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": 256},
        sqlite_where=sa.text("terms IS NULL"),
    )
    if op.get_context().dialect.name == "sqlite":
        for statement in ON_SQLITE:
            op.execute(statement)
    if not context.is_offline_mode():  # after an upgrade by script: flask search rebuild
        index_existing_messages()


def index_existing_messages() -> None:
    """On Postgres batch by batch, while the service goes on; SQLite writes faster in one transaction."""
    if op.get_context().dialect.name == "sqlite":
        index_missing(op.get_bind())
        return
    with op.get_context().autocommit_block():
        index_missing(op.get_bind())


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE message_index")
        op.execute("DROP VIEW message_index_content")
    op.drop_table("message_terms")
