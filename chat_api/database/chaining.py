"""The hash of a chain: of the hash up to here and the digest of what comes next, in Python and in statements."""

import hashlib
from typing import Any

import sqlalchemy as sa

from .columns import Id

_BYTES = 16  # of a hash, which has the type of an id


def chained(before: str | None, digest: str | None) -> str | None:
    """The hash of a chain that goes on from a hash; from "" at its beginning.

    None where what was before has none, or what comes next has no digest: the chain ends there.
    """
    if before is None or digest is None:
        return None
    whole = hashlib.sha256((before + digest).encode()).hexdigest()
    # as a UUID is written; a hundred of them are made for a history of a hundred messages
    return f"{whole[:8]}-{whole[8:12]}-{whole[12:16]}-{whole[16:20]}-{whole[20:32]}"


def chained_in_sql(on_postgres: bool, before_id: Any, before: Any, digest: Any) -> sa.ColumnElement[Any]:
    """The same in a statement, where `before_id` names the row with the hash `before`, or is NULL at the beginning."""
    begin = sa.case((before_id.is_(None), sa.literal_column("''")), else_=sa.cast(before, sa.Text()))
    if not on_postgres:
        return sa.func.chained(begin, digest)
    whole = sa.func.sha256(sa.func.convert_to(begin.concat(digest), sa.literal_column("'UTF8'")))
    first = sa.func.substring(whole, sa.literal_column("1"), sa.literal_column(str(_BYTES)))
    return sa.cast(sa.func.encode(first, sa.literal_column("'hex'")), Id())
