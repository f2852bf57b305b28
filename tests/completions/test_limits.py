"""How many replies there may be at once: in a conversation, of a user, in a worker."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from tests.completions.chat import Chat, Stream, run_sql, wait_for
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream


@contextmanager
def running(chat: Chat, **fields: Any) -> Any:
    """A reply in progress, which ends with the block."""
    end = threading.Event()
    chat.script(openai_stream("a", end))
    stream = chat.stream(**fields).until("a")
    chat.script(openai_stream("b"))
    try:
        yield stream
    finally:
        end.set()
        stream.rest()


# -- in a conversation -----------------------------------------------------------------------------------------


@pytest.fixture(params=["here", "elsewhere"])
def second(request: pytest.FixtureRequest, chat: Chat, other_app: Flask) -> Chat:
    """Where the second request goes: to the same worker or to another one."""
    return chat if request.param == "here" else chat.on(other_app)


@pytest.mark.parametrize("stream", [True, False])
def test_a_second_reply_has_to_wait(chat: Chat, second: Chat, stream: bool) -> None:
    with running(chat, content="A"):
        response = second.ask(stream=stream, content="B")
        assert (response.status_code, response.content_type) == (409, "application/problem+json")
        assert second.ask(content=None).status_code == 409
        assert [content for _, content, _ in chat.said] == ["A"]
    assert second.reply(content="B")["status"] == "completed"
    assert [content for _, content, _ in chat.said] == ["A", "a", "B", "b"]


def test_another_parent_id_may_be_answered_meanwhile(chat: Chat, second: Chat) -> None:
    first = chat.reply(content="A")
    with running(chat, content="B") as stream:
        beside = second.reply(content=None, parent_id=first["parent_id"])
        assert (beside["status"], beside["parent_id"]) == ("completed", first["parent_id"])
        assert chat.get(stream.id)["status"] == "in_progress"


def test_the_same_parent_id_has_to_wait(chat: Chat, second: Chat) -> None:
    first = chat.reply(content="A")
    chat.reply(content="B")
    with running(chat, content=None, parent_id=first["parent_id"]):
        assert second.ask(content=None, parent_id=first["parent_id"]).status_code == 409
    with running(chat, content="C", parent_id=first["parent_id"]) as stream:
        assert second.ask(content="D", parent_id=first["parent_id"]).status_code == 409
        answered = chat.get(stream.id)["parent_id"]
        assert second.ask(content=None, parent_id=answered).status_code == 409
    assert len(chat.completions) == 4


def test_other_conversations_go_on(chat: Chat, second: Chat) -> None:
    with running(chat):
        assert second.elsewhere().reply()["status"] == "completed"


def test_messages_may_be_appended_meanwhile(chat: Chat) -> None:
    with running(chat, content="A"):
        chat.api.message(chat.conversation_id, "By the way")
    assert [content for _, content, _ in chat.said] == ["A", "By the way", "a"]
    assert [message["position"] for message in chat.messages] == [1, 2, 3]


def test_of_parallel_starts_in_a_conversation_one_wins(chat: Chat, other_app: Flask) -> None:
    end = threading.Event()
    chat.script(openai_stream("a", end))
    places = [chat, chat.on(other_app)] * 4
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda place: place.ask(stream=True), places))
    assert Counter(response.status_code for response in responses) == {200: 1, 409: 7}
    end.set()
    for response in responses:
        if response.status_code == 200:
            Stream(response).rest()
    assert [role for role, _, _ in chat.said] == ["user", "assistant"]


# -- in a worker, and of a user --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tight_app(serve: Any) -> Any:
    """A worker that holds three replies."""
    with serve(MAX_STREAMS=3, MAX_STREAMS_PER_USER=50) as application:
        yield application


@pytest.fixture(scope="module")
def strict_apps(serve: Any) -> Any:
    """Two workers where a user may have three replies."""
    with serve(MAX_STREAMS_PER_USER=3) as one, serve(MAX_STREAMS_PER_USER=3) as two:
        yield one, two


def require_refused(response: Any, status: int) -> None:
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert int(response.headers["Retry-After"]) >= 1


def running_of(chat: Chat) -> int:
    return run_sql(
        chat.api.app,
        "SELECT count(*) FROM completions WHERE user_id = :id AND status = 'in_progress'",
        id=chat.api.user_id,
    )[0][0]


def start_many(chats: list[Chat]) -> list[Any]:
    with ThreadPoolExecutor(len(chats)) as pool:
        return list(pool.map(lambda chat: chat.elsewhere().ask(stream=True), chats))


def test_a_full_worker_says_so_at_once(chat: Chat, tight_app: Flask) -> None:
    tight, end = chat.on(tight_app), threading.Event()
    chat.script(openai_stream("a", end))
    responses = start_many([tight] * 20)
    assert Counter(response.status_code for response in responses) == {200: 3, 503: 17}
    for response in responses:
        if response.status_code == 503:
            require_refused(response, 503)
    require_refused(tight.elsewhere().ask(), 503)
    assert running_of(chat) == 3
    assert tight.messages == []  # other requests are answered
    end.set()
    for response in responses:
        if response.status_code == 200:
            Stream(response).rest()
    assert tight.reply()["status"] == "completed"


def test_a_refused_start_stores_nothing(chat: Chat, tight_app: Flask) -> None:
    tight, end = chat.on(tight_app), threading.Event()
    chat.script(openai_stream("a", end))
    responses = start_many([tight] * 3)
    require_refused(tight.ask(), 503)
    assert (chat.messages, chat.completions) == ([], [])
    end.set()
    for response in responses:
        Stream(response).rest()


def test_a_users_replies_are_counted_over_all_workers(
    ada: Api, bob: Api, provider: ScriptedProvider, strict_apps: tuple[Flask, Flask]
) -> None:
    """Exactly, under parallel starts; their clients have gone, the replies go on."""
    chat, end = Chat.begin(ada, provider), threading.Event()
    chat.script(openai_stream("a", end))
    responses = start_many([chat.on(app) for app in strict_apps] * 10)
    assert Counter(response.status_code for response in responses) == {200: 3, 429: 17}
    for response in responses:
        if response.status_code == 429:
            require_refused(response, 429)
        response.close()
    assert running_of(chat) == 3
    for app in strict_apps:
        require_refused(chat.on(app).elsewhere().ask(), 429)
    others = Chat.begin(bob, provider).on(strict_apps[0])
    assert others.reply()["status"] == "completed"
    end.set()
    wait_for(lambda: running_of(chat) == 0)
    assert chat.on(strict_apps[1]).reply()["status"] == "completed"


def test_readers_have_places_too(
    ada: Api, provider: ScriptedProvider, strict_apps: tuple[Flask, Flask]
) -> None:
    chat, end = Chat.begin(ada, provider).on(strict_apps[0]), threading.Event()
    chat.script(openai_stream("a", end))
    stream = chat.stream().until("a")
    readers = [chat.events(stream.id).until("a") for _ in range(2)]
    require_refused(chat.follow(stream.id), 429)
    # who waits for a list of models waits for the provider, too
    require_refused(chat.api.get(f"/chat/llm-providers/{chat.provider_id}/models"), 429)
    readers[0].close()
    chat.events(stream.id).until("a").close()
    assert chat.get(stream.id)["status"] == "in_progress"
    end.set()
    readers[1].rest()
    stream.rest()


def test_places_are_given_back(
    ada: Api, provider: ScriptedProvider, strict_apps: tuple[Flask, Flask]
) -> None:
    """After ends, errors, refusals, HEAD requests, and answers that nobody read: more often than there are places."""
    chat = Chat.begin(ada, provider).on(strict_apps[0])
    completion_id = chat.reply()["id"]
    path = f"/chat/completions/{completion_id}/events"
    for _ in range(4):
        assert chat.reply()["status"] == "completed"
        chat.stream().rest()
        assert chat.ask(content="").status_code == 400
        assert chat.ask(parent_id=completion_id).status_code == 404
        chat.script(error_answer(500, "no"))
        assert chat.ask().status_code == 502
        chat.stream().rest()
        chat.script(openai_stream("b"))
        head = chat.api.request("HEAD", path)
        assert (head.status_code, head.get_data()) == (200, b"")
        head.close()  # as every server does with every answer
        chat.follow(completion_id).close()
        left = chat.stream()
        left.next()
        left.close()
        chat.ended(left.id)
        headers = {"Idempotency-Key": f"key {chat.model}"}
        assert chat.ask(headers=headers).status_code == 201
        assert chat.ask(stream=True, headers=headers).status_code == 422
        assert chat.api.get(f"/chat/llm-providers/{chat.provider_id}/models").status_code in (200, 502)


def test_a_place_is_free_as_soon_as_the_client_knows_the_end(chat: Chat, serve: Any) -> None:
    with serve(MAX_STREAMS=1, MAX_STREAMS_PER_USER=1) as app:
        single = chat.on(app)
        for _ in range(20):
            assert single.reply()["status"] == "completed"
            stream = single.stream()
            stream.rest()
            assert stream.end.name == "completion.completed"
