"""Values of other products' files as text and times of ours, whatever stands where they should be."""

from datetime import UTC, datetime, timedelta
from typing import Any

from .ids import EPOCH

_LATEST_S = 253_370_764_800  # the year 9999
_LATEST_NS = _LATEST_S * 10**9
_MAX_TIME_LENGTH = 40
# from here on a number counts thousandths, millionths or billionths of a second: as seconds it were after the year 5138
_SMALLER_UNITS = 100_000_000_000
_UNITS = 3


def string(value: Any) -> str:
    """A value that should be a string: empty where it is not one."""
    return value if isinstance(value, str) else ""


def first_string(source: dict[str, Any], *names: str) -> str:
    """The first of these members that is a string with something in it."""
    return next((source[name] for name in names if string(source.get(name))), "")


def flag(source: dict[str, Any], name: str) -> bool | None:
    """Whether this member is true; None where there is none."""
    return source[name] is True if source.get(name) is not None else None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none where it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def storable(text: str) -> str:
    """The text without what no database holds: NUL is dropped, half a surrogate pair becomes U+FFFD."""
    text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def note(kind: str, name: str) -> str:
    """What stands for something that is not in the text."""
    name = " ".join(storable(name).split())
    return f"[{kind}: {name}]" if name else f"[{kind}]"


def time_of(value: Any) -> datetime | None:
    """A time that is given as a number since 1970, as such a number in a string, or as ISO 8601; None for others."""
    if isinstance(value, str):
        return _time_of_text(value.strip()) if len(value) <= _MAX_TIME_LENGTH else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST_NS:
        return None
    for _ in range(_UNITS):
        if value >= _SMALLER_UNITS:
            value /= 1000
    return EPOCH + timedelta(microseconds=round(value * 1_000_000)) if value < _LATEST_S else None


def _time_of_text(text: str) -> datetime | None:
    try:
        return time_of(float(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if 0 <= (moment - EPOCH).total_seconds() < _LATEST_S else None
