"""Files made to be expensive: reading ends early, says so, and keeps what was stored."""

import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask

from chat_api.transfer import budget, limits, products
from chat_api.transfer.formats import chatgpt
from chat_api.transfer.records import Fault
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.tables import owned_rows
from tests.transfer.exports import NDJSON, exported, file_of, imported, lines_of, message, send, whole
from tests.transfer.test_chatgpt import conversation, node, numbered, zipped

JSON, ZIP = "application/json", "application/zip"


def ended(report: dict[str, Any]) -> str:
    """Why reading ended; the last error says the same."""
    early = report["ended_early"]
    assert early is not None, report
    assert report["errors"][-1]["detail"] == early["detail"] or report["errors_omitted"]
    return str(early["reason"])


def array_of(number: int, rest: bytes) -> bytes:
    """An array that begins with a conversation, and goes on with this."""
    return numbered(number)[:-1] + b"," + rest + b"]"


def test_zip_of_zeros_ends_after_a_thousand_errors(ada: Api) -> None:
    bomb = zipped({"conversations.json": b"[" + b"0," * 500_000 + b"0]"})
    assert len(bomb) < 1500
    problem = assert_problem(send(ada, bomb, ZIP), 400)
    assert "1000 errors" in problem["detail"]


@pytest.mark.parametrize("rest", [b"0," * 100_000 + b"0", b"[]," * 50_000 + b"{}", b"," * 100_000 + b"0"])
def test_what_was_there_before_the_errors_stays(app: Flask, ada: Api, rest: bytes) -> None:
    report = imported(ada, array_of(1, rest), JSON)
    assert ended(report) == "too_many_errors"
    assert report["conversations"]["imported"] == 1
    assert len(report["errors"]) + report["errors_omitted"] == 1001
    assert owned_rows(app, ada.user_id)["messages"] == 1
    # it can be sent again, and the same is left
    assert imported(ada, array_of(1, rest), JSON)["conversations"]["unchanged"] == 1


@pytest.mark.parametrize("line", [b"x", b"{}", orjson.dumps(message({"id": "0"}, 1))])
def test_broken_lines_end_the_reading(app: Flask, ada: Api, line: bytes) -> None:
    first, second, third = whole(2), whole(2), whole(2)
    content = file_of(*first, *second, *[line] * 5000, *third)
    report = imported(ada, content)
    assert ended(report) == "too_many_errors"
    assert report["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 1}
    stored = {said["id"] for said in exported(ada) if said["type"] == "conversation"}
    assert stored == {first[0]["id"]}  # the second one's lines were broken, the third was not reached


def test_refused_conversations_count_as_errors(ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read well, and do not fit."""
    monkeypatch.setattr(budget, "MAX_FAULTS", 50)
    lines: list[Any] = []
    for _ in range(100):
        first, only = whole(1)
        lines += [first, only | {"parent_id": first["id"]}]
    report = imported(ada, file_of(*lines))
    assert ended(report) == "too_many_errors"
    assert report["conversations"]["failed"] < 55


def test_zip_may_unpack_to_a_hundred_times_its_size(app: Flask, ada: Api) -> None:
    many = array_of(1, b",".join(numbered(n)[1:-1] + b" " * 100_000 for n in range(2, 50)))
    bomb = zipped({"conversations.json": many})
    assert len(many) > 100 * len(bomb) > 1024 * 1024
    report = imported(ada, bomb, ZIP)
    assert ended(report) == "unpacks_too_far"
    assert "100 times its size" in report["ended_early"]["detail"]
    assert 0 < report["conversations"]["imported"] == owned_rows(app, ada.user_id)["conversations"] < 49
    assert report["conversations"]["failed"] == 0
    whole_file = imported(ada, many, JSON)
    assert whole_file["ended_early"] is None
    assert whole_file["conversations"]["imported"] + whole_file["conversations"]["unchanged"] == 49


def test_small_zip_may_unpack_further(ada: Api) -> None:
    """A short conversation with a long text that repeats is no bomb."""
    source = [conversation(node("a", None, "ha" * 250_000))]
    content = zipped({"conversations.json": json.dumps(source).encode()})
    assert len(content) * 100 < 500_000
    assert imported(ada, content, ZIP)["conversations"]["imported"] == 1


def test_entries_of_a_zip_are_counted_before_they_are_read(ada: Api) -> None:
    many = zipped({f"{number}": b"" for number in range(50_001)}, zipfile.ZIP_STORED)
    assert "50000 entries" in assert_problem(send(ada, many, ZIP), 400)["detail"]


@pytest.mark.parametrize("content_type", [NDJSON, JSON])
def test_time_for_reading_is_limited(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    """By the size of the file; storing does not count."""
    monkeypatch.setattr(budget, "READING_S", 0.2)
    monkeypatch.setattr(budget, "READING_S_PER_MIB", 0.0)
    if content_type == NDJSON:
        rest = b"\n" * 10_000_000
        content = file_of(*whole(2), *whole(2), end=False) + rest
    else:
        content = array_of(1, b"[" * 12 + b'["",' * 1_500_000 + b"1" + b"]" * 1_500_000 + b"]" * 12)
    report = imported(ada, content, content_type)
    assert ended(report) == "too_slow"
    assert report["conversations"]["imported"] == 1
    assert owned_rows(app, ada.user_id)["conversations"] == 1


def test_storing_is_no_reading(ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "READING_S", 0.05)
    assert imported(ada, file_of(*(line for _ in range(20) for line in whole(3))))["ended_early"] is None


def test_time_for_storing_is_limited_and_sending_the_file_again_goes_on(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "STORING_S_PER_MIB", 0.0)
    content = file_of(*(line for _ in range(20) for line in whole(3)))
    limit_s = 0.0
    reasons: list[str | None] = []
    while not reasons or reasons[-1] is not None:
        monkeypatch.setattr(budget, "STORING_S", limit_s)
        report = imported(ada, content)
        reasons.append(ended(report) if report["ended_early"] else None)
        stored = report["conversations"]["imported"] + report["conversations"]["unchanged"]
        assert owned_rows(app, ada.user_id)["conversations"] == stored
        limit_s = 2 * limit_s + 0.02
    assert reasons[0] == "too_slow"
    assert set(reasons[:-1]) == {"too_slow"}
    assert stored == 20


def test_number_of_conversations_is_limited(ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MAX_ELEMENTS", 3)
    many = array_of(1, b",".join(numbered(n)[1:-1] for n in range(2, 9)))
    report = imported(ada, many, JSON)
    assert ended(report) == "too_many_conversations"
    assert report["conversations"]["imported"] == 3


def test_conversation_with_too_many_nodes_or_values_is_left_out(ada: Api) -> None:
    nodes = b'{"mapping":{%b}}' % b",".join(b'"%d":{}' % number for number in range(100_001))
    values = b'{"mapping":{},"x":[%b]}' % b",".join([b"[]"] * 600_000)
    report = imported(ada, array_of(1, nodes + b"," + values), JSON)
    assert report["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 2}
    assert [error["detail"] for error in report["errors"]] == [
        "It has more than 50000 nodes.",
        "It has more than 500000 values.",
    ]


def test_why_there_is_no_conversation_is_in_the_problem(ada: Api) -> None:
    values = b'[{"mapping":{},"x":[%b]}]' % b",".join([b"[]"] * 600_000)
    assert "500000 values" in assert_problem(send(ada, values, JSON), 400)["detail"]


def test_line_with_too_many_values_is_left_out(ada: Api) -> None:
    first, only = whole(1)
    bomb = orjson.dumps(only)[:-1] + b',"x":[' + b"[]," * 600_000 + b"0]}"
    report = imported(ada, file_of(first, bomb, *whole(1)))
    assert report["conversations"]["imported"] == 1
    assert "500000 values" in report["errors"][0]["detail"]


def test_gzip_is_named(ada: Api) -> None:
    problem = assert_problem(send(ada, gzip.compress(file_of(*whole(1))), "application/octet-stream"), 400)
    assert "gzip" in problem["detail"]


@pytest.mark.parametrize(
    "content",
    [b"[" + b" " * 5_000_000, b"[0" + b" " * 5_000_000 + b"]", b"[" * 3_000_000, b'["' + b"\\n" * 3_000_000 + b'"]',
     b"[" + b"1" * 3_000_000 + b"]", b'[{"mapping":' * 2000, b"[{" + b'"mapping":{},' * 200_000 + b'"mapping":{}}]'],
    ids=["spaces", "trailing", "brackets", "escapes", "digits", "nested", "duplicates"],
)  # fmt: skip
def test_odd_arrays_are_answered(ada: Api, content: bytes) -> None:
    assert send(ada, content, JSON).status_code in (200, 400)


# -- trees: each costs what a chain of its size costs --------------------------------------------------------------

SIZE = 10_000


def chain() -> Iterator[tuple[str, Any]]:
    for number in range(SIZE):
        yield node(str(number), str(number - 1) if number else None, "x")


def fan() -> Iterator[tuple[str, Any]]:
    for number in range(SIZE):
        yield node(str(number), "0" if number else None, "x")


def circle() -> Iterator[tuple[str, Any]]:
    for number in range(SIZE):
        yield node(str(number), str((number - 1) % SIZE), "x" if number % 2 else None)


def invisible() -> Iterator[tuple[str, Any]]:
    for number in range(SIZE):
        yield node(str(number), str(number - 1) if number else None, "x" if number > SIZE - 100 else None)


def test_trees_of_any_shape_cost_the_same() -> None:
    def cost(source: Any) -> float:
        """The least CPU of three times, in seconds: a busy machine makes single ones longer."""
        costs = []
        for _ in range(3):
            began = budget.time.thread_time()
            for record in chatgpt.read_conversation(source, 1):
                assert not isinstance(record, Fault)
            costs.append(budget.time.thread_time() - began)
        return min(costs)

    most = 4 * cost(conversation(*chain())) + 0.1
    for name in ("x" * 500_000, ""):  # without one, all names of its nodes are its name
        source = conversation(*chain()) | {"conversation_id": name, "id": name}
        assert len(list(chatgpt.read_conversation(source, 1))) == SIZE + 1
        assert cost(source) < most
    for shape in (fan, circle, invisible):
        assert cost(conversation(*shape())) < most, shape


# -- zips whose headers lie ----------------------------------------------------------------------------------------


def test_broken_zips_never_fail_otherwise_than_with_400(ada: Api) -> None:
    """Each header is spoilt at random places, with a fixed seed."""
    good = zipped({"conversations.json": numbered(1), "b.txt": b"x" * 50})
    chance = random.Random(7)
    for _ in range(400):
        spoilt = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            begin = chance.choice([0, good.index(b"PK\x01\x02"), good.rindex(b"PK\x05\x06")])
            offset = min(begin + chance.randrange(60), len(spoilt) - 1)
            spoilt[offset] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
        response = send(ada, bytes(spoilt), ZIP)
        assert response.status_code in (200, 400), (bytes(spoilt), response.get_data(as_text=True))


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_zip64_that_lies_is_400(ada: Api, value: int) -> None:
    """About the size, the offset and the number of its directory's entries."""
    good = zipped({"conversations.json": numbered(1)})
    begin = good.rindex(b"PK\x05\x06")
    for field in range(4):
        numbers = [1, 1, 60, begin - 60]
        numbers[field] = value
        end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, *numbers)
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, begin, 1)
        last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        response = send(ada, good[:begin] + end64 + locator + last, ZIP)
        assert response.status_code in (200, 400), response.get_data(as_text=True)


def test_overlapping_entries_unpack_no_further(ada: Api) -> None:
    """A thousand entries of the directory share the data of one file."""
    inner = b"[" + b"0 " * 1_000_000 + b"]"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", inner)
        original = archive.infolist()[0]
        archive.filelist.extend([original] * 1000)
    content = file.getvalue()
    assert len(content) < 200_000
    response = send(ada, content, ZIP)
    assert response.status_code == 400


def test_export_after_an_early_end_is_whole(ada: Api, bob: Api) -> None:
    content = file_of(*whole(3), *[b"x"] * 1500)
    assert ended(imported(ada, content)) == "too_many_errors"
    with ada.get("/chat/export") as response:
        again = response.get_data()
    assert imported(bob, again)["errors"] == []
    assert len(lines_of(bob.get("/chat/export"))) == len(again.splitlines())


def test_every_reason_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert all(f"`{reason}`" in text for reason in limits.REASONS)
