"""Bad input never gets in and never breaks anything: every rule of the contract's first section."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import default_exceptions
from werkzeug.test import TestResponse

from chat_api import errors
from chat_api.database.columns import new_id
from chat_api.telemetry.logs import JsonFormatter
from tests.conftest import serving
from tests.support.api import PASSWORD, POSTS, Api, new_email
from tests.support.provider import ScriptedProvider

JSON = "application/json"
MIB = 1024 * 1024
ANY_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


def assert_problem(response: TestResponse, status: int, *fields: str) -> dict[str, Any]:
    """The answer is a problem of RFC 9457 with this status, about these fields."""
    text = response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.mimetype == "application/problem+json"
    problem = response.get_json()
    assert problem["status"] == status
    assert all(isinstance(problem[name], str) for name in ("type", "title", "code", "detail", "request_id"))
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert set(problem.get("errors", {})) == set(fields), text
    for messages in problem.get("errors", {}).values():
        assert messages
        assert all(isinstance(message, str) for message in messages)
    for forbidden in ("Traceback", "sqlalchemy", "psycopg", "sqlite", "SELECT", "INSERT", "/chat_api/"):
        assert forbidden not in text
    return problem


# -- valid bodies, to be spoilt ------------------------------------------------------------------------------

OPTIONAL = {"shared", "expires_in_days", "api_format", "context_window", "default_model", "tool_call_id", "model",
            "content of /chat/completions", "parent_id", "stream", "parameters", "on_disconnect"}  # fmt: skip
FIELDS = [(path, field) for path, names in POSTS.items() for field in names]
REQUIRED = {path: [field for field in names if not {field, f"{field} of {path}"} & OPTIONAL]
            for path, names in POSTS.items()}  # fmt: skip
each_post = pytest.mark.parametrize("path", POSTS)
each_field = pytest.mark.parametrize(("path", "field"), FIELDS)


@pytest.fixture(scope="module")
def user(app: Flask) -> Api:
    """One user for all tests here: what is refused leaves nothing behind."""
    address = new_email()
    Api(app).made("/auth/register", {"email": address, "password": PASSWORD})
    return Api(app, user={"email": address}).log_in()


@pytest.fixture(scope="module")
def ids(user: Api, provider: ScriptedProvider) -> dict[str, str]:
    conversation = user.conversation()["id"]
    replying = user.provider(api_endpoint=provider.url)["id"]
    user.config(replying)
    return {
        "conversation": conversation,
        "message": user.message(conversation)["id"],
        "provider": user.provider()["id"],
        "replying": replying,
        "completion": user.completion(user.conversation()["id"], replying)["id"],
    }


@pytest.fixture
def body_for(user: Api, ids: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    """A body that the path would accept."""
    endpoint = "https://p.example/v1"
    bodies: dict[str, dict[str, Any]] = {
        "/auth/register": {"email": new_email(), "password": PASSWORD},
        "/auth/login": {"email": user.user["email"], "password": PASSWORD},
        "/auth/tokens": {"name": "script", "expires_in_days": 1},
        "/chat/conversations": {"user_id": user.user_id, "title": "A title"},
        "/chat/messages": {
            "conversation_id": ids["conversation"],
            "role": "tool",
            "content": "Hello",
            "parent_id": ids["message"],
            "tool_call_id": "call_1",
        },
        "/chat/attachments": {"message_id": ids["message"], "file_type": "image/png", "file_path": "a.png"},
        "/chat/llm-providers": {
            "name": "P",
            "api_endpoint": endpoint,
            "shared": False,
            "api_format": "anthropic",
            "context_window": 1000,
        },
        "/chat/user-llm-configs": {
            "user_id": user.user_id,
            "provider_id": ids["provider"],
            "api_key": "sk-1",
            "default_model": "m",
            "context_window": 1000,
        },
        "/chat/completions": {
            "conversation_id": ids["conversation"],
            "provider_id": ids["replying"],
            "model": "m",
            "content": "Hello",
            "parent_id": ids["message"],
            "stream": False,
            "parameters": {"temperature": 1, "tools": [{"type": "function", "function": {"name": "f"}}]},
            "on_disconnect": "cancel",
        },
    }
    return lambda path: dict(bodies[path])


def send_raw(
    user: Api, path: str, raw: bytes, content_type: str | None = JSON, **options: Any
) -> TestResponse:
    return user.post(path, data=raw, content_type=content_type, **options)


# -- the body ------------------------------------------------------------------------------------------------

NOT_JSON = {
    "empty": b"",
    "blank": b" \n",
    "cut off": b'{"title": "x"',
    "no value": b'{"title": }',
    "single quotes": b"{'title': 'x'}",
    "comma at the end": b'{"title": "x",}',
    "comment": b'{"title": "x"} // mine',
    "two values": b'{"title": "x"}{}',
    "unknown word": b"undefined",
    "form": b"title=x",
    "line break in a string": b'{"title": "a\nb"}',
    "NUL byte": b'{"title": "a\x00b"}',
    "not UTF-8": b'{"title": "\xff\xfe"}',
    "overlong UTF-8": b'{"title": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "UTF-16": '{"title": "x"}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"title": "x"}',
    "NaN": b'{"title": NaN}',
    "Infinity": b'{"title": [Infinity, -Infinity]}',
    "number of 5,000 digits": b'{"title": ' + b"9" * 5000 + b"}",
    "name twice": b'{"title": "a", "title": "b"}',
    "name twice inside": b'{"title": {"a": 1, "a": 1}}',
    "escaped name twice": b'{"title": "a", "titl\\u0065": "b"}',
    "100,000 arrays": b"[" * 100_000,
    "100,000 closed arrays": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"title":' * 100_000 + b"1" + b"}" * 100_000,
    "array": b"[]",
    "array of an object": b'[{"title": "x"}]',
    "string": b'"title"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_body_that_is_no_json_object_is_refused(user: Api, raw: bytes) -> None:
    for path in POSTS:
        assert_problem(send_raw(user, path, raw), 400)


@each_post
def test_body_of_the_right_shape_is_accepted(user: Api, body_for: Callable[..., Any], path: str) -> None:
    """Without this the refusals here could have another reason."""
    body = body_for(path)
    if path == "/chat/user-llm-configs":
        body["provider_id"] = user.provider()["id"]
    assert user.post(path, body).status_code in (200, 201)


@pytest.mark.parametrize(
    "escape",
    ["\\u0000", "a\\u0000", "\\ud800", "\\udfff", "\\udc00\\ud800", "\\ud83dx"],
    ids=lambda escape: escape[1:],
)
def test_text_that_can_not_be_stored_is_refused_in_values_and_names(
    user: Api, body_for: Callable[..., Any], escape: str
) -> None:
    for path, names in POSTS.items():
        body = body_for(path)
        for field in names:
            spoilt = json.dumps(body | {field: "@"}).replace("@", escape)
            assert_problem(send_raw(user, path, spoilt.encode()), 400, field)
            nested = json.dumps(body | {field: [{"x": "@"}]}).replace("@", escape)
            assert send_raw(user, path, nested.encode()).status_code == 400
        assert_problem(send_raw(user, path, json.dumps(body | {"@": 1}).replace("@", escape).encode()), 400)


def test_surrogate_pair_is_one_character(user: Api) -> None:
    raw = json.dumps({"user_id": user.user_id, "title": "@"}).replace("@", "\\ud83d\\ude00").encode()
    assert send_raw(user, "/chat/conversations", raw).get_json()["title"] == "😀"


@each_field
def test_wrong_type_is_refused(user: Api, body_for: Callable[..., Any], path: str, field: str) -> None:
    # without a value some fields mean the same with null
    right: dict[str, list[Any]] = {
        "shared": [True, False], "stream": [True, False], "expires_in_days": [1], "context_window": [None],
        "parameters": [{}], "parent_id": [None], "model": [None, "true", "1"], "default_model": [None, "true", "1"],
    }  # fmt: skip
    if path == "/chat/completions":
        right["content"] = [None, "true", "1"]
    accepted = [repr(value) for value in right.get(field, ["true", "1"])]
    for value in (
        None,
        True,
        False,
        0,
        1,
        -1,
        1.5,
        1e300,
        10**100,
        "",
        "true",
        "1",
        [],
        ["x"],
        {},
        {"x": "y"},
    ):
        if repr(value) not in accepted:
            raw = json.dumps(body_for(path) | {field: value}).encode()
            assert_problem(send_raw(user, path, raw), 400, field)


@each_field
def test_missing_field_is_refused(user: Api, body_for: Callable[..., Any], path: str, field: str) -> None:
    body = body_for(path)
    del body[field]
    if field in REQUIRED[path]:
        assert_problem(user.post(path, body), 400, field)


@each_post
def test_all_missing_fields_are_named_at_once(user: Api, path: str) -> None:
    assert_problem(user.post(path, {}), 400, *REQUIRED[path])


@each_post
@pytest.mark.parametrize("name", ["surprise", "id", "role_", "__proto__", "", "Title", "é", "x" * 10_000])
def test_unknown_field_is_refused(user: Api, body_for: Callable[..., Any], path: str, name: str) -> None:
    assert_problem(user.post(path, body_for(path) | {name: "x"}), 400, name)


@pytest.mark.parametrize("name", ["id", "user_id", "role", "is_admin", "created_at"])
def test_nobody_registers_with_more_than_address_and_password(stranger: Api, name: str) -> None:
    body = {"email": new_email(), "password": PASSWORD, name: "admin"}
    assert_problem(stranger.post("/auth/register", body), 400, name)


LONGEST = {
    ("/auth/tokens", "name"): 100,
    ("/chat/conversations", "title"): 255,
    ("/chat/attachments", "file_path"): 1024,
    ("/chat/llm-providers", "name"): 255,
    ("/chat/user-llm-configs", "api_key"): 4096,
    ("/chat/user-llm-configs", "default_model"): 255,
    ("/chat/messages", "content"): MIB,
    ("/chat/messages", "tool_call_id"): 255,
    ("/chat/completions", "content"): MIB,
    ("/chat/completions", "model"): 255,
}


@pytest.mark.parametrize(("path", "field"), LONGEST)
def test_text_may_be_as_long_as_documented_and_no_longer(
    user: Api, body_for: Callable[..., Any], path: str, field: str
) -> None:
    body, longest = body_for(path), LONGEST[path, field]
    if path == "/chat/user-llm-configs":
        body["provider_id"] = user.provider()["id"]
    assert user.post(path, body | {field: "x" * longest}).status_code == 201
    assert_problem(user.post(path, body | {field: "x" * (longest + 1)}), 400, field)


def test_length_of_a_message_counts_bytes_and_that_of_a_title_characters(
    user: Api, body_for: Callable[..., Any]
) -> None:
    message, conversation = body_for("/chat/messages"), body_for("/chat/conversations")
    assert user.post("/chat/messages", message | {"content": "€" * (MIB // 3)}).status_code == 201
    assert_problem(user.post("/chat/messages", message | {"content": "€" * (MIB // 3 + 1)}), 400, "content")
    assert user.post("/chat/conversations", conversation | {"title": "😀" * 255}).status_code == 201


@pytest.mark.parametrize("role", ["User", "user ", "admin", "function", "usеr", "user\n"])
def test_unknown_role_is_refused(user: Api, body_for: Callable[..., Any], role: str) -> None:
    assert_problem(user.post("/chat/messages", body_for("/chat/messages") | {"role": role}), 400, "role")


@pytest.mark.parametrize(
    "malformed",
    [
        "1",
        "x" * 36,
        "{id}",
        "urn:uuid:{id}",
        "{{{id}}}",
        "{id}\n",
        " {id}",
        "{id}0",
        "' OR 1=1 --",
        "../{id}",
    ],
)
def test_malformed_id_is_400_in_a_body(user: Api, body_for: Callable[..., Any], malformed: str) -> None:
    for path, field in FIELDS:
        if field.endswith("_id") and field != "tool_call_id":
            value = (
                malformed.replace("{id}", body_for(path)[field])
                if malformed != "{id}"
                else body_for(path)[field][:-1]
            )
            assert_problem(user.post(path, body_for(path) | {field: value}), 400, field)


@pytest.mark.parametrize(
    "malformed", ["1", "x", "%00", "..%2f", "{id}x", "{id}%0a", "%7B{id}%7D", "{id}%00", "%F0%9F%98%80"]
)
@pytest.mark.parametrize("path", ["/chat/conversations/@", "/chat/conversations/@/messages",
                                  "/chat/messages/@/attachments", "/chat/llm-providers/@",
                                  "/chat/user-llm-configs/@/{id}", "/chat/user-llm-configs/{id}/@",
                                  "/chat/conversations/@/completions", "/chat/completions/@",
                                  "/chat/completions/@/events", "/chat/llm-providers/@/models"])  # fmt: skip
def test_malformed_id_is_404_in_a_path(user: Api, path: str, malformed: str) -> None:
    assert_problem(user.get(path.replace("@", malformed).replace("{id}", new_id())), 404)


# -- changes -------------------------------------------------------------------------------------------------

# every PATCH and PUT but that of the account, and the valid values of its body
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/chat/conversations/{conversation}"): {
        "title": "T", "archived": False, "pinned": True, "active_leaf_id": None,
    },
    ("PATCH", "/chat/llm-providers/{provider}"): {
        "name": "P", "api_endpoint": "https://p.example/v1", "api_format": "openai", "context_window": 1000,
    },
    ("PUT", "/chat/user-llm-configs/{user}/{provider}"): {
        "api_key": "sk-1", "default_model": "m", "context_window": 1000,
    },
}  # fmt: skip
NULL_MEANS_NONE = ("context_window", "default_model", "active_leaf_id")
FLAGS = ("archived", "pinned")
each_change = pytest.mark.parametrize(("method", "path"), CHANGES)


@pytest.fixture
def change(user: Api, ids: dict[str, str]) -> Callable[..., TestResponse]:
    places = {
        **ids,
        "conversation": user.conversation()["id"],
        "user": user.user_id,
    }  # others read the shared one

    def send(method: str, path: str, **options: Any) -> TestResponse:
        return user.request(method, path.format(**places), **options)

    return send


def test_every_change_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    changing = {
        (method.upper(), path.replace("_id}", "}"))
        for path, item in paths.items()
        for method in {"put", "patch"} & set(item)
        if path != "/auth/me"
    }
    assert changing == set(CHANGES)


@each_change
def test_change_of_the_right_shape_is_made(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    assert change(method, path, json=CHANGES[method, path]).status_code in (200, 201)


@each_change
def test_change_with_a_wrong_value_is_refused(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    body = CHANGES[method, path]
    for field in body:
        for value in (
            None,
            True,
            0,
            -1,
            1.5,
            10**100,
            "",
            "x" * 5000,
            "\x00",
            "\ud800",
            [],
            ["x"],
            {},
            {"x": "y"},
        ):
            if not ((value is None and field in NULL_MEANS_NONE) or (value is True and field in FLAGS)):
                raw = json.dumps(body | {field: value})
                assert_problem(change(method, path, data=raw, content_type=JSON), 400, field)


@each_change
def test_change_of_a_field_that_there_is_not_is_refused(
    change: Callable[..., TestResponse], method: str, path: str
) -> None:
    for name in ("id", "user_id", "provider_id", "owner_id", "created_at", "shared", "surprise", ""):
        assert_problem(change(method, path, json={**CHANGES[method, path], name: "x"}), 400, name)


@each_change
def test_change_that_is_no_json_object_with_fields_is_refused(
    app: Flask, change: Callable[..., TestResponse], method: str, path: str
) -> None:
    for raw in NOT_JSON.values():
        assert_problem(change(method, path, data=raw, content_type=JSON), 400)
    missing = () if method == "PATCH" else ("api_key",)
    assert_problem(change(method, path, json={}), 400, *missing)
    raw = json.dumps(CHANGES[method, path]).encode()
    for content_type, headers in NOT_AS_JSON.values():
        refused = change(method, path, data=raw, content_type=content_type, headers=headers)
        assert_problem(refused, 415)
    huge = Stream().with_length(app.config["MAX_BODY_BYTES"] + 1)
    assert_problem(change(method, path, content_type=JSON, environ_overrides=huge), 413)


@each_change
def test_change_of_a_malformed_id_is_404(user: Api, ids: dict[str, str], method: str, path: str) -> None:
    for changing in (method, "DELETE"):
        for malformed in ("1", "x", "%00", f"{ids['provider']}x", f"%7B{ids['provider']}%7D"):
            places = {"user": user.user_id, "provider": malformed, "conversation": malformed}
            body = None if changing == "DELETE" else CHANGES[method, path]
            assert_problem(user.request(changing, path.format(**places), json=body), 404)


@pytest.mark.parametrize("file_type", [
    "png", "image/", "/png", "image/p ng", "image/png;", "ima\nge/png", "image/png\n", "a/b/c", "image/пнг",
    "image/png; x", "text/html,", "*/*", "a" * 300 + "/b",
])  # fmt: skip
def test_file_type_that_is_no_media_type_is_refused(
    user: Api, body_for: Callable[..., Any], file_type: str
) -> None:
    body = body_for("/chat/attachments") | {"file_type": file_type}
    assert_problem(user.post("/chat/attachments", body), 400, "file_type")


# -- sizes ---------------------------------------------------------------------------------------------------


class Stream(io.RawIOBase):
    """A body without an end that counts what is read of it."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b" " * len(buffer)
        self.read_bytes += len(buffer)
        return len(buffer)

    def with_length(self, length: int) -> dict[str, Any]:
        return {"wsgi.input": self, "CONTENT_LENGTH": str(length)}

    def in_chunks(self) -> dict[str, Any]:
        return {"wsgi.input": self, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}


@each_post
def test_huge_body_is_refused_before_it_is_read(app: Flask, user: Api, path: str) -> None:
    stream = Stream()
    length = app.config["MAX_BODY_BYTES"] + 1
    refused = user.post(path, content_type=JSON, environ_overrides=stream.with_length(length))
    assert_problem(refused, 413)
    assert stream.read_bytes == 0


@each_post
def test_huge_body_without_a_length_is_read_no_further_than_the_limit(
    app: Flask, user: Api, path: str
) -> None:
    stream = Stream()
    refused = user.post(path, content_type=JSON, environ_overrides=stream.in_chunks())
    assert_problem(refused, 413)
    assert stream.read_bytes <= app.config["MAX_BODY_BYTES"] + MIB


def test_whoever_sends_no_token_gets_nothing_read_at_all(app: Flask, stranger: Api) -> None:
    stream = Stream()
    refused = stranger.post("/chat/messages", content_type=JSON, environ_overrides=stream.with_length(10))
    assert_problem(refused, 401)
    assert stream.read_bytes == 0


# -- content types -------------------------------------------------------------------------------------------

NOT_AS_JSON: dict[str, tuple[str | None, dict[str, str]]] = {
    "none": (None, {}),
    "text": ("text/plain", {}),
    "form": ("application/x-www-form-urlencoded", {}),
    "multipart": ("multipart/form-data; boundary=x", {}),
    "like json": ("application/jsonp", {}),
    "suffix": ("application/merge-patch+json", {}),
    "two": ("application/json, text/plain", {}),
    "latin-1": ("application/json; charset=latin-1", {}),
    "utf-16": ("application/json; charset=utf-16", {}),
    "gzip": (JSON, {"Content-Encoding": "gzip"}),
    "unknown coding": (JSON, {"Content-Encoding": "rot13"}),
    "nonsense": ("@", {}),
}


@pytest.mark.parametrize(("content_type", "headers"), NOT_AS_JSON.values(), ids=NOT_AS_JSON)
def test_body_that_is_not_sent_as_json_is_415(
    user: Api, body_for: Callable[..., Any], content_type: str | None, headers: dict[str, str]
) -> None:
    for path in POSTS:
        raw = json.dumps(body_for(path)).encode()
        assert_problem(send_raw(user, path, raw, content_type, headers=headers), 415)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_may_say_that_it_is_utf_8(user: Api, body_for: Callable[..., Any], content_type: str) -> None:
    raw = json.dumps(body_for("/chat/conversations")).encode()
    assert send_raw(user, "/chat/conversations", raw, content_type).status_code == 201


# -- queries -------------------------------------------------------------------------------------------------

NO_NUMBERS = [
    "",
    "x",
    "-1",
    "1.5",
    "1e3",
    "%2B5",
    "%205",
    "5%20",
    "1_000",
    "0x10",
    "%D9%A3",
    "%00",
    "1%00",
    "NaN",
    "null",
]
BAD_QUERIES = [
    *(f"limit={value}" for value in ["0", "1001", "9" * 400, *NO_NUMBERS]),
    *(f"{name}={value}" for name in ("after", "before") for value in [str(2**53), "9" * 400, *NO_NUMBERS]),
    "limit=1&limit=1", "after=1&after=2", "limit=5&surprise=1", "Limit=5", "offset=10", "%00=1", "limit[]=5",
    "after=%ED%A0%80", "after=%FF", "%FF=1", "limit",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_bad_page_is_refused(user: Api, ids: dict[str, str], query: str) -> None:
    field = query.partition("=")[0].split("&")[-1]
    for path in lists(ids):
        problem = user.get(f"{path}?{query}")
        assert problem.status_code == 400, problem.get_data(as_text=True)
        assert len(problem.get_json()["errors"]) == 1, field


@pytest.mark.parametrize("query", [
    "", "limit=1", "limit=1000", "limit=007", "after=0", "before=0", "before=1&limit=3", f"after={2**53 - 1}",
    f"before={2**53 - 1}",
])  # fmt: skip
def test_good_page_is_answered(user: Api, ids: dict[str, str], query: str) -> None:
    for path in lists(ids):
        assert user.get(f"{path}?{query}").status_code == 200


@pytest.mark.parametrize("query", [
    "archived=", "archived=1", "archived=yes", "archived=True", "archived=true&archived=true", "pinned=null",
    "pinned=0", "pinned=%00", "q=", f"q={'x' * 256}", "q=%00", "q=a%00b", "q=a&q=b",
    "limit=0", "branch=all", "user_id=x",
    *(f"{place}={cursor}" for place in ("after", "before") for cursor in (
        "", "1", "x", "_", ANY_ID, f"_{ANY_ID}", "2026-11-23T09:30:00.123456Z",
        "2026-11-23T09:30:00.123456Z_", f"2026-11-23T09:30:00.123456Z_{ANY_ID[:-1]}",
        f"2026-11-23T09:30:00.123456Z_{ANY_ID}0", f"2026-11-23T09:30:00.123456Z_{ANY_ID}%0A",
        f"2026-11-23T09:30:00.123456Z_{ANY_ID}_", f"2026-11-23T09:30:00Z_{ANY_ID}",
        f"2026-11-23T09:30:00.123456_{ANY_ID}", f"2026-11-23T09:30:00.123456%2B00:00_{ANY_ID}",
        f"2026-02-30T09:30:00.123456Z_{ANY_ID}", f"2026-13-01T09:30:00.123456Z_{ANY_ID}",
        f"2026-11-23T24:30:00.123456Z_{ANY_ID}", f"0999-11-23T09:30:00.123456Z_{ANY_ID}",
        f"0000-11-23T09:30:00.123456Z_{ANY_ID}", f"10000-11-23T09:30:00.123456Z_{ANY_ID}",
        f"٢٠٢٦-11-23T09:30:00.123456Z_{ANY_ID}", f"2026-11-23T09:30:00.1Z_{ANY_ID}",
        f"%202026-11-23T09:30:00.123456Z_{ANY_ID}", "%00", "%FF", "' OR 1=1 --",
    )),
])  # fmt: skip
def test_bad_query_of_conversations_is_refused(user: Api, query: str) -> None:
    assert_problem(user.get(f"/chat/conversations?{query}"), 400, query.partition("=")[0])


@pytest.mark.parametrize("query", [
    "", "archived=true&pinned=false&q=x&limit=1000", "q=%25", "q='", f"q={'x' * 255}", "q=%F0%9F%98%80",
    f"after=1000-01-01T00:00:00.000000Z_{ANY_ID}", f"before=9999-12-31T23:59:59.999999Z_{ANY_ID.upper()}",
    f"after=2024-02-29T00:00:00.000000Z_{'f' * 8}-ffff-ffff-ffff-{'f' * 12}",
])  # fmt: skip
def test_good_query_of_conversations_is_answered(user: Api, query: str) -> None:
    assert user.get(f"/chat/conversations?{query}").status_code == 200


@pytest.mark.parametrize("query", [
    "branch=", "branch=none", "branch=All", "branch=all&branch=all", "branch=%FF", "around=", "around=1",
    "around=x", f"around={ANY_ID}0", "around=%00",
])  # fmt: skip
def test_bad_branch_or_place_is_refused(user: Api, ids: dict[str, str], query: str) -> None:
    assert_problem(user.get(f"{lists(ids)[0]}?{query}"), 400, query.partition("=")[0])


@pytest.mark.parametrize("direction", ["after", "before"])
def test_a_page_around_a_message_has_no_direction(user: Api, direction: str) -> None:
    message = user.message(user.conversation()["id"])
    path = f"/chat/conversations/{message['conversation_id']}/messages?around={message['id']}"
    assert user.get(path).status_code == 200
    assert_problem(user.get(f"{path}&{direction}=1"), 400, "around")


@pytest.mark.parametrize("query", ["\x80", "limit=\xff", "\xed\xa0\x80=1"])
def test_query_in_raw_bytes_that_are_no_text_is_refused(user: Api, ids: dict[str, str], query: str) -> None:
    for path in lists(ids):
        assert_problem(user.get(path, environ_overrides={"QUERY_STRING": query}), 400)


def test_page_has_one_direction(user: Api, ids: dict[str, str]) -> None:
    for path in lists(ids):
        assert_problem(user.get(f"{path}?after=1&before=9"), 400, "before")
    assert_problem(user.get(f"/auth/tokens?after={new_id()}&before={new_id()}"), 400, "before")


@pytest.mark.parametrize(
    "query", ["after=1", "before=x", "after=", f"after={'0' * 36}", "limit=0", "surprise=1"]
)
def test_bad_page_of_a_list_by_id_is_refused(user: Api, ids: dict[str, str], query: str) -> None:
    for path in (
        "/auth/tokens",
        "/chat/llm-providers",
        "/chat/user-llm-configs",
        f"/chat/conversations/{ids['conversation']}/completions",
    ):
        assert_problem(user.get(f"{path}?{query}"), 400, query.partition("=")[0])


def lists(ids: dict[str, str]) -> tuple[str, str]:
    return (
        f"/chat/conversations/{ids['conversation']}/messages",
        f"/chat/messages/{ids['message']}/attachments",
    )


# -- completions ---------------------------------------------------------------------------------------------

DEEP: Any = "x"
for _ in range(120):
    DEEP = [DEEP]
FUNCTION = {"type": "function", "function": {"name": "f"}}
STEERING = ("base_url", "api_key", "headers", "extra_headers", "extra_body", "extra_query", "proxy", "proxies",
            "timeout", "url", "model", "messages", "stream", "stream_options", "n", "user", "system", "Temperature",
            "__proto__")  # fmt: skip
BAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    # the caller can't steer the call, nor say what is the service's own to say
    **{name: ({name: "x"}, f"{name}: Unknown field.") for name in STEERING},
    "headers object": ({"headers": {"Authorization": "Bearer x"}}, "headers: Unknown field."),
    "nested": ({"parameters": {"temperature": 1}}, "parameters: Unknown field."),
    "temperature text": ({"temperature": "1"}, "temperature: "),
    "temperature flag": ({"temperature": True}, "temperature: "),
    "temperature null": ({"temperature": None}, "temperature: "),
    "temperature list": ({"temperature": [1]}, "temperature: "),
    "temperature high": ({"temperature": 2.01}, "temperature: "),
    "temperature low": ({"temperature": -0.01}, "temperature: "),
    "temperature endless": ({"temperature": 10**400}, "temperature: "),
    "top_p": ({"top_p": 1.1}, "top_p: "),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens: "),
    "max_tokens half": ({"max_tokens": 1.5}, "max_tokens: "),
    "max_tokens text": ({"max_tokens": "10"}, "max_tokens: "),
    "max_tokens flag": ({"max_tokens": True}, "max_tokens: "),
    "max_tokens huge": ({"max_tokens": 10**30}, "max_tokens: "),
    "seed": ({"seed": 2**53 + 1}, "seed: "),
    "presence_penalty": ({"presence_penalty": 3}, "presence_penalty: "),
    "frequency_penalty": ({"frequency_penalty": -3}, "frequency_penalty: "),
    "reasoning_effort": ({"reasoning_effort": "most"}, "reasoning_effort: "),
    "stop empty": ({"stop": []}, "stop: "),
    "stop many": ({"stop": ["x"] * 5}, "stop: "),
    "stop numbers": ({"stop": [1]}, "stop: "),
    "stop of nothing": ({"stop": ""}, "stop: "),
    "stop long": ({"stop": "x" * 257}, "stop: "),
    "stop object": ({"stop": {"x": "y"}}, "stop: "),
    "response_format text": ({"response_format": "json"}, "response_format: "),
    "response_format list": ({"response_format": [{}]}, "response_format: "),
    "response_format deep": ({"response_format": {"x": DEEP}}, "response_format: "),
    "response_format large": ({"response_format": {"x": "y" * 300_000}}, "response_format: "),
    "response_format wide": ({"response_format": {"x": "€" * 90_000}}, "response_format: "),
    "response_format endless number": ({"response_format": {"x": [10**400]}}, "response_format: "),
    "tools object": ({"tools": FUNCTION}, "tools: "),
    "tools empty": ({"tools": []}, "tools: "),
    "tools many": ({"tools": [FUNCTION] * 129}, "tools: "),
    "tools null": ({"tools": [None]}, "tools.0: "),
    "tool of no function": ({"tools": [FUNCTION, {"type": "function"}]}, "tools.1.function: "),
    "tool of another type": ({"tools": [FUNCTION | {"type": "web_search"}]}, "tools.0.type: "),
    "tool with more": ({"tools": [FUNCTION | {"url": "http://x"}]}, "tools.0.url: Unknown field."),
    "function with more": (
        {"tools": [{"type": "function", "function": {"name": "f", "url": "x"}}]},
        "tools.0.function.url: Unknown field.",
    ),
    "function without name": ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name: "),
    "function of another name": (
        {"tools": [{"type": "function", "function": {"name": "f\n"}}]},
        "tools.0.function.name: ",
    ),
    "deep arguments": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": DEEP}}}]},
        "tools.0.function.parameters: ",
    ),
    "strict": (
        {"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]},
        "tools.0.function.strict: ",
    ),
    "tool_choice word": ({"tool_choice": "any"}, "tool_choice: "),
    "tool_choice list": ({"tool_choice": ["auto"]}, "tool_choice: "),
    "tool_choice null": ({"tool_choice": None}, "tool_choice: "),
    "tool_choice of nothing": ({"tool_choice": {"type": "function"}}, "tool_choice.function: "),
    "tool_choice name": (
        {"tool_choice": {"type": "function", "function": {"name": "f f"}}},
        "tool_choice.function.name: ",
    ),
    "parallel_tool_calls": ({"parallel_tool_calls": 1}, "parallel_tool_calls: "),
}
GOOD_PARAMETERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0, "top_p": 1.0, "max_tokens": 1, "seed": -7, "presence_penalty": -2, "frequency_penalty": 2},
    {"temperature": 2, "max_tokens": 90.0, "reasoning_effort": "none", "stop": "\n"},
    {"stop": ["a", "b", "c", "d"], "parallel_tool_calls": False, "tool_choice": "required"},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"maximum": 2**63 - 1}}}},
    {"tools": [FUNCTION] * 128, "tool_choice": FUNCTION},
    {"tools": [FUNCTION | {"function": {"name": "a.b-c_1", "description": "€", "parameters": {}, "strict": True}}]},
]  # fmt: skip


def completion_with(body_for: Callable[[str], dict[str, Any]], parameters: dict[str, Any]) -> bytes:
    return json.dumps(body_for("/chat/completions") | {"parameters": parameters}).encode()


@pytest.mark.parametrize(("parameters", "complaint"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameter_that_is_not_offered_is_refused_by_its_place(
    user: Api,
    provider: ScriptedProvider,
    body_for: Callable[..., Any],
    parameters: dict[str, Any],
    complaint: str,
) -> None:
    asked = len(provider.requests)
    raw = completion_with(body_for, parameters)
    for path in ("/chat/completions", "/chat/completions?dry_run=true"):
        [message] = assert_problem(send_raw(user, path, raw), 400, "parameters")["errors"]["parameters"]
        assert message.startswith(complaint)
    assert len(provider.requests) == asked


def test_all_that_is_wrong_inside_a_field_is_said_at_once(user: Api, body_for: Callable[..., Any]) -> None:
    raw = completion_with(body_for, {"temperature": "x", "base_url": "http://x", "tools": [{}]})
    problem = assert_problem(send_raw(user, "/chat/completions", raw), 400, "parameters")
    complaints = problem["errors"]["parameters"]
    assert sorted(complaint.partition(":")[0] for complaint in complaints) == [
        "base_url", "temperature", "tools.0.function", "tools.0.type",
    ]  # fmt: skip


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("place", ['{"temperature": @}', '{"seed": @}', '{"response_format": {"x": [@]}}'])
def test_number_that_is_none_is_refused_wherever_it_stands(
    user: Api, body_for: Callable[..., Any], place: str, constant: str
) -> None:
    raw = completion_with(body_for, {}).replace(b'"parameters": {}', b'"parameters": ' + place.encode())
    refused = send_raw(user, "/chat/completions?dry_run=true", raw.replace(b"@", constant.encode()))
    assert_problem(refused, 400, *(["parameters"] if "e999" in constant else []))


@pytest.mark.parametrize("depth", [120, 260, 900, 5000])
def test_depth_is_refused_before_anything_falls_over_it(
    user: Api, body_for: Callable[..., Any], depth: int
) -> None:
    nested = b'{"x":' * depth + b"1" + b"}" * depth
    for name in (b"response_format", b"tool_choice", b"stop", b"tools", b"unknown"):
        parameters = b'"parameters": {"%b": %b}' % (name, nested if name != b"tools" else b"[%b]" % nested)
        raw = completion_with(body_for, {}).replace(b'"parameters": {}', parameters)
        for headers in ({}, {"Idempotency-Key": new_id()}):
            assert send_raw(user, "/chat/completions", raw, headers=headers).status_code == 400


@pytest.mark.parametrize("parameters", GOOD_PARAMETERS, ids=range(len(GOOD_PARAMETERS)))
def test_parameters_are_sent_as_they_came(
    user: Api, body_for: Callable[..., Any], parameters: dict[str, Any]
) -> None:
    body = body_for("/chat/completions") | {"parameters": parameters}
    preview = user.post("/chat/completions?dry_run=true", body, headers={"Idempotency-Key": new_id()})
    assert preview.status_code == 200, preview.get_data(as_text=True)
    sent = preview.get_json()["request"]["body"]
    if isinstance(parameters.get("stop"), str):
        sent["stop"] = sent["stop"][0]
    assert parameters.items() <= sent.items()


def test_number_beyond_64_bits_is_sent_as_most_readers_take_it(
    user: Api, body_for: Callable[..., Any]
) -> None:
    raw = completion_with(body_for, {"response_format": {"x": [2**63 - 1, 2**80, -(2**80)]}})
    sent = send_raw(user, "/chat/completions?dry_run=true", raw).get_json()["request"]["body"]
    assert sent["response_format"] == {"x": [2**63 - 1, float(2**80), -float(2**80)]}


@pytest.mark.parametrize("name", ["base_url", "api_key", "headers", "api_endpoint", "timeout", "user_id", "messages",
                                  "system", "temperature", "max_tokens", "tools", "dry_run"])  # fmt: skip
def test_nothing_else_steers_a_completion(user: Api, body_for: Callable[..., Any], name: str) -> None:
    body = body_for("/chat/completions") | {name: "http://169.254.169.254/"}
    assert_problem(user.post("/chat/completions", body), 400, name)


@pytest.mark.parametrize("value", ["Continue", "stop", "continue ", "", True])
def test_unknown_end_for_a_client_that_leaves_is_refused(
    user: Api, body_for: Callable[..., Any], value: Any
) -> None:
    body = body_for("/chat/completions") | {"on_disconnect": value}
    assert_problem(user.post("/chat/completions", body), 400, "on_disconnect")


def test_completion_without_anything_to_answer_is_refused(user: Api, ids: dict[str, str]) -> None:
    body = {"conversation_id": user.conversation()["id"], "provider_id": ids["replying"], "model": "m"}
    for path in ("/chat/completions", "/chat/completions?dry_run=true"):
        assert_problem(user.post(path, body), 400, "content")
        assert_problem(user.post(path, {**body, "model": None, "content": "x"}), 400, "model")


@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=True", "dry_run=", "dry_run", "dry_run=yes", "dry_run=%00",
                                   "dry_run=true&dry_run=true", "dryrun=true", "stream=true"])  # fmt: skip
def test_bad_query_of_a_completion_is_refused(user: Api, body_for: Callable[..., Any], query: str) -> None:
    refused = user.post(f"/chat/completions?{query}", body_for("/chat/completions"))
    assert_problem(refused, 400, query.partition("=")[0])


NO_EVENT_IDS = ["x", "-2", "--1", "1.5", "+1", "1 2", "0x1", "1_0", "1" * 17, "٣", "1,2", "null"]


@pytest.mark.parametrize("text", NO_EVENT_IDS)
def test_bad_last_event_id_is_refused(user: Api, ids: dict[str, str], text: str) -> None:
    path = f"/chat/completions/{ids['completion']}/events"
    header = user.get(path, environ_overrides={"HTTP_LAST_EVENT_ID": text.encode().decode("latin-1")})
    assert_problem(header, 400, "Last-Event-ID")
    assert_problem(user.get(path, query_string={"after": text}), 400, "after")


@pytest.mark.parametrize(
    "query", ["after=", "after", "after=1&after=1", "limit=1", "after=%00", "after=%ED%A0%80"]
)
def test_bad_query_of_events_is_refused(user: Api, ids: dict[str, str], query: str) -> None:
    path = f"/chat/completions/{ids['completion']}/events"
    assert_problem(user.get(f"{path}?{query}"), 400, query.partition("=")[0])


@pytest.mark.parametrize("text", [None, "", "-1", "0", "00", "3", "9" * 16])
def test_good_last_event_id_is_answered(user: Api, ids: dict[str, str], text: str | None) -> None:
    path = f"/chat/completions/{ids['completion']}/events"
    headers = {} if text is None else {"Last-Event-ID": text}
    with user.get(path, headers=headers) as answered:
        assert answered.status_code == 200
        assert ("completion.started" in answered.get_data(as_text=True)) == (text in (None, "", "-1"))
    if text is not None:  # the header wins: it is what a client sends that comes back
        with user.get(f"{path}?after=2", headers=headers) as both:
            assert both.get_data() == answered.get_data()


# -- file_path and api_endpoint ------------------------------------------------------------------------------

GOOD_PATHS = [
    "uploads/a.png", "/mnt/share/a.png", "s3://bucket/a.png", "https://x.example/a?b=c#d",
    "HTTPS://x.example/a", "a..b", "..a", "a..", "...", ".", "./a", "./name:with:colons", "C:\\x", "d:/x",
    "ünï/文件 😀.png", " a ", "100%", "%zz", "%2e", "a%20b", "-rf", "~root", "$HOME", "<script>", "' OR 1=1 --",
    "CON", "\u200bx",
]  # fmt: skip
BAD_PATHS = [
    "..", "../a", "/../a", "a/../b", "a/..", "..\\a", "a\\..\\b", "a/..\\b", "s3://bucket/../a", "%2e%2e/a",
    "%2E%2E%2Fa", "a%2f..%2fb", "a/%2e./b", "..%5ca", "%252e%252e/a", "a%252f..%252fb", "file:///etc/passwd",
    "FILE:/etc/passwd", "file:a", "%66ile:///etc/passwd", "fi%6ce:a", " file:a", "\u00a0file:a",
    "javascript:alert(1)", "JaVaScRiPt:x", " javascript:x", "java%73cript:x", "javascript%3Ax", "vbscript:x",
    "data:text/html,x", "DATA:,x", "blob:x", "about:blank", "mailto:a@b.example", "gopher://x", "ldap://x",
    "jar:file:x", "a\nb", "a\rb", "a\tb", "\x1bx", "\x7f", "\x85", "\u2028x", "\u2029x", "a%00b", "a%0Ab",
    "a%250ab", "", "x" * 1025,
]  # fmt: skip


@pytest.mark.parametrize("file_path", GOOD_PATHS)
def test_file_path_is_stored_as_it_was_sent(user: Api, body_for: Callable[..., Any], file_path: str) -> None:
    body = body_for("/chat/attachments") | {"file_path": file_path}
    assert user.made("/chat/attachments", body)["file_path"] == file_path


@pytest.mark.parametrize("file_path", BAD_PATHS)
def test_file_path_that_could_do_harm_is_refused(
    user: Api, body_for: Callable[..., Any], file_path: str
) -> None:
    body = body_for("/chat/attachments") | {"file_path": file_path}
    assert_problem(user.post("/chat/attachments", body), 400, "file_path")


GOOD_URLS = [
    "https://api.example.com/v1", "http://[::1]:11434/v1", "http://localhost:11434", "http://10.0.0.1:8080/v1",
    "HTTPS://Api.Example", "https://a_b.example", "https://x.example/?api-version=2026-11-23",
    "http://ollama/v1", "https://x.example/a%20b", "http://x.example:65535", "http://x.example:1/a:b@c",
]  # fmt: skip
BAD_URLS = [
    "https://user:password@x.example", "https://user@x.example", "https://@x.example", "https://x.example/#f",
    "https://x.example#", "ftp://x.example", "file:///etc/passwd", "javascript:alert(1)", "//x.example",
    "x.example", "/v1", "http:", "http://", "http:///v1", "http://?x", "http://:80", "http:x.example",
    "http:/x.example", "http://x.example:0", "http://x.example:99999", "http://x.example:-1",
    "http://x.example:a", "http://x.example:", "http://a b.example", "http://x.example/a b",
    " http://x.example", "http://x.example\n", "http://x.example\t", "http://exämple.org", "http://x.example/é",
    "http://x.example\\@evil.example", "http://x.example/\\a", "http://a..b", "http://.a", "http://-a",
    "http://[::1", "http://[::g]", "http://[1..2]", "http://<x>", "http://x.example/\x7f",
    "http://" + "a" * 254, "https://x.example/" + "a" * 2048, "",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD_URLS)
def test_api_endpoint_is_stored_as_it_was_sent(user: Api, url: str) -> None:
    assert user.provider(api_endpoint=url)["api_endpoint"] == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_api_endpoint_that_is_no_url_of_a_service_is_refused(
    user: Api, ids: dict[str, str], url: str
) -> None:
    change = user.patch(f"/chat/llm-providers/{ids['provider']}", {"api_endpoint": url})
    assert_problem(change, 400, "api_endpoint")
    assert_problem(user.post("/chat/llm-providers", {"name": "P", "api_endpoint": url}), 400, "api_endpoint")


@pytest.mark.parametrize("key", ["sk 1", "sk-1\n", " sk-1", "schlüssel", "\x7f", "sk\t1"])
def test_api_key_that_fits_no_header_is_refused(user: Api, body_for: Callable[..., Any], key: str) -> None:
    problem = assert_problem(
        user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs") | {"api_key": key}),
        400,
        "api_key",
    )
    assert key not in json.dumps(problem, ensure_ascii=False)


# -- headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "\x7f"])
def test_bad_idempotency_key_is_refused(user: Api, body_for: Callable[..., Any], key: str) -> None:
    for path in POSTS:
        if path != "/auth/login":  # it creates nothing that a second request could create again
            assert_problem(
                user.post(path, body_for(path), headers={"Idempotency-Key": key}), 400, "Idempotency-Key"
            )
    preview = user.post(
        "/chat/completions?dry_run=true", body_for("/chat/completions"), headers={"Idempotency-Key": key}
    )
    assert_problem(preview, 400, "Idempotency-Key")


@pytest.mark.parametrize("header", [
    "", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer a.b.c", "Bearer é", "x" * 9000,
    "Bearer " + "." * 9000, "bearer\tx", "Bearer chat_pat_x", "Bearer eyJ9.e30.", "Token x",
])  # fmt: skip
def test_bad_token_is_401(stranger: Api, ids: dict[str, str], header: str) -> None:
    refused = stranger.get(f"/chat/conversations/{ids['conversation']}", headers={"Authorization": header})
    assert_problem(refused, 401)
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "request_id", ["abc-123", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
)
def test_sane_request_id_is_taken(user: Api, request_id: str) -> None:
    assert user.get("/auth/me", headers={"X-Request-ID": request_id}).headers.getlist("X-Request-ID") == [
        request_id
    ]


@pytest.mark.parametrize(
    "request_id", [None, "", "x" * 129, "a b", "a;b", "é", "a\tb", '"', "<script>", "a,b"]
)
def test_other_request_ids_are_replaced(user: Api, request_id: str | None) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id}
    made = {user.get("/auth/me", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    assert request_id not in made
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/healthz", 405), ("GET", "/healthz", 200), ("GET", "/docs", 200),
     ("GET", "/docs/", 200), ("OPTIONS", "/healthz", 200), ("HEAD", "/healthz", 200), ("POST", "/chat/messages", 401)],
)  # fmt: skip
def test_every_response_has_a_request_id(stranger: Api, method: str, path: str, status: int) -> None:
    response = stranger.request(method, path, headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.headers["X-Request-ID"]) == (status, "mine")


@pytest.mark.parametrize("host", ["", "a b", "x.example:port", "é", "a/b", "evil.example", "[::1"])
def test_strange_host_does_no_harm(stranger: Api, host: str) -> None:
    response = stranger.get("/healthz", headers={"Host": host})
    assert response.status_code in (200, 400)
    assert response.mimetype in ("application/json", "application/problem+json")


# -- the shape of answers ------------------------------------------------------------------------------------


def test_every_refusal_has_the_same_shape(
    user: Api, ids: dict[str, str], body_for: Callable[..., Any]
) -> None:
    """One of each status that clients meet; 413, 415 and 500 are elsewhere in this file."""
    conversation = body_for("/chat/conversations")
    key = {"Idempotency-Key": new_id()}
    user.made("/chat/conversations", conversation, headers=key)
    user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs"))
    refusals = {
        400: user.post("/chat/conversations", conversation | {"title": ""}),
        401: user.get("/auth/me", headers={"Authorization": "Bearer x"}),
        403: user.post("/chat/conversations", conversation | {"user_id": new_id()}),
        404: user.get(f"/chat/conversations/{new_id()}"),
        405: user.delete("/chat/messages"),
        409: user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs")),
        412: user.delete("/auth/me", headers={"If-Match": '"stale"'}),
        422: user.post("/chat/conversations", conversation | {"title": "Another"}, headers=key),
    }
    for status, response in refusals.items():
        assert_problem(response, status, *(["title"] if status == 400 else []))
    assert refusals[405].headers["Allow"] == "OPTIONS, POST"


def test_too_many_requests_say_when_to_come_back(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, LOGIN_LIMIT_PER_ACCOUNT="1 per hour") as app:
        body = {"email": new_email(), "password": "not the password"}
        assert Api(app).post("/auth/login", body).status_code == 401
        refused = Api(app).post("/auth/login", body)
        assert_problem(refused, 429)
        assert 0 < int(refused.headers["Retry-After"]) <= 3600


def test_database_that_is_away_is_503(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path / 'missing' / 'chat.db'}", tmp_path) as app:
        for response in (
            Api(app).get("/readyz"),
            Api(app).post("/auth/register", {"email": new_email(), "password": PASSWORD}),
            Api(app).post("/auth/login", {"email": new_email(), "password": PASSWORD}),
        ):
            assert_problem(response, 503)
            assert int(response.headers["Retry-After"]) > 0
        assert Api(app).get("/healthz").status_code == 200


@pytest.fixture
def raising(tmp_path: Path) -> Iterator[Callable[[BaseException], TestResponse]]:
    """Have a view raise an error; the answer."""
    with serving(f"sqlite:///{tmp_path / 'chat.db'}", tmp_path) as app:
        pending: list[BaseException] = []

        def raise_it() -> Any:
            raise pending.pop()

        app.add_url_rule("/raise", view_func=raise_it)

        def answer_to(error: BaseException) -> TestResponse:
            pending.append(error)
            return Api(app).get("/raise")

        yield answer_to


def errors_of_ours(kind: Any = errors.ApiError) -> Iterator[errors.ApiError]:
    """One of each class in the error tree, made with as few arguments as it takes."""
    problem = errors.problem_body(kind.status, kind.code, "why")
    ways: Any = [((), {}), ((problem,), {}), (("why",), {"retry_after_s": 3})]
    if not issubclass(kind, errors.ProviderFailed):
        ways[1] = (("why",), {})
    for arguments, named in ways:
        try:
            yield kind(*arguments, **named)
            break
        except TypeError:
            continue
    for child in kind.__subclasses__():
        yield from errors_of_ours(child)


OURS = {type(error).__name__: error for error in errors_of_ours()}


@pytest.mark.parametrize("error", OURS.values(), ids=OURS)
def test_error_of_ours_is_a_problem(raising: Callable[..., TestResponse], error: errors.ApiError) -> None:
    problem = assert_problem(raising(error), error.status)
    assert (problem["code"], problem["detail"]) == (error.code, error.detail)


def test_error_tree_is_complete() -> None:
    assert len(OURS) >= 14
    assert {400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 500, 502, 503, 504} == {
        error.status for error in OURS.values()
    }


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_error_of_the_framework_is_a_problem(raising: Callable[..., TestResponse], status: int) -> None:
    problem = assert_problem(raising(default_exceptions[status]()), status)
    assert re.fullmatch("[a-z_']+", problem["code"])


def test_unexpected_error_tells_the_client_nothing_and_the_log_everything(
    raising: Callable[..., TestResponse],
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logging.getLogger("chat_api").addHandler(handler)
    try:
        response = raising(ZeroDivisionError("the-secret-of-the-error"))
    finally:
        logging.getLogger("chat_api").removeHandler(handler)
    problem = assert_problem(response, 500)
    assert "secret" not in response.get_data(as_text=True)
    assert "ZeroDivisionError" not in response.get_data(as_text=True)
    line = json.loads(written.getvalue())
    assert (line["level"], line["request_id"]) == ("error", problem["request_id"])
    assert line["traceback"][-1] == "ZeroDivisionError: the-secret-of-the-error"
    assert any("raise_it" in frame for frame in line["traceback"])


def test_times_are_in_utc_with_a_z(user: Api, ids: dict[str, str]) -> None:
    messages, attachments = lists(ids)
    user.attachment(ids["message"])
    found = [
        user.get("/auth/me").get_json(),
        user.get(f"/chat/conversations/{ids['conversation']}").get_json(),
        user.get(f"/chat/llm-providers/{ids['provider']}").get_json(),
        user.config(user.provider()["id"]),
        user.made("/auth/tokens", {"name": "script"}),
        user.get(messages).get_json()[0],
        user.get(attachments).get_json()[0],
        user.get(f"/chat/completions/{ids['completion']}").get_json(),
        user.get(f"/chat/completions/{ids['completion']}").get_json()["message"],
    ]
    times = [value for one in found for name, value in one.items() if name.endswith("_at")]
    assert len(times) >= 13
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time), time
