"""Which of the two databases this is; nothing else decides it."""

import sqlalchemy as sa


def is_postgres(where: sa.Engine | sa.Connection | sa.Dialect) -> bool:
    """Whether an engine, a connection or a dialect is Postgres'; else it is SQLite's."""
    dialect = where if isinstance(where, sa.Dialect) else where.dialect
    return dialect.name == "postgresql"
