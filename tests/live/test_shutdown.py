"""The end of a worker in the middle of a reply, on both worker classes: orderly or not, no reply stays in progress."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.client import CONNECTION_LOST, Answer, all_workers, serving, wait_until
from tests.live.streams import Chat
from tests.support.postgres import PrivatePostgres
from tests.support.provider import ScriptedProvider, openai_stream
from tests.support.server import GunicornServer

pytestmark = pytest.mark.slow

GRACE_S = 8
REPLIES_END_S = GRACE_S - 3  # after the signal, so that there is time to store them and to tell everybody
PAUSE_S = 0.05  # between the words of a reply
LOST_S = 1.0  # of text, when a worker is killed; a quarter of a second is promised, on a machine with time
LEASE_ENDS_WITHIN_S = 60
SHORT = [f"word{number} " for number in range(40)]  # 2 s
LONG = [f"word{number} " for number in range(2000)]  # far beyond the grace


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


@pytest.fixture(scope="module", params=["threads", pytest.param("gevent", marks=pytest.mark.nightly)])
def server(request: pytest.FixtureRequest) -> Iterator[GunicornServer]:
    """A service with one worker that streams: threads on SQLite, gevent on Postgres."""
    settings = {"GRACEFUL_TIMEOUT_S": str(GRACE_S), "WEB_CONCURRENCY": "1", "WORKER_CLASS": request.param}
    if request.param == "threads":
        with serving(settings) as running:
            yield running
        return
    with (
        PrivatePostgres(fsync="off") as cluster,
        serving(settings | {"DATABASE_URL": cluster.url}) as running,
    ):
        yield running


@pytest.fixture
def chat(server: GunicornServer, provider: ScriptedProvider) -> Chat:
    """Somebody whose provider writes a long reply, slowly."""
    try:
        server.request("GET", "/healthz")
    except CONNECTION_LOST:
        server.restart()  # the test before has failed in the middle
    found = Chat(server, provider)
    found.script(openai_stream(*LONG, pause_s=PAUSE_S))
    return found


class Stop:
    """The server's end, begun by a signal to its master."""

    def __init__(self, server: GunicornServer, by: signal.Signals = signal.SIGTERM) -> None:
        self._server = server
        self._began = time.monotonic()
        os.kill(server.pid, by)

    @property
    def seconds(self) -> float:
        """Since the signal."""
        return time.monotonic() - self._began

    def wait(self) -> float:
        """Wait for its orderly end: after how many seconds."""
        assert self._server.wait() == 0
        log = self._server.log.splitlines()[-20:]
        assert any("Worker exiting" in line for line in log), "the worker was killed"
        return self.seconds


def assert_cut_off(completion: dict[str, Any]) -> None:
    """It says that it is not whole, and what is there is how it begins."""
    assert completion["status"] == "incomplete"
    assert completion["finished_at"]
    text = completion["message"]["content"]
    assert text
    assert "".join(LONG).startswith(text)
    assert len(text) < len("".join(LONG))


def test_a_stream_that_ends_within_the_grace_is_completed(server: GunicornServer, chat: Chat) -> None:
    chat.script(openai_stream(*SHORT, pause_s=PAUSE_S))
    with chat.stream() as stream:
        stream.read_text(20)
        stop = Stop(server)
        last = stream.read_to_end()
        assert last.name == "completion.completed"
        assert stream.text == "".join(SHORT)
        stop.wait()
    server.start()
    assert chat.completion(stream.completion_id) == last.content["completion"]
    assert chat.replies()[0]["content"] == stream.text


def test_a_stream_that_takes_longer_ends_as_incomplete_and_is_stored(
    server: GunicornServer, chat: Chat
) -> None:
    with chat.stream() as stream:
        stream.read_text(20)
        stop = Stop(server)
        last = stream.read_to_end()
        assert REPLIES_END_S - 1 < stop.seconds < GRACE_S
        assert last.name == "completion.incomplete"
        assert_cut_off(last.content["completion"])
        assert stream.text == last.content["completion"]["message"]["content"], (
            "its client has all that is stored"
        )
        stop.wait()
    server.start()
    assert chat.completion(stream.completion_id) == last.content["completion"]
    assert chat.replies()[0]["content"] == stream.text
    chat.conversation_goes_on()


def test_replies_without_a_client_get_the_same_time(
    server: GunicornServer, provider: ScriptedProvider, chat: Chat
) -> None:
    other = Chat(server, provider)
    other.script(openai_stream(*SHORT, pause_s=PAUSE_S))
    with chat.stream() as left, other.stream() as left_too:
        left.read_text(20)
        left_too.read_text(20)
    stopped_after_s = Stop(server).wait()
    assert stopped_after_s > REPLIES_END_S - 1
    server.start()
    completion = chat.completion(left.completion_id)
    assert_cut_off(completion)
    words = completion["message"]["content"].split()
    assert len(words) > (REPLIES_END_S - 3) / PAUSE_S, "it went on until the time was over"
    ended = other.completion(left_too.completion_id)
    assert (ended["status"], ended["message"]["content"]) == ("completed", "".join(SHORT))


def test_a_reply_that_is_not_streamed_is_answered_with_what_is_there(
    server: GunicornServer, chat: Chat
) -> None:
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(chat.post("/chat/completions", chat.body())))
    asking.start()
    chat.at_provider()
    time.sleep(0.5)  # some words have come
    stop = Stop(server)
    asking.join()
    stop.wait()
    server.start()
    assert answers[0].status == 201
    assert_cut_off(answers[0].body)


def test_an_interrupt_ends_replies_at_once(server: GunicornServer, chat: Chat) -> None:
    with chat.stream() as stream:
        stream.read_text(20)
        assert Stop(server, signal.SIGINT).wait() < REPLIES_END_S
    server.start()
    assert_cut_off(chat.completion(stream.completion_id))


def test_a_killed_worker_leaves_an_incomplete_reply_and_a_conversation_that_goes_on(
    server: GunicornServer, chat: Chat
) -> None:
    with chat.stream() as stream:
        stream.read_text(200)
        victim = server.kill_worker()
        assert stream.is_broken()
    wait_until(lambda: victim not in all_workers(server))
    completion = wait_until(
        lambda: (shown := chat.completion(stream.completion_id))["status"] != "in_progress" and shown,
        within_s=LEASE_ENDS_WITHIN_S,
        what="another worker looks after it",
    )
    assert_cut_off(completion)
    kept = completion["message"]["content"]
    assert len(stream.text.split()) - len(kept.split()) <= LOST_S / PAUSE_S
    assert chat.replies()[0]["content"] == kept
    chat.conversation_goes_on()
