"""What further dialects of the API need: slugs of providers, metadata and source of conversations, chain hashes.

Messages that are there get no chain hash: it would cost writing all of them again.
"""

import re

import sqlalchemy as sa
from alembic import context
from sqlalchemy.dialects import postgresql

from migrations import steps
from migrations.distribution import prepare_distribution

revision = "0021"
down_revision = "0020"

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
IS_SHARED = sa.text("owner_id IS NULL")
HAS_CHAIN = sa.text("chain_hash IS NOT NULL")
AT_ONCE = 1000
MAX_LENGTH = 63

NEXT_OWNERS = sa.text(
    "SELECT id, owner_id, name FROM llm_providers WHERE slug IS NULL ORDER BY owner_id, id LIMIT :at_once"
)
TAKEN = sa.text("SELECT slug FROM llm_providers WHERE slug IS NOT NULL AND owner_id = :owner_id")
TAKEN_SHARED = sa.text("SELECT slug FROM llm_providers WHERE slug IS NOT NULL AND owner_id IS NULL")
SET = sa.text("UPDATE llm_providers SET slug = :slug WHERE id = :id AND slug IS NULL")


def upgrade() -> None:
    prepare_distribution()
    steps.add_column("llm_providers", sa.Column("slug", sa.String(MAX_LENGTH)))
    steps.add_column("conversations", sa.Column("client_metadata", sa.Text))
    steps.add_column(
        "conversations", sa.Column("source", sa.String(16), nullable=False, server_default="native")
    )
    steps.add_column("messages", sa.Column("chain_hash", ID))
    if not context.is_offline_mode():  # else they stay without, and get one when they are changed
        steps.update_in_batches(fill_slugs)
    steps.create_index_concurrently(
        "uq_llm_providers_slug", "llm_providers", ["owner_id", "slug"], unique=True
    )
    steps.create_index_concurrently(
        "uq_llm_providers_shared_slug",
        "llm_providers",
        ["slug"],
        unique=True,
        sqlite_where=IS_SHARED,
        postgresql_where=IS_SHARED,
    )
    steps.create_index_concurrently(
        "ix_messages_chain",
        "messages",
        ["user_id", "chain_hash"],
        sqlite_where=HAS_CHAIN,
        postgresql_where=HAS_CHAIN,
    )


def downgrade() -> None:
    prepare_distribution()
    steps.drop_index("ix_messages_chain", "messages")
    steps.drop_column("messages", "chain_hash")
    steps.drop_column("conversations", "source")
    steps.drop_column("conversations", "client_metadata")
    steps.drop_index("uq_llm_providers_shared_slug", "llm_providers")
    steps.drop_index("uq_llm_providers_slug", "llm_providers")
    steps.drop_column("llm_providers", "slug")


def fill_slugs(connection: sa.Connection) -> bool:
    """Give the next providers a slug each; whether there were any."""
    found = connection.execute(NEXT_OWNERS, {"at_once": AT_ONCE}).all()
    taken: dict[str | None, set[str]] = {}
    for id_, owner_id, name in found:
        if owner_id not in taken:
            query = TAKEN_SHARED if owner_id is None else TAKEN.bindparams(owner_id=owner_id)
            taken[owner_id] = set(connection.scalars(query))
        slug = free_slug(name, taken[owner_id])
        taken[owner_id].add(slug)
        connection.execute(SET, {"slug": slug, "id": id_})
    return bool(found)


def free_slug(name: str, taken: set[str]) -> str:
    """The name in lower-case letters, digits, dots, underscores and hyphens, with a number where that is taken."""
    slug = re.sub("[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:MAX_LENGTH].rstrip("-._") or "provider"
    free, number = slug, 2
    while free in taken:
        ending = f"-{number}"
        free, number = slug[: MAX_LENGTH - len(ending)] + ending, number + 1
    return free
