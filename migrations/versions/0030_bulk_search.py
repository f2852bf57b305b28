"""On SQLite: the trigger of the search index leaves out what is in the index already, as of many messages at once."""

from migrations import steps

revision = "0030"
down_revision = "0029"

_INSERT = (
    "INSERT INTO message_index (rowid, terms) "
    "VALUES (new.number, replace(new.terms, ' ', ' ' || substr(new.user_id, -6)))"
)
_IS_NEW = "NOT EXISTS (SELECT 1 FROM message_index_docsize WHERE id = new.number)"


def upgrade() -> None:
    _replace_trigger(f"WHEN {_IS_NEW}")


def downgrade() -> None:
    _replace_trigger("")


def _replace_trigger(condition: str) -> None:
    if steps.is_on_sqlite():
        steps.execute("DROP TRIGGER IF EXISTS message_terms_inserted")
        steps.execute(
            f"CREATE TRIGGER IF NOT EXISTS message_terms_inserted AFTER INSERT ON message_terms "
            f"{condition} BEGIN {_INSERT}; END"
        )
