"""Providers' error responses: the right kind of error, a message fit for users, never the key."""

import email.utils
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from chat_api.llm.errors import ProviderError
from tests.support.asking import KEY, AskingMaker
from tests.support.provider import Reply, ScriptedProvider, error_answer, json_answer, openai_stream

FORMATS = ["openai", "anthropic"]


@pytest.mark.parametrize("api_format", FORMATS)
@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        (400, "provider_invalid_request", "The provider answered 400: Bad thing"),
        (
            401,
            "provider_refused_key",
            "The provider refused the key. Check the key and its permissions. "
            "The provider answered 401: Bad thing",
        ),
        (402, "provider_quota_exceeded", "used up. The provider answered 402: Bad thing"),
        (403, "provider_not_allowed", "does not allow this request. The provider answered 403: Bad thing"),
        (404, "provider_failed", "The provider answered 404: Bad thing"),
        (413, "provider_context_too_long", "413: Bad thing"),
        (422, "provider_invalid_request", "The provider answered 422: Bad thing"),
        (
            429,
            "provider_rate_limited",
            "rate limit for this key is reached. Try again later. The provider answered 429: Bad thing",
        ),
        (451, "provider_not_allowed", "451: Bad thing"),
        (500, "provider_failed", "The provider answered 500: Bad thing"),
        (503, "provider_overloaded", "503: Bad thing"),
        (529, "provider_overloaded", "529: Bad thing"),
        (304, "provider_failed", "redirects are not followed"),
        (201, "provider_failed", "201: Bad thing"),
    ],
)
def test_status(
    asking: AskingMaker,
    provider: ScriptedProvider,
    api_format: str,
    status: int,
    code: str,
    detail: str,
) -> None:
    provider.script(error_answer(status, "Bad thing"))
    error = asking(api_format).error()
    assert isinstance(error, ProviderError)
    assert error.code == code
    assert detail in error.detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"message": "Bad thing"}}, "500: Bad thing"),
        ({"error": "Bad thing"}, "500: Bad thing"),
        ({"message": "Bad thing"}, "500: Bad thing"),
        ([{"error": {"message": "Bad thing"}}], "500: Bad thing"),
        ({"error": {"message": "Bad\n\tthing\x00 \u202eand \x1b[31m"}}, "500: Bad thing and [31m"),
        ({"error": {"message": ["Bad", "thing"]}}, "500: Bad; thing"),
        ({"error": None}, "500."),
        ({"error": True, "message": "Bad thing"}, "500: Bad thing"),
        ({"error": {"type": "bad_thing", "message": ""}}, "500: bad_thing"),
        ([], "500."),
        ({}, "500."),
        ({"id": "x", "created": 7}, "500."),
        (7, "500."),
        (None, "500."),
        ("Bad thing", "500: Bad thing"),
    ],
)
def test_message_of_the_provider(
    asking: AskingMaker, provider: ScriptedProvider, body: Any, detail: str
) -> None:
    provider.script(json_answer(body, 500))
    assert asking().error().detail == f"The provider answered {detail}"


def test_pages_are_left_out(asking: AskingMaker, provider: ScriptedProvider) -> None:
    page = b"<html><body>Internal host db1.corp, model x is not there</body></html>"
    for body in (page, b"\n <!DOCTYPE html>" + page, b'<?xml version="1.0"?><Error>db1.corp</Error>'):
        provider.script(Reply(body, status=404, content_type="text/html"))
        error = asking().error()
        assert (error.code, error.detail) == ("provider_failed", "The provider answered 404 with a web page.")
        provider.script(json_answer({"error": {"message": body.decode()}}, 404))
        assert "db1" not in asking().error().detail
        provider.script(Reply(body, content_type="text/html; charset=utf-8"))
        error = asking().error()
        assert "a web page (HTML) instead of a reply" in error.detail
        assert "db1" not in error.detail


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("<h1>Bad</h1><script>alert(1)</script>thing", "Bad alert(1) thing"),
        ('Bad <img src=x onerror="alert(1)"> thing', "Bad thing"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("Bad\r\nSet-Cookie: a=b\x1b[31m\u202e\u200b\x00", "Bad Set-Cookie: a=b [31m"),
    ],
)
def test_messages_are_one_line_without_markup(
    asking: AskingMaker, provider: ScriptedProvider, message: str, shown: str
) -> None:
    for status in (400, 401, 403, 429, 500):
        provider.script(error_answer(status, message))
        assert asking().error().detail.endswith(f"The provider answered {status}: {shown}")


def test_long_message_is_cut(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(error_answer(500, "bad " * 10_000))
    assert len(asking().error().detail) < 540


def test_missing_content_type_is_taken_for_a_stream(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(Reply(*openai_stream("a").steps, content_type=None))
    assert asking().events()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", range(7, 8)),
        ("0", range(0, 1)),
        (100, range(60, 101)),  # a date, so many seconds from now
        (-100, range(0, 1)),
        ("999999999999999", range(86400, 86401)),
        ("1.5", range(2, 3)),
    ],
)
def test_retry_after(
    asking: AskingMaker, provider: ScriptedProvider, header: str | int, expected: range
) -> None:
    if isinstance(header, int):
        header = email.utils.formatdate(time.time() + header, usegmt=True)
    provider.script(error_answer(429, "Slow down", {"Retry-After": header}))
    error = asking().error()
    assert isinstance(error, ProviderError)
    assert error.retry_after_s in expected


@pytest.mark.parametrize("header", ["", "soon", "-5", "1e3", "٣", "Mon, 99 Foo"])
def test_retry_after_that_cannot_be_read(
    asking: AskingMaker, provider: ScriptedProvider, header: str
) -> None:
    provider.script(error_answer(429, "Slow down", {"Retry-After": header.encode().decode("latin-1")}))
    error = asking().error()
    assert isinstance(error, ProviderError)
    assert error.retry_after_s is None


LEAKS = [
    f"Incorrect API key provided: {KEY}.",
    f"Bad header: Bearer {KEY}",
    f"key={KEY}&x=1",
    f"Key {KEY[:8]}...{KEY[-4:]} has no quota",
    f"Key {KEY[:12]}****",
    f"Key ending in {KEY[-8:]} is used up",
    "Another key: sk-ant-api03-abcdefghijkl and AIzaSyA1234567890abcdefghijklmnopqrstu",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
]
SECRETS = [KEY, KEY[:8], KEY[-8:], KEY[-4:], "sk-", "abcdefghij", "AIza", "eyJ"]


@pytest.mark.parametrize("api_format", FORMATS)
@pytest.mark.parametrize("message", LEAKS)
def test_key_is_never_repeated(
    asking: AskingMaker,
    provider: ScriptedProvider,
    caplog: pytest.LogCaptureFixture,
    api_format: str,
    message: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    in_stream = Reply(f'data: {{"error":{{"message":"{message}"}}}}\n\n'.encode())
    for reply in (*(error_answer(status, message) for status in (400, 401, 403, 429, 500)), in_stream):
        provider.script(reply)
        error = asking(api_format).error()
        visible = repr(error) + str(error) + error.detail + caplog.text
        assert not [secret for secret in SECRETS if secret in visible]
        assert error.__context__ is None or KEY not in repr(error.__context__)


@pytest.mark.parametrize("text", ["-_", "a-", "*a", "a..", "k.", "a"])
def test_hiding_keys_takes_little_time(asking: AskingMaker, provider: ScriptedProvider, text: str) -> None:
    provider.script(*[error_answer(400, text * 2000)] * 20)
    ask = asking()
    begin = time.process_time()
    for _ in range(20):
        ask.error()
    assert time.process_time() - begin < 1  # with backtracking two to four


@pytest.mark.parametrize(
    "words",
    [
        "unexpected keyword_arguments, skeletonized keyboard_layout",
        "claude-3-7-sonnet-20250219 and Meta-Llama-3.1-405B-Instruct-Turbo are gone",
        "request 550e8400-e29b-41d4-a716-446655440000 failed at 2026-01-31T12:00:00Z",
        "see https://platform.example.com/account/api-keys for key-value pairs",
    ],
)
def test_words_that_only_begin_like_a_key_stay(
    asking: AskingMaker, provider: ScriptedProvider, words: str
) -> None:
    provider.script(error_answer(500, words))
    assert asking().error().detail == f"The provider answered 500: {words}"


def test_ordinary_words_stay(asking: AskingMaker, provider: ScriptedProvider) -> None:
    message = "This model's maximum context length is 128000 tokens. However, you requested 130512 tokens (v1.2.3)..."
    provider.script(error_answer(400, message))
    assert asking().error().detail.endswith(f"The provider answered 400: {message}")


def test_headers_of_the_provider_are_never_repeated(asking: AskingMaker, provider: ScriptedProvider) -> None:
    """Only what says who asks, and no secret, stays."""
    ask = asking()
    secret = "team-7Hq2vX9pLw4z"
    headers = {"X-Team": f"Token {secret}", "HTTP-Referer": "https://chat.example.com"}
    ask.endpoint = replace(ask.endpoint, headers=headers)
    words = f"No team {secret} ({secret[:10]}…), seen from https://chat.example.com."
    for answer in (error_answer(400, words), json_answer({"error": {"message": words}})):
        provider.script(answer)
        detail = ask.error().detail
        assert provider.last.headers["x-team"] == headers["X-Team"]
        assert "7Hq2" not in detail
        assert "seen from https://chat.example.com" in detail
    provider.script(error_answer(400, words))
    with pytest.raises(ProviderError) as caught:
        ask.client.list_models(ask.endpoint)
    assert "7Hq2" not in caught.value.detail
