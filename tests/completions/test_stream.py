"""A streamed reply: its events, their order, and what the stream looks like from outside."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from tests.completions.chat import Chat, joined, wait_for, wait_until_durable
from tests.support.api import Api
from tests.support.provider import BREAK, STALL, error_answer, openai_chunk, openai_stream


def test_the_events_of_a_reply(chat: Chat) -> None:
    chat.script(openai_stream("Hel", "lo", usage=(16, 3)))
    stream = chat.stream(content="Hi")
    started, *deltas, ended = stream.rest()
    user, assistant = chat.messages
    assert (started.id, started.name) == (0, "completion.started")
    completion = started.content["completion"]
    assert (completion["status"], completion["usage"], completion["finished_at"]) == (
        "in_progress",
        None,
        None,
    )
    reply = completion["message"]
    assert started.content["messages"] == [user, reply]
    assert reply | {"created_at": None} == assistant | {
        "content": "",
        "position": None,
        "status": "in_progress",
        "created_at": None,
    }
    assert {event.name for event in deltas} == {"completion.delta"}
    assert joined(deltas) == "Hello"
    assert (ended.name, ended.content) == ("completion.completed", {"completion": chat.get(completion["id"])})
    assert ended.content["completion"]["message"] == assistant
    assert ended.content["completion"]["usage"] == {
        "prompt_tokens": 16,
        "completion_tokens": 3,
        "total_tokens": 19,
        "estimated": False,
    }


def test_headers_keep_proxies_from_collecting(chat: Chat) -> None:
    stream = chat.stream()
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["Cache-Control"] == "no-cache, no-transform"
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert "X-Request-ID" in stream.headers
    for name in ("Content-Length", "Connection", "ETag", "Content-Encoding"):
        assert name not in stream.headers
    stream.rest()
    again = chat.events(stream.id)
    assert {name: again.headers[name] for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering")} == {
        name: stream.headers[name] for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering")
    }
    again.rest()


def test_ids_count_up(chat: Chat) -> None:
    chat.script(openai_stream(*"Überall 😀 gibt es Zeichen", pause_s=0.002))
    ids = [event.id for event in chat.stream().rest()]
    assert ids == sorted(set(ids))
    assert ids[0] == 0


def test_text_comes_while_the_provider_still_writes(chat: Chat) -> None:
    more = threading.Event()
    chat.script(openai_stream("Once", more, " more"))
    stream = chat.stream().until("Once")
    found = chat.get(stream.id)
    assert (found["status"], found["message"]["content"]) == ("in_progress", "Once")
    assert [role for role, _, _ in chat.said] == ["user"]
    more.set()
    stream.rest()
    assert (stream.text, stream.end.name) == ("Once more", "completion.completed")


def test_the_first_event_comes_before_the_provider_says_anything(chat: Chat) -> None:
    chat.script(openai_stream(STALL))
    stream = chat.stream()
    assert stream.next().name == "completion.started"
    chat.cancel(stream.id)
    assert stream.rest()[-1].name == "completion.cancelled"


@pytest.mark.parametrize(
    "text",
    [
        "data: forged\n\nevent: completion.completed\ndata: {}\n\n",
        "a\r\nb\rc\n\n\nd",
        "id: 7\nretry: 1\n: comment\n",
        "\u2028\u2029\x85\x0b\x0c\x1c\ufeff\u200f",
        '"}\n\ndata: [DONE]\n\n',
        "👩‍👩‍👧‍👦 ẞ 漢字 עברית",
    ],
)
def test_no_text_can_forge_an_event(chat: Chat, text: str) -> None:
    """The test's parser of streams is a strict one: each event has one id, one name and one line of JSON."""
    chat.script(openai_stream("x", text, "y"))
    stream = chat.stream()
    stream.rest()
    assert (stream.text, stream.end.name) == (f"x{text}y", "completion.completed")
    again = chat.events(stream.id)
    again.rest()
    assert again.text == stream.text


@pytest.mark.parametrize(
    ("finish", "name"),
    [
        ("stop", "completion.completed"),
        ("length", "completion.incomplete"),
        ("content_filter", "completion.incomplete"),
    ],
)
def test_the_last_event_says_how_it_ended(chat: Chat, finish: str, name: str) -> None:
    chat.script(openai_stream("So far", finish=finish))
    stream = chat.stream()
    stream.rest()
    assert stream.end.name == name
    assert stream.end.content["completion"]["finish_reason"] == finish
    assert "problem" not in stream.end.content


def test_a_failure_before_the_first_word(chat: Chat) -> None:
    chat.script(error_answer(500, "out of order"))
    started, ended = chat.stream(content="Hi").rest()
    assert (started.name, ended.name) == ("completion.started", "completion.failed")
    problem = ended.content["problem"]
    assert problem == ended.content["completion"]["problem"]
    assert {name: problem[name] for name in ("type", "title", "status", "code")} == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "code": "provider_failed",
    }
    assert problem["detail"]
    assert ended.content["completion"]["message"] is None
    assert chat.said == [("user", "Hi", "completed")]


def test_a_failure_in_mid_stream(chat: Chat) -> None:
    chat.script(openai_stream("So ", "far", BREAK))
    stream = chat.stream()
    stream.rest()
    assert (stream.text, stream.end.name) == ("So far", "completion.incomplete")
    assert stream.end.content["problem"]["code"] == "provider_unreachable"
    assert stream.end.content["completion"]["message"]["content"] == "So far"


def test_reasoning_has_events_of_its_own(chat: Chat) -> None:
    thoughts = [openai_chunk({"reasoning_content": text}) for text in ("Let me", " see")]
    chat.script(
        openai_stream(*thoughts, "Yes", openai_chunk({"reasoning": " (hm)"}), "!"), openai_stream("2")
    )
    stream = chat.stream(content="Is it?")
    stream.rest()
    assert joined(stream.seen, "completion.reasoning") == "Let me see (hm)"
    assert stream.text == "Yes!"
    completion = stream.end.content["completion"]
    assert (completion["reasoning"], completion["message"]["content"]) == ("Let me see (hm)", "Yes!")
    again = chat.events(stream.id)
    again.rest()
    assert _in_one(again.seen) == _in_one(stream.seen)
    chat.reply(content="Sure?")
    assert [message["content"] for message in chat.sent[1].json["messages"]] == ["Is it?", "Yes!", "Sure?"]


def _in_one(events: list[Any]) -> list[tuple[str, str]]:
    """Names and texts of the deltas, neighbours of one kind joined."""
    found: list[tuple[str, str]] = []
    for event in events:
        if "delta" in event.content:
            if found and found[-1][0] == event.name:
                found[-1] = (event.name, found[-1][1] + event.content["delta"])
            else:
                found.append((event.name, event.content["delta"]))
    return found


def test_refusals_are_no_streams(chat: Chat) -> None:
    response = chat.ask(stream=True, content="")
    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    chat.script(openai_stream("a", STALL))
    stream = chat.stream()
    refused = chat.ask(stream=True)
    assert (refused.status_code, refused.content_type) == (409, "application/problem+json")
    chat.cancel(stream.id)
    stream.rest()


def test_a_client_that_leaves_changes_nothing(chat: Chat) -> None:
    """`on_disconnect: continue` is the default: the reply is written to its end, its usage is the provider's."""
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two", usage=(5, 6)))
    stream = chat.stream().until("one ")
    stream.close()
    more.set()
    completion = chat.ended(stream.id)
    assert (completion["status"], completion["message"]["content"]) == ("completed", "one two")
    assert completion["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": 11,
        "estimated": False,
    }


def test_a_client_that_leaves_before_the_first_word_changes_nothing(chat: Chat) -> None:
    more = threading.Event()
    chat.script(openai_stream(more, "late"))
    stream = chat.stream()
    stream.next()
    stream.close()
    chat.request()
    more.set()
    assert chat.ended(stream.id)["message"]["content"] == "late"


def test_what_is_shown_is_durable_within_a_quarter_of_a_second(chat: Chat, app: Flask) -> None:
    more = threading.Event()
    chat.script(openai_stream("kept", more))
    stream = chat.stream().until("kept")
    wait_until_durable(app, stream.id, "kept")
    more.set()
    stream.rest()
    assert stream.end.content["completion"]["message"]["content"] == "kept"


def test_no_session_is_held_while_the_provider_is_silent(chat: Chat, serve: Any) -> None:
    """More replies in progress than the worker has database connections, and it still answers."""
    more = threading.Event()
    chat.script(openai_stream("a", more, "b"))
    with serve(DATABASE_POOL_SIZE=2, DATABASE_WAIT_S=1) as small:
        streams = [chat.elsewhere().on(small).stream() for _ in range(6)]
        for stream in streams:
            stream.until("a")
        assert chat.on(small).messages == []
        more.set()
        for stream in streams:
            stream.rest()
            assert stream.text == "ab"
        wait_for(lambda: all(chat.get(stream.id)["status"] == "completed" for stream in streams))


# -- a token that is revoked ------------------------------------------------------------------------------


def read_with(chat: Chat, user: Api) -> Chat:
    """The same conversation, with another token of its user."""
    return replace(chat, api=user)


def script_of(user: Api) -> tuple[Api, str]:
    """A personal access token of the user, and its path."""
    made = user.log_in().made("/auth/tokens", {"name": "script"})
    return Api(user.app, made["token"], user.user), f"/auth/tokens/{made['id']}"


@pytest.mark.parametrize("on_disconnect", ["continue", "cancel"])
@pytest.mark.parametrize("is_script", [False, True], ids=["login", "personal token"])
def test_a_stream_ends_when_its_token_is_revoked_and_the_reply_continues(
    chat: Chat, is_script: bool, on_disconnect: str
) -> None:
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two"))
    reader, path = script_of(chat.api) if is_script else (chat.api.log_in(), "")
    stream = read_with(chat, reader).stream(on_disconnect=on_disconnect).until("one ")
    revoked = chat.api.log_in().delete(path) if is_script else reader.post("/auth/logout")
    assert revoked.status_code == 204
    began = time.monotonic()
    stream.rest()
    assert time.monotonic() - began < 5
    assert not stream.seen[-1].is_end
    assert chat.get(stream.id)["status"] == "in_progress"
    more.set()
    assert chat.ended(stream.id)["message"]["content"] == "one two"


def test_a_stream_of_another_worker_and_a_waiting_request_end_with_their_login(
    chat: Chat, other_app: Flask
) -> None:
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two"))
    user = chat.api.log_in()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(read_with(chat, user).ask)
        wait_for(lambda: chat.completions)
        [completion] = chat.completions
        stream = read_with(chat, user).on(other_app).events(completion["id"]).until("one ")
        assert user.post("/auth/logout").status_code == 204
        began = time.monotonic()
        stream.rest()
        assert waiting.result().status_code == 401
        assert time.monotonic() - began < 6
    assert not stream.seen[-1].is_end
    more.set()
    assert chat.ended(completion["id"])["status"] == "completed"
