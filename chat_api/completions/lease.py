"""How long a worker is believed to live without a word: its lease on the replies that it writes.

Leases are given and judged by one clock, the database's, so those of the machines may differ. On SQLite, which has one
machine, that is the machine's.
"""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..database.columns import UTCDateTime
from .models import Completion

LEASE = timedelta(seconds=15)  # a worker that did not renew for so long is taken for dead
# how far the database's clock may step back, or be apart from that of a machine which still runs a release whose
# leases are by the machines' clocks
CLOCKS_DIFFER = timedelta(minutes=1)


class _FromNow(FunctionElement[Any]):
    """So many seconds after the beginning of the statement."""

    type = UTCDateTime()
    inherit_cache = True
    name = "from_now"


@compiles(_FromNow, "postgresql")
def _on_postgres(element: _FromNow, compiler: Any, **options: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(_FromNow, "sqlite")
def _on_sqlite(element: _FromNow, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%dT%H:%M:%f', 'now', {seconds} || ' seconds') || '000Z')"  # as UTCDateTime


def _from_now(duration: timedelta) -> Any:
    return _FromNow(sa.literal_column(str(int(duration.total_seconds()))))


NEXT_END = _from_now(LEASE)
"""Until when a lease lasts that is given or renewed now."""
IS_OVER = sa.or_(
    Completion.lease_expires_at < _from_now(timedelta()),
    # It can't have been given by a clock that is right: one that ran ahead and was set back leaves leases that would
    # last until it has caught up.
    Completion.lease_expires_at > _from_now(LEASE + CLOCKS_DIFFER),
)
"""Whether a lease has ended."""
