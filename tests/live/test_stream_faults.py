"""Faults while a reply is streamed: what came is kept, nothing is there twice, and the conversation goes on."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from chat_api.completions.lease import LEASE
from tests.live.client import Line, all_workers, line_to_each_worker, serving, wait_until
from tests.live.streams import Chat, assert_read_once, new_key, query, words
from tests.support.postgres import PrivatePostgres
from tests.support.provider import BREAK, STALL, Reply, ScriptedProvider, openai_chunk, openai_stream
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

PACE_S = 0.02
LOST_S = 0.5  # of text at most, when a worker is killed
SLACK_S = 0.5  # for a busy machine
REAPED_AFTER_S = LEASE.total_seconds() + 5  # a worker looks for replies of dead ones every five seconds
AWAY_S = 4.0


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    """A Postgres that may be stopped."""
    with PrivatePostgres(fsync="off") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(backend: str, request: pytest.FixtureRequest) -> Iterator[GunicornServer]:
    """Two workers, on SQLite too, so that a killed one leaves another."""
    settings = {"WEB_CONCURRENCY": "2", "MAX_STREAMS_PER_USER": "100"}
    if backend == "postgres":
        settings["DATABASE_URL"] = request.getfixturevalue("postgres").url
    with serving(settings) as running:
        yield running


@pytest.fixture
def chat(server: GunicornServer, provider: ScriptedProvider) -> Chat:
    return Chat(server, provider)


def end_leases(server: GunicornServer) -> None:
    """Let time pass, as far as the leases of replies are concerned."""
    past = {"sqlite": "'2000-01-01T00:00:00.000000Z'", "postgres": "now() - interval '1 hour'"}
    expired = past["postgres" if "DATABASE_URL" in server.environment else "sqlite"]
    query(server, f"UPDATE completions SET lease_expires_at = {expired} WHERE status = 'in_progress'")


def assert_nothing_is_left_over(server: GunicornServer) -> None:
    """No reply is in progress, and none is kept in pieces."""
    assert query(server, "SELECT id FROM completions WHERE status = 'in_progress'") == []
    assert query(server, "SELECT position FROM completion_pieces") == []


# -- workers --------------------------------------------------------------------------------------------


def test_a_killed_worker_loses_half_a_second_at_most_and_the_conversations_go_on(
    backend: str, server: GunicornServer, provider: ScriptedProvider
) -> None:
    pieces = words(2000)
    chats = [Chat(server, provider) for _ in range(4)]
    streaming, silent, unstreamed, retried = chats
    for chat in chats:
        chat.script(openai_stream(*pieces, pause_s=PACE_S))
    silent.script(Reply(STALL))
    key, other_key = new_key(), new_key()
    with ExitStack() as kept:
        rounds = [kept.enter_context(line_to_each_worker(server)) for _ in range(4)]
        victim_lines = [lines[0] for lines in rounds]
        pool = kept.enter_context(ThreadPoolExecutor(4))
        streams = {
            chat: kept.enter_context(chat.stream(line=victim_lines.pop(), key=chat_key))
            for chat, chat_key in ((streaming, None), (silent, None), (retried, key))
        }
        body, token = unstreamed.body(), unstreamed.token
        headers = {"Idempotency-Key": other_key}
        waiting = pool.submit(
            is_cut_off,
            victim_lines.pop(),
            "POST",
            "/chat/completions",
            json=body,
            token=token,
            headers=headers,
        )
        requests = [chat.at_provider() for chat in chats]
        streams[silent].read_events(1)
        for chat in (streaming, retried):
            streams[chat].read_text(len("".join(pieces[:80])))
        victim = server.kill_worker()
        killed = time.monotonic()
        assert streams[streaming].is_broken()
        assert streams[silent].is_broken()
        assert streams[retried].is_broken()
        assert waiting.result()
        # the same request again, at the worker that is left, while the reply counts as being written
        survivor_lines = [lines[1] for lines in rounds]
        again = kept.enter_context(retried.stream(line=survivor_lines.pop(), key=key))
        assert again.headers["Idempotency-Replayed"] == "true"
        plain = pool.submit(
            survivor_lines.pop().request,
            "POST",
            "/chat/completions",
            body,
            token,
            {"Idempotency-Key": other_key},
        )
        follower = kept.enter_context(
            streaming.follow(
                streams[streaming].completion_id, streams[streaming].last_id, line=survivor_lines.pop()
            )
        )
        if backend == "sqlite":  # the other one waits as long as it really takes
            end_leases(server)
        for reader in (again, follower):
            assert reader.read_to_end().name == "completion.incomplete"
        took_s = time.monotonic() - killed
        print(f"settled {took_s:.1f} s after the kill")
        assert took_s < REAPED_AFTER_S + 3
        answer = plain.result()
    wait_until(lambda: victim not in all_workers(server))
    assert answer.status == 201
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert again.completion_id == streams[retried].completion_id
    for chat, read in ((streaming, streams[streaming]), (retried, streams[retried])):
        assert_kept(chat, read.completion_id, "".join(pieces), read.text)
    assert_kept(unstreamed, answer.body["id"], "".join(pieces), "")
    assert again.text == retried.replies()[0]["content"]
    assert follower.text == "", "the last id was behind all that was kept"
    # nothing came of the one that had not begun
    ended = silent.ended(streams[silent].completion_id)
    assert (ended["status"], ended["message"]) == ("incomplete", None)
    assert [m["content"] for m in silent.messages(silent.conversation_id)] == ["Hello?"]
    for chat, request in zip(chats, requests, strict=True):
        assert chat.asked == [request], "the provider was asked once"
        assert request.closed.is_set()
        assert [m["content"] for m in chat.messages(chat.conversation_id)].count("Hello?") == 1
        chat.conversation_goes_on()
    assert_nothing_is_left_over(server)


def is_cut_off(line: Line, *request: Any, **options: Any) -> bool:
    """Whether the connection breaks before the answer."""
    try:
        line.request(*request, **options)
    except OSError:
        return True
    return False


def assert_kept(chat: Chat, completion_id: str, whole: str, read: str) -> None:
    """What was kept is how the text begins, and hardly less than what was read of it."""
    completion = chat.ended(completion_id)
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "worker_lost")
    assert completion["problem"]["code"] == "worker_lost"
    assert completion["usage"]["estimated"] is True
    (message,) = chat.replies()
    assert (message["status"], message["content"]) == ("incomplete", completion["message"]["content"])
    kept = message["content"]
    assert kept
    assert whole.startswith(kept)
    lost_s = (read.count("\n") - kept.count("\n")) * PACE_S
    print(f"lost {lost_s:.2f} s of text")
    assert lost_s < LOST_S + SLACK_S


def test_after_a_kill_of_everything_replies_are_settled_and_conversations_go_on(
    server: GunicornServer, provider: ScriptedProvider
) -> None:
    pieces = words(2000)
    chats = [Chat(server, provider) for _ in range(4)]
    with ExitStack() as kept:
        streams = []
        for chat in chats:
            chat.script(openai_stream(*pieces, pause_s=PACE_S))
            streams.append(kept.enter_context(chat.stream()))
        for stream in streams:
            stream.read_text(len("".join(pieces[:60])))
        server.kill_group()
        for stream in streams:
            assert stream.is_broken()
    server.start()
    end_leases(server)
    # whoever comes first settles it: a reader, the next turn, or the workers by themselves
    first, second, *others = zip(chats, streams, strict=True)
    assert_kept(first[0], first[1].completion_id, "".join(pieces), first[1].text)
    second[0].script(openai_stream("Here I am."))
    assert second[0].post("/chat/completions", second[0].body("And now?")).status == 201
    stored = [(m["role"], m["status"]) for m in second[0].messages(second[0].conversation_id)]
    whole = [("user", "completed"), ("assistant", "completed")]
    assert stored == [("user", "completed"), ("assistant", "incomplete"), *whole]
    count = "SELECT count(*) FROM completions WHERE status = 'in_progress'"
    wait_until(lambda: query(server, count) == [(0,)], within_s=10, what="the workers settle what is left")
    for chat, stream in others:
        assert_kept(chat, stream.completion_id, "".join(pieces), stream.text)
    for chat, _ in (first, *others):
        assert len(chat.asked) == 1
        chat.conversation_goes_on()
    assert_nothing_is_left_over(server)


def test_a_worker_that_was_taken_for_dead_ends_its_reply_nevertheless(
    server: GunicornServer, chat: Chat
) -> None:
    """It was stopped for longer than its lease, or the database was away for it."""
    pieces = words(100)
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    with line_to_each_worker(server) as lines, chat.stream(line=lines[0]) as stream:
        stream.read_text(len("".join(pieces[:30])))
        end_leases(server)
        path = f"/chat/completions/{stream.completion_id}"
        answer = lines[1].request("GET", path, token=chat.token)
        assert answer.body["status"] == "incomplete", "the other worker has settled it"
        early = answer.body["message"]["content"]
        assert early
        assert "".join(pieces).startswith(early)
        between = chat.say(chat.conversation_id, "Is anybody there?").body
        last = stream.read_to_end()
    assert last.name == "completion.completed"
    assert_read_once(stream.events, "".join(pieces))
    stored = chat.messages(chat.conversation_id)
    assert [(m["content"], m["status"]) for m in stored] == [
        ("Hello?", "completed"),
        ("".join(pieces), "completed"),
        ("Is anybody there?", "completed"),
    ]
    assert stored[2] == between
    assert chat.completion(stream.completion_id)["message"] == stored[1]
    chat.conversation_goes_on()
    assert_nothing_is_left_over(server)


def test_a_stopped_worker_goes_on_where_it_was(server: GunicornServer, chat: Chat) -> None:
    pieces = words(100)
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    with line_to_each_worker(server) as lines, chat.stream(line=lines[0]) as stream:
        stream.read_text(100)
        worker = all_workers(server)[0]
        os.kill(worker, signal.SIGSTOP)
        try:
            with chat.follow(stream.completion_id, line=lines[1]) as reader:
                wait_until(chat.asked[0].answered.is_set, what="the provider has said all")
                threading.Timer(0.5, os.kill, (worker, signal.SIGCONT)).start()
                assert reader.read_to_end().name == "completion.completed"
        finally:
            os.kill(worker, signal.SIGCONT)
        stream.read_to_end()
    for read in (stream, reader):
        assert_read_once(read.events, "".join(pieces))


# -- the database ---------------------------------------------------------------------------------------


@contextmanager
def away(postgres: PrivatePostgres, hanging: bool) -> Iterator[None]:
    """Stop the database in order, or let it hang with all connections open; there again at the end."""
    if not hanging:
        postgres.stop()
        yield
        postgres.start()
        return
    postmaster = psutil.Process(int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in processes:
            process.suspend()
        yield
    finally:
        for process in reversed(processes):
            process.resume()


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
@pytest.mark.parametrize("hanging", [False, True], ids=["stopped", "hanging"])
def test_streams_go_on_while_the_database_is_away_and_are_stored_whole(
    server: GunicornServer, provider: ScriptedProvider, postgres: PrivatePostgres, hanging: bool
) -> None:
    chat, ending, cancelled = (Chat(server, provider) for _ in range(3))
    pieces = words(int((AWAY_S + 2) / PACE_S))
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    ending.script(openai_stream(*pieces[: int(2 / PACE_S)], pause_s=PACE_S))
    cancelled.script(openai_stream(*pieces, pause_s=PACE_S))
    with ExitStack() as kept:
        first, second, third = (kept.enter_context(line_to_each_worker(server)) for _ in range(3))
        stream = kept.enter_context(chat.stream(line=first[0])).read_text(10)
        short = kept.enter_context(ending.stream(line=first[1])).read_text(10)
        left = kept.enter_context(cancelled.stream(line=second[1], on_disconnect="cancel")).read_text(10)
        elsewhere = kept.enter_context(chat.follow(stream.completion_id, line=second[0])).read_text(10)
        other = kept.enter_context(chat.follow(stream.completion_id, line=third[1])).read_text(10)
        with away(postgres, hanging):
            began = time.monotonic()
            before = len(stream.text)
            while time.monotonic() - began < AWAY_S / 2:
                stream.read_events(1)
            assert len(stream.text) - before > 100, "it goes on"
            left.hang_up()
            wait_until(
                cancelled.asked[0].closed.is_set, within_s=5, what="the provider is closed all the same"
            )
            wait_until(ending.asked[0].answered.is_set, within_s=5, what="one ends meanwhile")
            time.sleep(max(began + AWAY_S - time.monotonic(), 0))
        for reader in (stream, short, elsewhere, other):
            assert reader.read_to_end().name == "completion.completed"
    for reader in (stream, elsewhere, other):
        assert_read_once(reader.events, "".join(pieces))
    assert_read_once(short.events, "".join(pieces[: int(2 / PACE_S)]))
    assert [(m["content"], m["status"]) for m in chat.replies()] == [("".join(pieces), "completed")]
    assert [m["content"] for m in ending.replies()] == [short.text]
    assert cancelled.ended(left.completion_id)["status"] == "cancelled"
    (kept_text,) = [m["content"] for m in cancelled.replies()]
    assert kept_text.startswith(left.text)
    for each in (chat, ending, cancelled):
        assert len(each.asked) == 1
        each.conversation_goes_on()
    assert_nothing_is_left_over(server)


# -- the provider ---------------------------------------------------------------------------------------


def test_a_provider_that_breaks_off_leaves_what_it_said(server: GunicornServer, chat: Chat) -> None:
    breaks: list[Any] = [
        openai_stream("Only a be", "ginning", BREAK),
        Reply(openai_chunk({"content": "Only a beginning"}), framing="close"),
        openai_stream("Only a beginning", b"data: {\n\n" * 3, BREAK),
    ]
    for reply in breaks:
        each = Chat(server, chat.provider)
        each.script(reply)
        with each.stream() as stream:
            last = stream.read_to_end()
        assert last.name == "completion.incomplete", reply.steps
        assert last.content["problem"]["status"] == 502
        assert stream.text == "Only a beginning"
        assert [(m["content"], m["status"]) for m in each.replies()] == [("Only a beginning", "incomplete")]
        each.conversation_goes_on()
