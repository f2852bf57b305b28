"""Indexes of active paths, of the list of conversations and of what hangs on a message; the service goes on writing."""

import sqlalchemy as sa

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0005"
down_revision = "0004"

INDEXES = (
    ("ix_messages_path", "messages", ["user_id", "conversation_id", "position"], "on_path"),
    ("ix_conversations_recent", "conversations", ["user_id", "archived", "updated_at", "id"], None),
    ("ix_conversations_pinned", "conversations", ["user_id", "archived", "updated_at", "id"], "pinned"),
    ("ix_completions_user_id_parent_id", "completions", ["user_id", "parent_id"], None),
)


def upgrade() -> None:
    for name, table, columns, condition in INDEXES:
        where = sa.text(condition) if condition else None
        steps.create_index_concurrently(name, table, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    prepare_distribution()
    for name, table, *_ in INDEXES:
        steps.drop_index(name, table)
