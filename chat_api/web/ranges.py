"""Conditional requests and ranges of a resource whose bytes never change (RFC 9110, sections 13 and 14).

Several ranges in one request are answered by the whole, as section 14.2 allows, unless they join to one: nobody needs
them to go on with a download or to seek in a video.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from flask import request
from werkzeug.http import http_date, parse_date

from ..errors import PreconditionFailed, RangeNotSatisfiable
from .responses import REVALIDATE

MAX_RANGES = 50
_RANGES = re.compile(r"bytes[ \t]*=(?P<ranges>.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(?P<first>[0-9]*)-(?P<last>[0-9]*)", re.ASCII)
_MOST_DIGITS = 18


class Representation(NamedTuple):
    """What is known of the bytes."""

    etag: str  # without quotes; a strong one
    modified_at: datetime
    size_bytes: int

    @property
    def headers(self) -> dict[str, str]:
        """What a client needs to come back for it; also with 304 (RFC 9110 section 15.4.5)."""
        return {
            "ETag": f'"{self.etag}"',
            "Last-Modified": http_date(self.modified_at),
            "Cache-Control": REVALIDATE,
            "Accept-Ranges": "bytes",
        }


class Selection(NamedTuple):
    """What of the bytes is to be sent: those from `start` to before `stop`."""

    status: int
    start: int
    stop: int
    headers: dict[str, str]


def is_not_modified(representation: Representation) -> bool:
    """Whether the client has the current bytes already. Raises PreconditionFailed (412).

    In the order of RFC 9110 section 13.2.2. A date that can't be read counts as not sent.
    """
    headers = request.headers
    modified_at = representation.modified_at.astimezone(UTC).replace(microsecond=0)
    if "If-Match" in headers:
        if not (request.if_match.star_tag or request.if_match.is_strong(representation.etag)):
            raise PreconditionFailed()
    elif (
        unchanged_since := parse_date(headers.get("If-Unmodified-Since"))
    ) and modified_at > unchanged_since:
        raise PreconditionFailed()
    if "If-None-Match" in headers:
        return request.if_none_match.star_tag or request.if_none_match.contains_weak(representation.etag)
    seen_at = parse_date(headers.get("If-Modified-Since"))
    return seen_at is not None and modified_at <= seen_at


def selected(representation: Representation) -> Selection:
    """The range that the request names, or the whole. Raises RangeNotSatisfiable (416).

    A header that is malformed, has another unit or is for other bytes than these counts as not sent (sections 14.2 and
    13.1.5), and so does one with a method other than GET.
    """
    size = representation.size_bytes
    whole = Selection(200, 0, size, {"Content-Length": str(size)})
    header = request.headers.get("Range")
    if header is None or request.method != "GET" or not size or not _is_for(representation):
        return whole
    ranges = _ranges(header, size)
    if ranges is None:
        return whole
    joined = _joined(ranges)
    if not joined:
        raise RangeNotSatisfiable(size)
    if len(joined) > 1:
        return whole
    start, stop = joined[0]
    headers = {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Selection(206, start, stop, headers)


def _is_for(representation: Representation) -> bool:
    """Whether If-Range, where it is sent, names these bytes: by their strong tag or by exactly their date."""
    value = request.headers.get("If-Range")
    if value is None:
        return True
    if value.strip().startswith(('"', "W/")):
        return value.strip() == f'"{representation.etag}"'
    return parse_date(value) == representation.modified_at.astimezone(UTC).replace(microsecond=0)


def _ranges(header: str, size: int) -> list[tuple[int, int]] | None:
    """The ranges that have bytes, as start and stop; None for a header that does not count."""
    matched = _RANGES.fullmatch(header.strip())
    if matched is None:
        return None
    specs = [spec for text in matched["ranges"].split(",") if (spec := text.strip(" \t"))]
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    found = []
    for spec in specs:
        parts = _RANGE.fullmatch(spec)
        if parts is None or spec == "-":
            return None
        first, last = (_number(parts[name]) for name in ("first", "last"))
        if first is None:
            start, stop = max(0, size - (last or 0)), size
        elif last is not None and last < first:
            return None
        else:
            start, stop = first, size if last is None else min(last + 1, size)
        if start < stop:
            found.append((start, stop))
    return found


def _number(digits: str) -> int | None:
    """Its value, None for none. What is larger than any file is as good as that."""
    if not digits:
        return None
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _MOST_DIGITS else 10**_MOST_DIGITS


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ranges as possible."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined
