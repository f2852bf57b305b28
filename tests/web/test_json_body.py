"""Bodies are JSON objects of bounded size and depth, whose text can be stored: everything else is refused."""

import json

import pytest
from flask import Flask

from tests.support.api import POSTS, Api
from tests.support.bad_json import NOT_AS_JSON, NOT_JSON, EndlessBody
from tests.support.bodies import JSON, MIB, Body, each_post, send_raw
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


@each_post
def test_huge_body_is_refused_before_it_is_read(app: Flask, user: Api, path: str) -> None:
    stream = EndlessBody()
    length = app.config["MAX_BODY_BYTES"] + 1
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
    assert stream.read_bytes <= app.config["MAX_BODY_BYTES"] + MIB


def test_whoever_sends_no_token_gets_nothing_read_at_all(app: Flask, stranger: Api) -> None:
    stream = EndlessBody()
    refused = stranger.post("/chat/messages", content_type=JSON, environ_overrides=stream.with_length(10))
    assert_problem(refused, 401)
    assert stream.read_bytes == 0


@pytest.mark.parametrize(("content_type", "headers"), NOT_AS_JSON.values(), ids=NOT_AS_JSON)
def test_body_that_is_not_sent_as_json_is_415(
    user: Api, body_for: Body, content_type: str | None, headers: dict[str, str]
) -> None:
    for path in POSTS:
        raw = json.dumps(body_for(path)).encode()
        assert_problem(send_raw(user, path, raw, content_type, headers=headers), 415)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_may_say_that_it_is_utf_8(user: Api, body_for: Body, content_type: str) -> None:
    raw = json.dumps(body_for("/chat/conversations")).encode()
    assert send_raw(user, "/chat/conversations", raw, content_type).status_code == 201
