"""Statements on the search index that are written out, as Postgres alone and as Citus needs them."""

from typing import Any

import sqlalchemy as sa

from ..database.columns import Id
from ..database.statements import Statement

# Stands in front of a condition that names the owner where Postgres' planner does not see it. Citus sees nothing
# there either and would ask every node, so with it the owner is named again, for all to see.
OWNER = "<owner>"


def statement_of_ids(sql: str, **kinds: Any) -> Statement:
    """A statement whose rows begin with the id of a message. `kinds` are the types of its parameters."""
    parameters = [sa.bindparam(name, type_=kind) for name, kind in kinds.items()]
    on_postgres, on_citus = (
        sa.text(sql.replace(OWNER, equality)).bindparams(*parameters).columns(message_id=Id())
        for equality in ("", "user_id = :user_id AND")
    )
    return Statement(on_postgres, on_citus=on_citus)
