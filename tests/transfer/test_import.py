"""Imports of our own files: broken ones leave nothing half there, and nobody's rows are touched but the caller's."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import orjson
import pytest
from flask import Flask

from chat_api.database.columns import new_id
from chat_api.server import lifecycle
from chat_api.transfer import conversation_importer
from chat_api.transfer.group_writer import MOST_IN_FLIGHT
from chat_api.transfer.slots import transfer_slots
from chat_api.web import spool
from tests.support.api import PASSWORD, Api, new_email
from tests.support.problems import assert_problem
from tests.support.tables import owned_rows
from tests.transfer.exports import (
    NDJSON,
    Line,
    attachment,
    chain,
    completion,
    conversation,
    exported,
    file_of,
    imported,
    lines_of,
    message,
    provider,
    restorable,
    rows_of,
    send,
    whole,
)

CHAT_TABLES = ("conversations", "messages", "attachments", "completions")


@pytest.fixture(scope="module")
def eve(app: Flask) -> Api:
    """One user for all tests that look at what an import adds: making one takes longer than an import."""
    address = new_email()
    Api(app).made("/auth/register", {"email": address, "password": PASSWORD})
    return Api(app, user={"email": address}).log_in()


def added(app: Flask, user: Api, before: list[int]) -> list[int]:
    return [now - then for now, then in zip(counts(app, user), before, strict=True)]


def counts(app: Flask, user: Api) -> list[int]:
    rows = owned_rows(app, user.user_id)
    return [rows[name] for name in CHAT_TABLES]


def replaced(line: Line, **fields: Any) -> Line:
    return {**line, **fields}


def without(line: Line, name: str) -> Line:
    return {key: value for key, value in line.items() if key != name}


# -- broken lines ----------------------------------------------------------------------------------------------

SOURCE: Line = {"url": "https://a.example", "title": None, "places": [[0, 3]]}
# what becomes of the third message of a conversation of seven, and a part of the error
BREAKS: dict[str, tuple[Callable[[Line], Any], str]] = {
    "not JSON": (lambda line: b'{"type":"message", oops', "not JSON"),
    "not UTF-8": (lambda line: b'{"type":"message","content":"\xff"}', "not JSON"),
    "cut in the middle": (lambda line: orjson.dumps(line)[:-20], "not JSON"),
    "binary": (lambda line: b"\x00\x01\x02", "not JSON"),
    "nested deeply": (lambda line: b'{"type":"message","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
    "NaN": (lambda line: b'{"type":"message","position":NaN}', "not JSON"),
    "an array": (lambda line: b"[1]", "not a JSON object"),
    "a number": (lambda line: b"7", "not a JSON object"),
    "no type": (lambda line: without(line, "type"), "`type`"),
    "unknown type": (lambda line: replaced(line, type="note"), "`type`"),
    "type that is no text": (lambda line: replaced(line, type=[1]), "`type`"),
    "unknown field": (lambda line: replaced(line, colour="red"), "colour"),
    "missing field": (lambda line: without(line, "role"), "role"),
    "unknown role": (lambda line: replaced(line, role="critic"), "role"),
    "wrong type": (lambda line: replaced(line, content=7), "content"),
    "empty content": (lambda line: replaced(line, role="system", content=""), "content"),
    "content too long": (lambda line: replaced(line, content="ä" * (512 * 1024 + 1)), "content"),
    "NUL": (lambda line: replaced(line, content="a\x00b"), "NUL"),
    "lone surrogate": (lambda line: orjson.dumps(line).replace(b"Hello", b"\\ud800"), "not JSON"),
    "time without a zone": (lambda line: replaced(line, created_at="2026-01-01T00:00:00"), "created_at"),
    "time of long ago": (lambda line: replaced(line, created_at="0001-01-01T00:00:00+14:00"), "created_at"),
    "no time": (lambda line: replaced(line, created_at="yesterday"), "created_at"),
    "malformed id": (lambda line: replaced(line, id="1"), "id"),
    "unknown parent": (lambda line: replaced(line, parent_id=new_id()), "parent_id"),
    "parent of its own": (lambda line: replaced(line, parent_id=line["id"]), "parent_id"),
    "position not growing": (lambda line: replaced(line, position=2), "position"),
    "position of none": (lambda line: replaced(line, position=0), "position"),
    "position too large": (lambda line: replaced(line, position=2**31), "position"),
    "other conversation": (lambda line: replaced(line, conversation_id=new_id()), "conversation_id"),
    "bad tool calls": (lambda line: replaced(line, tool_calls=[{"id": "a"}]), "tool_calls"),
    "source of no web page": (lambda line: replaced(line, sources=[{**SOURCE, "url": "javascript:x"}]), "sources"),
    "source without places": (lambda line: replaced(line, sources=[without(SOURCE, "places")]), "sources"),
    "place without length": (lambda line: replaced(line, sources=[{**SOURCE, "places": [[3, 3]]}]), "sources"),
    "too many sources": (lambda line: replaced(line, sources=[SOURCE] * 101), "sources"),
    "no source": (lambda line: replaced(line, sources=[]), "sources"),
    "unknown status": (lambda line: replaced(line, status="in_progress"), "status"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("batch_rows", [2, 500])
def test_broken_line_undoes_its_conversation_and_no_other(
    app: Flask, eve: Api, monkeypatch: pytest.MonkeyPatch, name: str, batch_rows: int
) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", batch_rows)
    there = counts(app, eve)
    spoil, expected = BREAKS[name]
    before, broken, after = whole(2), whole(7), whole(2)
    hanging = [attachment(broken[1]), completion(broken[1])]
    lines = [*before, *broken[:2], *hanging, *broken[2:], *after]
    place = len(before) + 5  # of the third message
    assert lines[place] is broken[3]
    lines[place] = spoil(broken[3])
    report = imported(eve, file_of(*lines))
    assert report["conversations"] == {"imported": 2, "updated": 0, "unchanged": 0, "failed": 1}
    assert report["messages"]["imported"] == 4
    [error, *others] = report["errors"]
    # a line that is no message is not counted, and the last line says how many there were
    assert not others or "7 messages" not in others[-1]["detail"]
    assert (error["line"], error["conversation_id"]) == (place + 2, broken[0]["id"])
    assert expected in error["detail"], error["detail"]
    assert added(app, eve, there) == [2, 4, 0, 0]


HANGING: dict[str, Callable[[Line, Line], Line]] = {
    "attachment of an earlier message": lambda first, last: attachment(first),
    "attachment of an unknown message": lambda first, last: attachment(last, message_id=new_id()),
    "attachment with a path that leads out": lambda first, last: attachment(
        last, file_path="../../etc/passwd"
    ),
    "attachment with no media type": lambda first, last: attachment(last, file_type="picture"),
    "completion of an unknown message": lambda first, last: completion(last, parent_id=new_id()),
    "completion of another conversation": lambda first, last: completion(last, conversation_id=new_id()),
    "completion in progress": lambda first, last: completion(last, status="in_progress"),
    "completion with a broken outline": lambda first, last: completion(last, outline=[["text"]]),
    "completion with a negative length": lambda first, last: completion(last, outline=[["text", -1]]),
    "message twice": lambda first, last: replaced(first, position=50),
}


@pytest.mark.parametrize("name", HANGING)
@pytest.mark.parametrize("batch_rows", [1, 500])
def test_what_hangs_wrongly_undoes_the_conversation(
    app: Flask, eve: Api, monkeypatch: pytest.MonkeyPatch, name: str, batch_rows: int
) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", batch_rows)
    there = counts(app, eve)
    lines = whole(3)
    lines.append(HANGING[name](lines[1], lines[-1]))
    report = imported(eve, file_of(*lines, *whole(1)))
    assert report["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 1}
    assert [error["line"] for error in report["errors"]] == [6]
    assert added(app, eve, there) == [1, 1, 0, 0]


def test_broken_conversation_line_leaves_the_one_before_it_alone(app: Flask, ada: Api) -> None:
    first, second, third = whole(2), whole(2), whole(2)
    for spoilt in (
        b'{"type":"conversation","id":',
        orjson.dumps(replaced(second[0], title="a" * 256)),
        b'{"type":"conversation"}',
    ):
        report = imported(ada, file_of(*first, spoilt, *second[1:], *third))
        assert report["conversations"]["failed"] == 1
        assert report["errors"][0]["line"] == 5
    assert {line["id"] for line in exported(ada) if line["type"] == "conversation"} == {
        first[0]["id"],
        third[0]["id"],
    }
    assert counts(app, ada) == [2, 4, 0, 0]


def test_id_of_another_conversation_of_ones_own_is_refused(app: Flask, ada: Api, bob: Api) -> None:
    first = whole(2)
    imported(ada, file_of(*first))
    copy = conversation()
    again = [copy, *(replaced(line, conversation_id=copy["id"]) for line in first[1:])]
    report = imported(ada, file_of(*again))
    assert (report["conversations"]["failed"], report["errors"][0]["line"]) == (1, 3)
    assert "used already" in report["errors"][0]["detail"]
    assert counts(app, ada) == [1, 2, 0, 0]
    # ids are a user's own: somebody else's do not matter
    assert imported(bob, file_of(*first))["conversations"]["imported"] == 1


def test_lines_outside_of_any_conversation_are_told_once(app: Flask, ada: Api) -> None:
    stray = chain(conversation(), 3)
    report = imported(ada, file_of(*stray, *whole(1)))
    assert [(error["line"], error["conversation_id"]) for error in report["errors"]] == [(2, None)]
    assert counts(app, ada) == [1, 1, 0, 0]


def test_only_the_first_hundred_errors_are_listed(ada: Api) -> None:
    report = imported(ada, file_of(*[conversation(title="x" * 256) for _ in range(130)]))
    assert (len(report["errors"]), report["errors_omitted"]) == (100, 30)
    assert report["conversations"]["failed"] == 130


def test_line_that_is_too_long_is_told_and_the_rest_is_read(app: Flask, ada: Api) -> None:
    limit = 8 * 1024 * 1024
    long, fine = whole(1), whole(2)
    long[1]["content"] = "x" * limit
    report = imported(ada, file_of(*long, *fine))
    assert [(error["line"], error["conversation_id"]) for error in report["errors"][:1]] == [
        (3, long[0]["id"])
    ]
    assert counts(app, ada) == [1, 2, 0, 0]


# -- files that end early or say something else ------------------------------------------------------------------


def test_cut_file_gives_what_is_complete(app: Flask, ada: Api) -> None:
    first, second = whole(2), whole(3)
    for content in (file_of(*first, *second, end=False), file_of(*first, *second, end=False)[:-30]):
        report = imported(ada, content)
        assert (report["conversations"]["imported"] + report["conversations"]["unchanged"]) == 1
        assert report["conversations"]["failed"] == 1
        assert report["errors"][-1]["conversation_id"] in (second[0]["id"], None)
        assert counts(app, ada) == [1, 2, 0, 0]
    assert imported(ada, file_of(*first, *second))["conversations"] == {
        "imported": 1,
        "updated": 0,
        "unchanged": 1,
        "failed": 0,
    }


def test_lost_lines_are_noticed_at_the_end(ada: Api) -> None:
    lines = file_of(*whole(1), *whole(1)).splitlines(keepends=True)
    report = imported(ada, b"".join(lines[:3] + lines[5:]))
    assert [error["line"] for error in report["errors"]] == [4]
    assert "2 conversations and 2 messages" in report["errors"][0]["detail"]
    report = imported(ada, file_of(*whole(1)) + orjson.dumps(conversation()) + b"\n")
    assert report["conversations"]["imported"] == 1
    assert "follows" in report["errors"][0]["detail"]


def test_file_that_is_no_export_is_refused(app: Flask, ada: Api) -> None:
    files = [
        b"", b" \n", b"hello", b"{}", b'{"a":1}', b"null", b"<html>", b"\x89PNG\r\n", b"PK", b"PK\x03\x04broken",
        b'{"type":"export"}', b'{"type":"export","version":2}', b'{"type":"export","version":"1"}', b'{"type":',
        file_of(*whole(1)).split(b"\n", 1)[1], b"[1]", b"[{}]", b'[{"mapping":1}]', b"[", b'[{"title":', b"[]x",
    ]  # fmt: skip
    for content in files:
        problem = assert_problem(send(ada, content), 400)
        assert len(problem["detail"]) < 300
    assert counts(app, ada) == [0, 0, 0, 0]


def test_blank_lines_and_a_mark_at_the_beginning_do_no_harm(app: Flask, ada: Api) -> None:
    content = file_of(*whole(2)).replace(b"\n", b"\r\n\r\n")
    assert not imported(ada, b"\xef\xbb\xbf" + content)["errors"]
    assert counts(app, ada) == [1, 2, 0, 0]


def test_empty_export_is_fine(ada: Api) -> None:
    assert imported(ada, file_of())["conversations"] == {
        "imported": 0,
        "updated": 0,
        "unchanged": 0,
        "failed": 0,
    }
    assert imported(ada, b"[]", "application/json")["conversations"]["imported"] == 0


# -- how it is sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        NDJSON,
        "application/json",
        "application/json; charset=utf-8",
        "application/octet-stream",
        "text/plain",
        None,
    ],
)
def test_content_tells_what_it_is(app: Flask, ada: Api, content_type: str | None) -> None:
    assert imported(ada, file_of(*whole(1)), content_type)["format"] == "chat-api"
    assert counts(app, ada) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "image/png", "application/x-www-form-urlencoded", "application/xml", "nonsense"],
)
def test_foreign_media_type_is_refused(app: Flask, ada: Api, content_type: str) -> None:
    assert_problem(send(ada, file_of(*whole(1)), content_type), 415)
    assert_problem(send(ada, file_of(*whole(1)), headers={"Content-Encoding": "gzip"}), 415)
    assert counts(app, ada) == [0, 0, 0, 0]


def test_file_may_come_as_a_form(app: Flask, ada: Api) -> None:
    content = file_of(*whole(2))
    response = ada.post("/chat/import", data={"file": (io.BytesIO(content), "export.ndjson")})
    assert response.get_json()["messages"]["imported"] == 2
    for form in ({"other": (io.BytesIO(content), "a")}, {"file": "text"}, {"file": "x" * 300_000}):
        response = ada.post("/chat/import", data=form, content_type="multipart/form-data")
        assert_problem(response, 400, "file")
    for raw in (
        b"--b\r\n",
        b"x" * 100,
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{',
    ):
        assert_problem(send(ada, raw, "multipart/form-data; boundary=b"), 400, "file")
    assert_problem(send(ada, b"x", "multipart/form-data"), 400, "file")
    assert counts(app, ada) == [1, 2, 0, 0]


def test_file_beyond_the_limit_is_refused(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(*whole(5))
    monkeypatch.setitem(app.config, "MAX_IMPORT_BYTES", len(content))
    assert imported(ada, content)["messages"]["imported"] == 5
    monkeypatch.setitem(app.config, "MAX_IMPORT_BYTES", len(content) - 1)
    assert_problem(send(ada, content), 413)
    chunked = {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input": io.BytesIO(content),
        "wsgi.input_terminated": True,
    }
    assert_problem(ada.post("/chat/import", content_type=NDJSON, environ_overrides=chunked), 413)


def test_body_that_ends_early_is_refused(app: Flask, ada: Api) -> None:
    content = file_of(*whole(1))
    short = {"CONTENT_LENGTH": str(len(content) + 1), "wsgi.input": io.BytesIO(content)}
    assert_problem(ada.post("/chat/import", content_type=NDJSON, environ_overrides=short), 400)
    assert counts(app, ada) == [0, 0, 0, 0]


@pytest.mark.parametrize("files_with_room", [0, 1])
def test_full_disk_is_told_as_such(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch, files_with_room: int
) -> None:
    """At the body, or at the part of a form, which is a second file."""
    files = [spool.tempfile.TemporaryFile() for _ in range(files_with_room)]

    def open_file(**options: Any) -> IO[bytes]:
        return files.pop() if files else open("/dev/full", "w+b")

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", open_file)
    form = {"file": (io.BytesIO(file_of(*whole(1))), "export.ndjson")}
    assert_problem(ada.post("/chat/import", data=form), 503)
    monkeypatch.undo()
    assert counts(app, ada) == [0, 0, 0, 0]
    assert transfer_slots.taken == 0


def test_data_folder_that_can_not_be_used_is_503(app: Flask, ada: Api, tmp_path: Path) -> None:
    """Nothing is lost: what is stored stays, and the same request succeeds when the folder is there again."""
    content, kept = file_of(*whole(1)), app.config["DATA_DIR"]
    (tmp_path / "file").write_text("")
    app.config["DATA_DIR"] = str(tmp_path / "file")
    try:
        assert_problem(send(ada, content), 503)
    finally:
        app.config["DATA_DIR"] = kept
    assert counts(app, ada) == [0, 0, 0, 0]
    assert transfer_slots.taken == 0
    assert imported(ada, content)["conversations"]["imported"] == 1


def test_malformed_idempotency_key_is_refused(app: Flask, ada: Api) -> None:
    response = send(ada, file_of(*whole(1)), headers={"Idempotency-Key": "a" * 256})
    assert_problem(response, 400, "Idempotency-Key")
    assert counts(app, ada) == [0, 0, 0, 0]


# -- whose it is -------------------------------------------------------------------------------------------------


def test_owner_is_the_caller_whatever_the_file_says(app: Flask, ada: Api, bob: Api) -> None:
    ada.message(ada.conversation()["id"])
    before = rows_of(app, ada.user_id)
    theirs = b"".join(orjson.dumps(line) + b"\n" for line in exported(ada))
    assert imported(bob, theirs)["conversations"]["imported"] == 1
    assert rows_of(app, ada.user_id) == before
    assert counts(app, bob) == [1, 1, 0, 0]


def test_import_and_export_may_be_for_another_user(app: Flask, trusted: Api, bob: Api) -> None:
    for_bob = {"X-Act-As": bob.user_id}
    assert send(trusted, file_of(*whole(2)), headers=for_bob).status_code == 200
    assert (counts(app, bob), counts(app, trusted)) == ([1, 2, 0, 0], [0, 0, 0, 0])
    lines = lines_of(trusted.get("/chat/export", headers=for_bob))
    assert restorable(lines) == restorable(exported(bob))


def test_newer_work_is_never_overwritten(app: Flask, ada: Api) -> None:
    lines = whole(2)
    imported(ada, file_of(*lines))
    ada.message(lines[0]["id"], "Said since")
    ada.patch(f"/chat/conversations/{lines[0]['id']}", {"title": "Renamed"})
    before = rows_of(app, ada.user_id)
    assert imported(ada, file_of(*lines))["conversations"] == {
        "imported": 0,
        "updated": 0,
        "unchanged": 1,
        "failed": 0,
    }
    assert rows_of(app, ada.user_id) == before


def test_conversation_goes_on_where_it_was(ada: Api) -> None:
    lines = whole(2)
    lines[0] |= {"last_position": 7, "active_leaf_id": lines[2]["id"]}
    imported(ada, file_of(*lines))
    said = ada.message(lines[0]["id"])
    assert (said["position"], said["parent_id"]) == (8, lines[2]["id"])


def test_deleted_leaf_gives_the_newest_message(ada: Api) -> None:
    lines = whole(3)
    lines[0]["active_leaf_id"] = new_id()
    imported(ada, file_of(*lines))
    assert ada.get(f"/chat/conversations/{lines[0]['id']}").get_json()["active_leaf_id"] == lines[3]["id"]


# -- providers ---------------------------------------------------------------------------------------------------


def test_provider_is_found_again_or_made(app: Flask, ada: Api, bob: Api, admin: Api) -> None:
    own = ada.provider(name="Mine")
    shared = admin.provider(name="All", shared=True)
    there = provider(id=own["id"], name="Renamed since")
    alike = provider(name="Mine")
    new = provider(name="New")
    reply = whole(1)
    replies = [completion(reply[1], provider_id=line["id"]) for line in (there, new, shared)]
    content = file_of(there, alike, new, *reply, *replies)
    assert imported(ada, content)["providers"] == {"imported": 2, "unchanged": 1}
    assert ada.get(f"/chat/llm-providers/{own['id']}").get_json()["name"] == "Mine"
    [made] = [line for line in exported(ada) if line.get("name") == "New"]
    assert {row["provider_id"] for row in rows_of(app, ada.user_id)["completions"]} == {
        own["id"], made["id"], shared["id"]}  # fmt: skip
    # renamed since, it is still the same one
    ada.patch(f"/chat/llm-providers/{made['id']}", {"name": "Newer"})
    assert imported(ada, content)["providers"] == {"imported": 0, "unchanged": 3}
    # for somebody else: providers of their own, and the shared one
    assert imported(bob, content)["providers"] == {"imported": 3, "unchanged": 0}
    used = {row["provider_id"] for row in rows_of(app, bob.user_id)["completions"]}
    assert shared["id"] in used
    assert all(bob.get(f"/chat/llm-providers/{id}").status_code == 200 for id in used)


def test_details_of_a_provider_come_back_without_its_secrets(ada: Api, bob: Api) -> None:
    details: dict[str, Any] = {
        "catalog": "mistral",
        "auth": "X-Key",
        "extra_body": {"safe_prompt": True, "nested": {"a": [1, 2.5]}},
        "request_options": {"stream": False},
    }
    ada.provider(name="Detailed", headers={"X-Secret": "secret-0123456789"}, **details)
    ada.provider(name="Plain")
    lines = {line["name"]: line for line in exported(ada) if line["type"] == "provider"}
    assert {name: lines["Detailed"][name] for name in details} == details
    assert not {*details, "headers", "encrypted_headers"} & set(lines["Plain"])
    assert "ecret" not in str(lines)
    assert imported(bob, file_of(*lines.values()))["providers"]["imported"] == 2
    found = {each["name"]: each for each in bob.get("/chat/llm-providers?limit=1000").get_json()}
    assert {name: found["Detailed"][name] for name in details} == details
    assert found["Detailed"]["headers"] == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("auth", "Host"),
        ("auth", "X\r\nY"),
        ("extra_body", {"messages": []}),
        ("request_options", {"limit_field": 5}),
        ("headers", {"X": "y"}),
        ("learned_options", {}),
    ],
)
def test_details_of_an_imported_provider_are_checked(app: Flask, ada: Api, field: str, value: Any) -> None:
    report = imported(ada, file_of(provider(**{field: value}), *whole(1)))
    assert report["errors"][0]["line"] == 2
    assert field in report["errors"][0]["detail"]
    assert owned_rows(app, ada.user_id)["llm_providers"] == 0


@pytest.mark.parametrize(
    "endpoint", ["file:///etc/passwd", "https://a:b@p.example", "https://p.example/#x", ""]
)
def test_endpoints_of_providers_are_checked(app: Flask, ada: Api, endpoint: str) -> None:
    report = imported(ada, file_of(provider(api_endpoint=endpoint), *whole(1)))
    assert report["errors"][0]["line"] == 2
    assert "api_endpoint" in report["errors"][0]["detail"]
    assert owned_rows(app, ada.user_id)["llm_providers"] == 0
    assert counts(app, ada) == [1, 1, 0, 0]


# -- what runs at the same time ----------------------------------------------------------------------------------


def test_number_of_imports_and_exports_at_the_same_time_is_bounded(app: Flask, ada: Api, bob: Api) -> None:
    with ada.get("/chat/export", buffered=False), ada.get("/chat/export", buffered=False):
        response = ada.get("/chat/export")
        assert_problem(response, 429)
        assert response.headers["Retry-After"]
        assert_problem(send(ada, file_of()), 429)
        assert send(bob, file_of()).status_code == 200
    assert exported(ada)
    assert transfer_slots.taken == 0


def test_slot_is_released_after_a_refusal(ada: Api) -> None:
    for _ in range(5):
        assert_problem(send(ada, b"hello"), 400)
    with ada.request("HEAD", "/chat/export") as response:
        assert response.status_code == 200
    assert transfer_slots.taken == 0


def test_stopping_server_ends_an_import_between_conversations(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for _ in range(9) for line in whole(1)]
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 1)
    monkeypatch.setattr(lifecycle._process, "deadline", 0.0)
    assert_problem(send(ada, file_of(*lines)), 503)
    stored = counts(app, ada)[0]
    assert 1 <= stored <= 1 + MOST_IN_FLIGHT  # what is being stored when it ends is not given up
    monkeypatch.undo()
    assert imported(ada, file_of(*lines))["conversations"] == {
        "imported": 9 - stored,
        "updated": 0,
        "unchanged": stored,
        "failed": 0,
    }


def test_message_line_needs_only_what_it_must(ada: Api) -> None:
    first = {
        name: value
        for name, value in conversation().items()
        if name not in ("archived", "pinned", "last_position")
    }
    only = without(message(first, 1), "status")
    assert not imported(ada, file_of(first, only))["errors"]
    assert ada.get(f"/chat/conversations/{first['id']}/messages").get_json()[0]["status"] == "completed"


def test_messages_that_may_be_empty_are_imported(eve: Api) -> None:
    """A message whose attachments were all that it had, one of which was deleted since; and the result of a tool."""
    first, said, result, reply = whole(3)
    lines = [
        said | {"content": ""},
        result | {"role": "tool", "content": ""},
        reply | {"role": "assistant", "content": ""},
    ]
    assert imported(eve, file_of(first, *lines))["messages"]["imported"] == 3
