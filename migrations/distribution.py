"""Distributing tables over the nodes of a Citus cluster, where Postgres has that extension; nothing elsewhere.

Each table is distributed right after it is created, parents before children: that is the order in which Citus
accepts foreign keys (house rule: every owned table is distributed by its `user_id`).
"""

import sqlalchemy as sa
from alembic import context, op


def prepare_distribution() -> None:
    """Call first in an upgrade or downgrade: one transaction changes reference and distributed tables, node by node."""
    if _has_citus():
        op.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")


def distribute(table: str, column: str = "user_id", *, colocate_with: str = "default") -> None:
    """Spread a table over the nodes by a column; tables of one owner column stay together."""
    if _has_citus():
        op.execute(
            f"SELECT create_distributed_table('{table}', '{column}', colocate_with => '{colocate_with}')"
        )


def refer(table: str) -> None:
    """Keep a copy of a small table on every node, so that owned tables can refer to it."""
    if _has_citus():
        op.execute(f"SELECT create_reference_table('{table}')")


def _has_citus() -> bool:
    """Whether the database has the extension; a script that is written offline is for plain Postgres."""
    if context.is_offline_mode() or op.get_bind().dialect.name != "postgresql":
        return False
    return op.get_bind().scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'citus'")) is not None
