"""Bodies are JSON objects of bounded size and depth, whose text can be stored: everything else is refused."""

import json
import re
import uuid
from functools import partial

import pytest
from flask import Flask

from chat_api.web import json_body
from chat_api.web.json_body import MAX_DIGITS, MAX_VALUES
from chat_api.web.request_body import CHUNK_BYTES, SMALL_BODY_BYTES
from tests.support.api import POSTS, Api
from tests.support.bad_json import NOT_AS_JSON, NOT_JSON, EndlessBody
from tests.support.bodies import JSON, MIB, Body, each_post, send_raw
from tests.support.interrupted import Interrupted
from tests.support.problems import assert_problem


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_body_that_is_no_json_object_is_refused(user: Api, raw: bytes) -> None:
    for path in POSTS:
        assert_problem(send_raw(user, path, raw), 400)


@pytest.mark.parametrize(
    "escape",
    ["\\u0000", "a\\u0000", "\\ud800", "\\udfff", "\\udc00\\ud800", "\\ud83dx"],
    ids=lambda escape: escape[1:],
)
def test_text_that_can_not_be_stored_is_refused_in_values_and_names(
    user: Api, body_for: Body, escape: str
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


# those that carry a message, a completion's parameters or metadata
LARGE_BODIES = ("/chat/messages", "/chat/completions", "/chat/conversations")
READ = (200, 201, 401, 409)  # also: no such login, and a key that is there already


def limit_of(app: Flask, path: str) -> int:
    limit: int = app.config["MAX_BODY_BYTES"] if path in LARGE_BODIES else SMALL_BODY_BYTES
    return limit


@each_post
def test_body_of_just_the_limit_is_read(app: Flask, user: Api, body_for: Body, path: str) -> None:
    limit = limit_of(app, path)
    raw = json.dumps(body_for(path)).encode()
    taken = send_raw(user, path, raw + b" " * (limit - len(raw)))
    assert taken.status_code in READ, taken.get_data(as_text=True)
    assert_problem(send_raw(user, path, raw + b" " * (limit + 1 - len(raw))), 413)


def test_everything_that_the_schemas_allow_fits_with_all_of_it_escaped(user: Api, body_for: Body) -> None:
    """Texts of the greatest length, each character written as an escape."""
    longest = {
        "/auth/login": {"email": "e" * 254, "password": "p" * 1024},
        "/auth/tokens": {"name": "\U0001f600" * 100},
        "/chat/conversations": {"title": "\U0001f600" * 255},
        "/chat/messages": {"content": "\x01" * 1024 * 1024, "tool_call_id": "\U0001f600" * 255},
        "/chat/attachments": {"file_path": "\U0001f600" * 1024},
        "/chat/llm-providers": {
            "name": "\U0001f600" * 255,
            "api_endpoint": "https://p.example/" + "p" * 2030,
        },
        "/chat/user-llm-configs": {"api_key": "k" * 4096, "default_model": "\U0001f600" * 255},
    }
    for path, fields in longest.items():
        raw = escaped(body_for(path) | fields)
        response = send_raw(user, path, raw)
        assert response.status_code in READ, (path, response.get_data(as_text=True))
        if path == "/chat/messages":
            assert len(raw) > 6 * 1024 * 1024
            assert response.get_json()["content"] == "\x01" * 1024 * 1024


def escaped(body: object) -> bytes:
    """The body with each character of its texts and names as an escape."""
    if isinstance(body, dict):
        return b"{" + b",".join(escaped(name) + b":" + escaped(value) for name, value in body.items()) + b"}"
    if isinstance(body, str):
        units = body.encode("utf-16-be")
        return (
            b'"'
            + b"".join(b"\\u%02x%02x" % pair for pair in zip(units[::2], units[1::2], strict=True))
            + b'"'
        )
    return json.dumps(body).encode()


MANY_VALUES = {
    "objects": b'{"x":[' + b"{}," * MAX_VALUES + b"{}]}",
    "arrays": b'{"x":[' + b"[]," * MAX_VALUES + b"[]]}",
    "numbers": b'{"x":[' + b"1," * MAX_VALUES + b"1]}",
    "texts": b'{"x":[' + rb'"\",\\",' * MAX_VALUES + b'""]}',
    "names": b"{" + b",".join(b'"%d":0' % number for number in range(MAX_VALUES)) + b"}",
    "nested arrays": b'{"x":' + b"[" * MAX_VALUES,
    "nested objects": b'{"x":' * MAX_VALUES,
    "and then no end": b'{"x":[' + b"{}," * MAX_VALUES + b'{}, "',
}


@pytest.mark.parametrize("raw", MANY_VALUES.values(), ids=MANY_VALUES)
@pytest.mark.parametrize("path", LARGE_BODIES)
def test_body_of_too_many_values_is_refused_before_it_is_parsed(
    user: Api, path: str, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_body, "_DECODER", None)  # nobody needs it
    refused = assert_problem(send_raw(user, path, raw), 400)
    assert refused["detail"] == f"The body has more than {MAX_VALUES} names and values."


def test_separators_inside_of_a_text_are_no_values(user: Api, body_for: Body) -> None:
    text = '[{"a": "b\\\\", "c": []}],\\"' * 30_000
    sent = send_raw(
        user, "/chat/messages", json.dumps(body_for("/chat/messages") | {"content": text}).encode()
    )
    assert sent.get_json()["content"] == text


def test_body_of_just_the_most_values_is_parsed(user: Api) -> None:
    # {"x":[0,0,…]}: a brace, a colon and a bracket, and a comma before each number but the first
    raw = b'{"x":[' + b"0," * (MAX_VALUES - 3) + b"0]}"
    assert "x" in send_raw(user, "/chat/messages", raw).get_json()["errors"]
    one_more = b'{"x":[' + b"0," * (MAX_VALUES - 2) + b"0]}"
    assert "values" in assert_problem(send_raw(user, "/chat/messages", one_more), 400)["detail"]


def test_integer_of_too_many_digits_is_refused(user: Api) -> None:
    for digits, is_read in ((MAX_DIGITS, True), (MAX_DIGITS + 1, False)):
        refused = send_raw(user, "/chat/messages", b'{"x": ' + b"9" * digits + b"}").get_json()
        assert (refused["detail"] == "The body contains a number with too many digits.") != is_read


@each_post
def test_huge_body_is_refused_before_it_is_read(app: Flask, user: Api, path: str) -> None:
    stream = EndlessBody()
    length = limit_of(app, path) + 1
    refused = user.post(path, content_type=JSON, environ_overrides=stream.with_length(length))
    assert_problem(refused, 413)
    assert stream.read_bytes == 0


@each_post
def test_huge_body_without_a_length_is_read_no_further_than_the_limit(
    app: Flask, user: Api, path: str
) -> None:
    stream = EndlessBody()
    refused = user.post(path, content_type=JSON, environ_overrides=stream.in_chunks())
    assert_problem(refused, 413)
    assert stream.read_bytes <= limit_of(app, path) + MIB


# the only operations that read a body before they know a caller
PUBLIC = {("POST", "/auth/register"), ("POST", "/auth/login")}
METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET", "TRACE", "QUERY")


def test_whoever_sends_no_token_gets_nothing_read_at_all(app: Flask, stranger: Api) -> None:
    """Of every route by every method, also where there is none."""
    paths = {re.sub("<[^>]*>", str(uuid.uuid4()), rule.rule) for rule in app.url_map.iter_rules()}
    operations = {(method, path) for method in METHODS for path in (*paths, "/none", "/chat/none")} - PUBLIC
    assert len(operations) > 150
    for method, path in sorted(operations):
        for framing in (EndlessBody.in_chunks, lambda stream: stream.with_length(10)):
            stream = EndlessBody()
            stranger.request(method, path, content_type=JSON, environ_overrides=framing(stream))
            assert stream.read_bytes == 0, (method, path)


@pytest.mark.parametrize("path", ["/auth/register", "/auth/login"])
def test_of_a_stranger_no_more_than_a_small_body_is_read(stranger: Api, path: str) -> None:
    for framing in (EndlessBody.in_chunks, lambda stream: stream.with_length(SMALL_BODY_BYTES)):
        stream = EndlessBody()
        response = stranger.post(path, content_type=JSON, environ_overrides=framing(stream))
        assert response.status_code in (400, 413)
        assert stream.read_bytes <= SMALL_BODY_BYTES + CHUNK_BYTES


@pytest.mark.parametrize(("content_type", "headers"), NOT_AS_JSON.values(), ids=NOT_AS_JSON)
def test_body_that_is_not_sent_as_json_is_415(
    user: Api, body_for: Body, content_type: str | None, headers: dict[str, str]
) -> None:
    for path in POSTS:
        raw = json.dumps(body_for(path)).encode()
        takes_forms = path == "/chat/attachments" and (content_type or "").startswith("multipart/")
        assert_problem(send_raw(user, path, raw, content_type, headers=headers), 400 if takes_forms else 415)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_may_say_that_it_is_utf_8(user: Api, body_for: Body, content_type: str) -> None:
    raw = json.dumps(body_for("/chat/conversations")).encode()
    assert send_raw(user, "/chat/conversations", raw, content_type).status_code == 201


def test_a_byte_order_mark_at_the_beginning_is_skipped(user: Api, body_for: Body) -> None:
    raw = b"\xef\xbb\xbf" + json.dumps(body_for("/chat/conversations")).encode()
    assert send_raw(user, "/chat/conversations", raw).status_code == 201


@pytest.mark.parametrize("ends", ["login", "token"])
def test_a_large_body_whose_sender_was_revoked_meanwhile_is_refused(app: Flask, ada: Api, ends: str) -> None:
    conversation_id = ada.conversation()["id"]
    sender, end = ada, partial(ada.post, "/auth/logout", {})
    if ends == "token":
        made = ada.made("/auth/tokens", {"name": "script"})
        sender, end = Api(app, made["token"]), partial(ada.delete, f"/auth/tokens/{made['id']}")
    message = {"conversation_id": conversation_id, "role": "user", "content": "x" * 2 * SMALL_BODY_BYTES}
    raw = json.dumps(message).encode()
    overrides = {"wsgi.input": Interrupted(raw, end), "CONTENT_LENGTH": str(len(raw))}
    response = sender.request("POST", "/chat/messages", content_type=JSON, environ_overrides=overrides)
    assert_problem(response, 401)
