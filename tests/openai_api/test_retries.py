"""Requests that an SDK sends again by itself: a lost answer doubles nothing."""

import json
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.idempotency import retries
from chat_api.idempotency.models import RecentRequest
from chat_api.openai_api import routes
from tests.completions.chat import wait_for
from tests.openai_api.door import COMPLETIONS, HEADER, Door, refused, user
from tests.support.api import Api
from tests.support.provider import STALL, ScriptedProvider, error_answer, openai_chunk, openai_stream

RETRY = "X-Stainless-Retry-Count"
REPLAYED = "Idempotency-Replayed"


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    found = Door.open(ada, provider, name="Scripted")
    found.script(*(openai_stream(f"Reply {number}") for number in range(1, 6)))
    return found


def tried(door: Door, count: Any, *messages: Any, headers: Any = None, **fields: Any) -> TestResponse:
    return door.ask(*(messages or [user("Hi")]), headers={RETRY: str(count), **(headers or {})}, **fields)


def text_of(response: TestResponse) -> str:
    assert response.status_code == 200, response.get_data(as_text=True)
    text: str = response.get_json()["choices"][0]["message"]["content"]
    return text


def test_a_lost_answer_is_given_again(door: Door) -> None:
    first = tried(door, 0)
    for count in (1, 2):
        again = tried(door, count)
        assert again.get_json() == first.get_json()
        assert again.headers[REPLAYED] == "true"
        assert again.headers[HEADER] == first.headers[HEADER]
    assert REPLAYED not in first.headers
    assert len(door.sent) == len(door.conversations()) == 1
    streamed = tried(door, 0, stream=True).get_data()
    assert tried(door, 1, stream=True).get_data() == streamed
    assert len(door.sent) == 2


@pytest.mark.parametrize("count", ["0", "", "-1", "one", "99999", "٣"])
def test_equal_questions_asked_twice_are_two(door: Door, count: str) -> None:
    tried(door, 0)
    headers = {} if count == "٣" else {RETRY: count}
    assert text_of(door.ask(user("Hi"), headers=headers)) == "Reply 2"
    assert len(door.conversations()) == 2


def test_a_first_try_that_never_arrived(door: Door) -> None:
    assert text_of(tried(door, 2)) == "Reply 1"


@pytest.mark.parametrize("differs", ["body", "header", "sender", "user", "key"])
def test_what_is_another_request(door: Door, bob: Api, provider: ScriptedProvider, differs: str) -> None:
    first = tried(door, 0)
    if differs == "body":
        again = tried(door, 1, temperature=0.5)
    elif differs == "header":
        again = tried(door, 1, headers={HEADER: first.headers[HEADER]})
    elif differs == "key":
        again = tried(door, 1, headers={"Idempotency-Key": "a key"})
    else:
        token = door.api.made("/auth/tokens", {"name": "sdk"})["token"]
        api = Api(door.api.app, token) if differs == "sender" else bob
        other = Door(api, provider, door.slug, door.provider_id, door.model)
        if differs == "user":
            other = Door.open(bob, provider, name="Scripted")
            assert other.slug == door.slug
        again = tried(other, 1)
    assert again.status_code == 200, again.get_data(as_text=True)
    assert REPLAYED not in again.headers
    assert again.get_json()["id"] != first.get_json()["id"]


def test_equal_requests_get_a_reply_each_again(door: Door) -> None:
    firsts = [tried(door, 0).get_json()["id"] for _ in range(3)]
    agains = [tried(door, 1).get_json()["id"] for _ in range(3)]
    assert sorted(agains) == sorted(firsts)
    assert tried(door, 1).get_json()["id"] not in firsts


def test_a_reply_in_progress_is_read_along(door: Door) -> None:
    goes_on = threading.Event()
    door.script(openai_stream("So ", goes_on, "far"))
    first = tried(door, 0, stream=True)
    parts: Any = iter(first.response)
    while b"So " not in next(parts):
        pass
    again: Any = iter(tried(door, 1, stream=True).response)
    while b"So " not in next(again):
        pass
    first.close()  # which would cancel the reply if nobody else read it
    goes_on.set()
    rest = b"".join(again)
    assert b"far" in rest
    assert b"[DONE]" in rest
    [conversation] = door.conversations()
    assert door.said(conversation["id"]) == [("user", "Hi"), ("assistant", "So far")]


@pytest.mark.parametrize("stream", [False, True])
def test_after_a_failure_the_same_question_is_answered(door: Door, stream: bool) -> None:
    door.script(error_answer(500, "out of order"), openai_stream("Now."), openai_stream("And now."))
    history = [user("Hi")]
    refused(tried(door, 0, *history, stream=stream), 502, "provider_failed")
    again = tried(door, 1, *history, stream=stream)
    assert REPLAYED not in again.headers
    assert "Now." in again.get_data(as_text=True)
    [conversation] = door.conversations()
    assert door.said(conversation["id"]) == [("user", "Hi"), ("assistant", "Now.")]
    assert tried(door, 2, *history, stream=stream).headers[REPLAYED] == "true"


def test_after_a_failure_of_a_named_conversation(door: Door) -> None:
    named = door.ask(user("Hi")).headers[HEADER]
    door.script(error_answer(500, "out of order"), openai_stream("Now."))
    for count, status in ((0, 502), (1, 200)):
        response = tried(door, count, user("And?"), headers={HEADER: named})
        assert response.status_code == status
    assert door.said(str(uuid.UUID(named.removeprefix("conv_")))) == [
        ("user", "Hi"), ("assistant", "Reply 1"), ("user", "And?"), ("assistant", "Now."),
    ]  # fmt: skip


def test_a_reply_that_was_deleted_is_written_again(door: Door) -> None:
    first = tried(door, 0)
    conversation = uuid.UUID(first.headers[HEADER].removeprefix("conv_"))
    assert door.api.delete(f"/chat/conversations/{conversation}").status_code == 204
    assert text_of(tried(door, 1)) == "Reply 2"


def test_nothing_is_noted_of_what_is_not_stored(app: Flask, door: Door) -> None:
    tried(door, 0, store=False)
    assert text_of(tried(door, 1, store=False)) == "Reply 2"
    assert _rows(app, door) == 0


# -- time -------------------------------------------------------------------------------------------------------


def _rows(app: Flask, door: Door) -> int:
    with app.app_context():
        own = RecentRequest.user_id == door.api.user_id
        return db.session.scalar(sa.select(sa.func.count()).where(own)) or 0


def _age(app: Flask, door: Door, age: timedelta) -> None:
    with app.app_context():
        own = RecentRequest.user_id == door.api.user_id
        db.session.execute(sa.update(RecentRequest).where(own).values(created_at=now() - age))
        db.session.commit()


@pytest.mark.parametrize(("minutes", "text"), [(14, "Reply 1"), (15, "Reply 2")])
def test_a_request_is_known_for_fifteen_minutes(app: Flask, door: Door, minutes: int, text: str) -> None:
    tried(door, 0)
    _age(app, door, timedelta(minutes=minutes))
    assert text_of(tried(door, 1)) == text


@pytest.mark.parametrize(("minutes", "left"), [(14, 2), (15, 0)])
def test_old_ones_are_deleted(app: Flask, door: Door, minutes: int, left: int) -> None:
    tried(door, 0)
    tried(door, 0)
    _age(app, door, timedelta(minutes=minutes))
    with app.app_context():
        while retries.delete_expired_and_commit():
            pass
    assert _rows(app, door) == left


# -- clients that leave -----------------------------------------------------------------------------------------


@pytest.fixture
def leaving(door: Door) -> Any:
    """Ask over a connection that can be closed; the answer is a future, and so is the socket's other end."""
    ours, theirs = socket.socketpair()
    pool = ThreadPoolExecutor(1)
    body = {"model": door.name, "messages": [user("Hi")]}

    def ask(**headers: str) -> Any:
        return pool.submit(
            lambda: door.api.post(
                COMPLETIONS,
                data=json.dumps(body),
                content_type="application/json",
                headers=headers,
                environ_overrides={"gunicorn.socket": ours},
            )
        )

    yield ask, theirs, body
    ours.close()
    theirs.close()
    pool.shutdown()


def _statuses(door: Door) -> list[str]:
    [conversation] = door.conversations()
    path = f"/chat/conversations/{conversation['id']}/completions"
    return [each["status"] for each in door.api.get(path).get_json()]


def test_a_client_that_comes_back_finds_the_reply_going_on(
    door: Door, leaving: tuple[Callable[..., Any], socket.socket, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "PATIENCE_S", 1.0)
    ask, connection, body = leaving
    goes_on = threading.Event()
    door.script(openai_stream("So ", goes_on, "far"))
    first = ask(**{RETRY: "0"})
    wait_for(lambda: door.sent)
    connection.close()
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(
            lambda: door.api.post(
                COMPLETIONS, data=json.dumps(body), content_type="application/json", headers={RETRY: "1"}
            )
        )
        first.result()  # has given up: somebody else reads the reply
        assert _statuses(door) == ["in_progress"]
        goes_on.set()
        assert text_of(again.result()) == "So far"
    assert _statuses(door) == ["completed"]


@pytest.mark.parametrize("headers", [{RETRY: "0"}, {}])
def test_a_client_that_does_not_come_back_cancels(
    door: Door,
    leaving: tuple[Callable[..., Any], socket.socket, Any],
    headers: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "PATIENCE_S", 0.1)
    ask, connection, _ = leaving
    door.script(openai_stream("So far", STALL), openai_stream("Now."))
    first = ask(**headers)
    wait_for(lambda: door.sent)
    connection.close()
    first.result()
    assert _statuses(door) == ["cancelled"]


def test_a_reply_that_was_cancelled_without_a_word_is_written_anew(door: Door) -> None:
    door.script(openai_stream(openai_chunk({}), STALL), openai_stream("Now."))
    first = tried(door, 0, stream=True)
    parts: Any = iter(first.response)
    next(parts)
    first.close()
    wait_for(lambda: _statuses(door) == ["cancelled"])
    again = tried(door, 1, stream=True)
    assert "Now." in again.get_data(as_text=True)
    [conversation] = door.conversations()
    assert door.said(conversation["id"]) == [("user", "Hi"), ("assistant", "Now.")]
