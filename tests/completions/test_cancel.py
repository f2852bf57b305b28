"""Ending a reply before its end: by word, from any worker, or because its client has gone."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from tests.completions.chat import Chat, run_sql, wait_for, wait_until_durable
from tests.support.api import Api
from tests.support.provider import STALL, Received, ScriptedProvider, anthropic_stream, openai_stream


@pytest.fixture(params=["here", "elsewhere"])
def other(request: pytest.FixtureRequest, chat: Chat, other_app: Flask) -> Chat:
    """Who cancels: at the worker that writes the reply, or at another one."""
    return chat if request.param == "here" else chat.on(other_app)


def require_closed(request: Received, within_s: float) -> None:
    """The provider's connection has been closed, soon."""
    assert request.closed.wait(within_s), f"The provider was still called after {within_s} seconds."


@pytest.mark.happy_path("cancel_completion")
def test_in_mid_stream(chat: Chat, other: Chat) -> None:
    chat.script(openai_stream("So far", STALL), openai_stream("On we go."))
    stream = chat.stream().until("So far")
    response = other.cancel(stream.id)
    assert response.status_code == 200
    completion = response.get_json()
    assert (completion["status"], completion["finish_reason"]) == ("cancelled", "cancelled")
    assert completion["message"]["content"] == "So far"
    assert completion["problem"] is None
    require_closed(chat.sent[0], 1)
    stream.rest()
    assert stream.end.name == "completion.cancelled"
    assert stream.end.content == {"completion": completion}
    assert chat.said == [("user", "Hello", "completed"), ("assistant", "So far", "cancelled")]
    chat.reply(content="Go on")
    assert [message["content"] for message in chat.sent[1].json["messages"]] == ["Hello", "So far", "Go on"]


def test_before_the_first_word(chat: Chat, other: Chat) -> None:
    """The provider has said nothing at all yet, not even that it has the request."""
    silence = threading.Event()

    def say_nothing(request: Received) -> None:
        silence.wait(20)
        raise OSError

    chat.script(say_nothing)  # type: ignore[arg-type]
    stream = chat.stream()
    stream.next()
    chat.request()
    begin = time.monotonic()
    completion = other.cancel(stream.id).get_json()
    assert time.monotonic() - begin < 2
    silence.set()
    assert (completion["status"], completion["message"]) == ("cancelled", None)
    assert [event.name for event in stream.rest()] == ["completion.started", "completion.cancelled"]
    assert chat.said == [("user", "Hello", "completed")]


def test_before_the_first_word_the_providers_connection_is_closed(chat: Chat, other: Chat) -> None:
    chat.script(openai_stream(STALL))
    stream = chat.stream()
    request = chat.request()
    other.cancel(stream.id)
    require_closed(request, 2)
    stream.rest()


def test_while_still_connecting(chat: Chat, other: Chat) -> None:
    """A provider that takes no connections: its queue is full, so the system waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(listener.getsockname())
            provider_id = chat.api.provider(api_endpoint=url)["id"]
            chat.api.config(provider_id)
            stream = chat.stream(provider_id=provider_id)
            stream.next()
            begin = time.monotonic()
            assert other.cancel(stream.id).get_json()["status"] == "cancelled"
            assert time.monotonic() - begin < 2
            stream.rest()


def test_with_anthropics_protocol(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, api_format="anthropic")
    chat.script(anthropic_stream("So far", STALL))
    stream = chat.stream().until("So far")
    assert chat.cancel(stream.id).get_json()["message"]["content"] == "So far"
    require_closed(chat.sent[0], 1)
    stream.rest()


def test_tokens_are_settled_all_the_same(chat: Chat) -> None:
    chat.script(openai_stream("x" * 400, STALL))
    stream = chat.stream(content="y" * 40).until("x" * 400)
    usage = chat.cancel(stream.id).get_json()["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] == 100
    assert 10 <= usage["prompt_tokens"] <= 20
    stream.rest()


def test_who_waits_without_a_stream_gets_what_came(chat: Chat, other: Chat) -> None:
    chat.script(openai_stream("So far", STALL))
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(chat.ask)
        chat.request()
        [running] = chat.completions
        wait_for(lambda: chat.get(running["id"])["message"]["content"] == "So far")
        other.cancel(running["id"])
        response = asking.result()
    assert response.status_code == 201
    assert (response.get_json()["status"], response.get_json()["message"]["content"]) == (
        "cancelled",
        "So far",
    )


def test_what_has_ended_stays_as_it_is(chat: Chat, other: Chat) -> None:
    completion = chat.reply()
    response = other.cancel(completion["id"])
    assert (response.status_code, response.get_json()) == (200, completion)


def test_twice_is_as_good_as_once(chat: Chat, other_app: Flask) -> None:
    chat.script(openai_stream("a", STALL))
    stream = chat.stream().until("a")
    with ThreadPoolExecutor() as pool:
        places = [chat, chat.on(other_app)] * 2
        responses = list(pool.map(lambda place: place.cancel(stream.id), places))
    assert [response.status_code for response in responses] == [200] * 4
    assert {response.get_json()["status"] for response in responses} == {"cancelled"}
    stream.rest()
    assert len(chat.said) == 2


def test_unknown_replies(chat: Chat) -> None:
    response = chat.cancel("019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071")
    assert (response.status_code, response.content_type) == (404, "application/problem+json")


# -- the client has gone ---------------------------------------------------------------------------------------


def test_on_disconnect_cancel_in_mid_stream(chat: Chat) -> None:
    chat.script(openai_stream("So far", STALL))
    stream = chat.stream(on_disconnect="cancel").until("So far")
    stream.close()
    require_closed(chat.sent[0], 1)
    completion = chat.ended(stream.id)
    assert (completion["status"], completion["message"]["content"]) == ("cancelled", "So far")
    assert completion["usage"]["estimated"] is True


@pytest.mark.parametrize("stream", [True, False])
def test_on_disconnect_cancel_before_the_first_word(chat: Chat, stream: bool) -> None:
    """The server shows its connection to the application, as gunicorn does; the client closes its end."""
    chat.script(openai_stream(STALL))
    ours, theirs = socket.socketpair()
    body = chat.asked(stream=stream, on_disconnect="cancel")

    def ask() -> None:
        environ = {"gunicorn.socket": ours}
        response = chat.api.post("/chat/completions", body, environ_overrides=environ)
        for _ in response.response:
            pass
        response.close()

    with ThreadPoolExecutor() as pool, ours:
        asking = pool.submit(ask)
        request = chat.request()
        time.sleep(0.1)
        assert not request.closed.is_set()
        theirs.close()
        require_closed(request, 2)
        asking.result()
    [running] = chat.completions
    completion = chat.ended(running["id"])
    assert (completion["status"], completion["message"]) == ("cancelled", None)


def test_on_disconnect_cancel_after_the_end_changes_nothing(chat: Chat) -> None:
    chat.script(openai_stream("All"))
    stream = chat.stream(on_disconnect="cancel")
    while not stream.next().is_end:
        pass
    stream.close()
    assert chat.get(stream.id)["status"] == "completed"


def test_a_mere_reader_that_leaves_cancels_nothing(chat: Chat, other: Chat) -> None:
    more = threading.Event()
    chat.script(openai_stream("a", more, "b"))
    stream = chat.stream(on_disconnect="cancel").until("a")
    other.events(stream.id).until("a").close()
    more.set()
    stream.rest()
    assert (stream.text, stream.end.name) == ("ab", "completion.completed")


# -- what it belongs to has gone -------------------------------------------------------------------------------


def test_a_deleted_account_ends_its_replies(ada: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(ada, provider)
    chat.script(openai_stream("So far", STALL))
    stream = chat.stream().until("So far")
    wait_until_durable(chat.api.app, stream.id, "So far")
    assert chat.api.delete("/auth/me").status_code == 204
    require_closed(chat.sent[0], 2)
    stream.rest()
    assert not stream.seen[-1].is_end
    for table in ("completions", "completion_pieces", "messages"):
        found = run_sql(
            chat.api.app, f"SELECT count(*) FROM {table} WHERE user_id = :id", id=chat.api.user_id
        )
        assert found == [(0,)]


def test_a_deleted_conversation_ends_its_replies(chat: Chat) -> None:
    chat.script(openai_stream("So far", STALL))
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(chat.ask)
        request = chat.request()
        run_sql(chat.api.app, "DELETE FROM conversations WHERE id = :id", id=chat.conversation_id)
        require_closed(request, 2)
        assert asking.result().status_code == 404
