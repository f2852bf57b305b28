"""Which bytes a request is answered with (RFC 9110, sections 13 and 14)."""

from datetime import UTC, datetime

import pytest
from flask import Flask

from chat_api.errors import PreconditionFailed, RangeNotSatisfiable
from chat_api.web.ranges import Representation, is_not_modified, selected

ETAG = "0f" * 32
MODIFIED_AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
SAME, EARLIER, LATER = (f"Wed, 04 Mar 2026 05:06:{second} GMT" for second in ("07", "06", "08"))
REPRESENTATION = Representation(ETAG, MODIFIED_AT, 100)
EMPTY = Representation(ETAG, MODIFIED_AT, 0)
app = Flask(__name__)


def select(method: str = "GET", of: Representation = REPRESENTATION, **headers: str) -> tuple[int, int, int]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with app.test_request_context(method=method, headers=named):
        selection = selected(of)
    assert selection.headers["Content-Length"] == str(selection.stop - selection.start)
    assert ("Content-Range" in selection.headers) == (selection.status == 206)
    return selection.status, selection.start, selection.stop


def not_modified(method: str = "GET", **headers: str) -> bool:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with app.test_request_context(method=method, headers=named):
        return is_not_modified(REPRESENTATION)


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=90-1000", 90, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-1000", 0, 100),
        ("BYTES=0-9", 0, 10),
        ("bytes=0-" + "9" * 5000, 0, 100),
        ("bytes=" + "0" * 5000 + "5-9", 5, 10),
        ("bytes= 5-9 ", 5, 10),
        ("bytes=,5-9,", 5, 10),
        ("bytes=0-9,10-19", 0, 20),
        ("bytes=5-30, 0-9", 0, 31),
        ("bytes=0-9,500-600", 0, 10),
        ("bytes=-0,5-9", 5, 10),
    ],
)
def test_one_range_is_a_part(value: str, start: int, stop: int) -> None:
    assert select(Range=value) == (206, start, stop)


@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5", "bytes=9-5", "bytes=0-9,9-5", "bytes=--5",
        "bytes=1-2-3", "bytes=٣-٥", "bytes=+1-5", "bytes=0x1-5", "items=0-5", "bytes 0-5", "bytes=0-5;", "bytes=1 - 5",
        "bytes=0-1,4-5", "bytes=0-0,-1",
    ],
)  # fmt: skip
def test_malformed_foreign_and_several_ranges_are_the_whole(value: str) -> None:
    assert select(Range=value) == (200, 0, 100)


def test_too_many_ranges_are_the_whole() -> None:
    assert select(Range="bytes=" + ",".join(["0-9"] * 51)) == (200, 0, 100)
    assert select(Range="bytes=" + ",".join(["0-9"] * 50)) == (206, 0, 10)


@pytest.mark.parametrize(
    "value", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=500-,100-", f"bytes={'9' * 900}-"]
)
def test_range_without_bytes_is_416(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        select(Range=value)
    assert refused.value.headers["Content-Range"] == "bytes */100"


def test_range_of_nothing_and_of_other_methods_is_the_whole() -> None:
    assert select(of=EMPTY, Range="bytes=0-") == (200, 0, 0)
    assert select(method="HEAD", Range="bytes=0-5") == (200, 0, 100)


@pytest.mark.parametrize("value", [f'"{ETAG}"', SAME])
def test_if_range_with_these_bytes_is_the_range(value: str) -> None:
    assert select(Range="bytes=0-5", If_Range=value) == (206, 0, 6)


@pytest.mark.parametrize("value", ['"other"', f'W/"{ETAG}"', ETAG, EARLIER, LATER, "", "yesterday", "*"])
def test_if_range_with_other_bytes_is_the_whole(value: str) -> None:
    assert select(Range="bytes=0-5", If_Range=value) == (200, 0, 100)
    assert select(Range="bytes=500-", If_Range=value) == (200, 0, 100)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"If_None_Match": f'"{ETAG}"'}, True),
        ({"If_None_Match": f'W/"{ETAG}"'}, True),
        ({"If_None_Match": f'"other", "{ETAG}"'}, True),
        ({"If_None_Match": "*"}, True),
        ({"If_None_Match": '"other"'}, False),
        ({"If_Modified_Since": SAME}, True),
        ({"If_Modified_Since": LATER}, True),
        ({"If_Modified_Since": EARLIER}, False),
        ({"If_Modified_Since": "yesterday"}, False),
        ({"If_None_Match": '"other"', "If_Modified_Since": LATER}, False),
        ({"If_None_Match": f'"{ETAG}"', "If_Modified_Since": EARLIER}, True),
        ({"If_Match": f'"{ETAG}"'}, False),
        ({"If_Match": "*"}, False),
        ({"If_Match": f'"{ETAG}"', "If_Unmodified_Since": EARLIER}, False),
        ({"If_Unmodified_Since": SAME}, False),
        ({"If_Unmodified_Since": "yesterday"}, False),
    ],
)
def test_what_the_client_has_is_not_sent_again(method: str, headers: dict[str, str], expected: bool) -> None:
    assert not_modified(method, **headers) is expected


@pytest.mark.parametrize(
    "headers",
    [
        {"If_Match": '"other"'},
        {"If_Match": f'W/"{ETAG}"'},
        {"If_Match": '"other"', "If_None_Match": f'"{ETAG}"'},
        {"If_Unmodified_Since": EARLIER},
    ],
)
def test_other_bytes_than_expected_are_412(headers: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailed):
        not_modified(**headers)
