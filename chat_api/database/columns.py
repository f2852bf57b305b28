"""What tables are made of: ids, times and the owner that every row has."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import uuid_utils
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator

from .dialect import is_postgres

_TICK = timedelta(microseconds=1)  # of a stored time
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class _Latest:
    """What this process has handed out last, of ids and of times that order rows."""

    tick = 0  # the first 60 bits of an id, without its version
    moment = datetime.min.replace(tzinfo=UTC)
    lock = threading.Lock()


def new_id() -> str:
    """Make a UUID of version 7 (RFC 9562 section 5.7): ids of one process sort in the order they were made, also
    where the clock steps back.

    Within a millisecond it counts in the 12 bits after that (section 6.2, method 1). `uuid_utils` counts in later ones,
    for whose order SQLite's full-text index has no room (`search_index.lexemes`).
    """
    fresh = str(uuid_utils.uuid7())
    tick = int(fresh[:8] + fresh[9:13] + fresh[15:18], 16)
    with _Latest.lock:
        if tick <= _Latest.tick:
            tick = _Latest.tick + 1
            fresh = f"{tick >> 28:08x}-{tick >> 12 & 0xFFFF:04x}-7{tick & 0xFFF:03x}{fresh[18:]}"
        _Latest.tick = tick
    return fresh


def now() -> datetime:
    """The time in UTC, aware."""
    return datetime.now(UTC)


def ordered_now() -> datetime:
    """The time, for what orders rows: later than all that this process has handed out before, also where the clock
    steps back. Not for what compares times with the clock."""
    with _Latest.lock:
        _Latest.moment = moment = max(now(), _Latest.moment + _TICK)
    return moment


def seconds_of(moment: datetime | str) -> float:
    """Seconds since 1970 of a time as a compiled statement returns it: a datetime from Postgres, text from SQLite."""
    return (moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)).timestamp()


def time_text(moment: datetime | None) -> str | None:
    """A time as SQLite keeps it, in TIME_FORMAT, which `strftime` takes several times as long for."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Id(TypeDecorator[str]):
    """A UUID: `uuid` on Postgres, its 36 characters on SQLite, always a string in Python."""

    impl = sa.String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if is_postgres(dialect):
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(sa.String(36))


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: `timestamptz` on Postgres, RFC 3339 text of fixed width on SQLite, aware in Python.

    SQLite has no type for times, and the stock one loses the zone; text of fixed width sorts by time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        if is_postgres(dialect):
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        return dialect.type_descriptor(sa.String(27))

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None or is_postgres(dialect):
            return value
        return time_text(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None or is_postgres(dialect):
            return value
        return datetime.strptime(value, TIME_FORMAT).replace(tzinfo=UTC)


class OwnedByUser:
    """A row that belongs to a user: keyed `(user_id, id)` and erased with the account.

    Only tables at the top of a user's tree use this; their children reach `users` through the composite foreign key
    to the parent, which spares a second check on every insert.
    """

    @declared_attr
    def user_id(cls) -> Mapped[str]:
        owner = sa.ForeignKey("users.id", ondelete="CASCADE")
        return mapped_column(Id, owner, primary_key=True, sort_order=-2)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id, sort_order=-1)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now, sort_order=1)
