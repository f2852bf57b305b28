"""Streamed replies over real HTTP: piece by piece, from any worker, and ended when nobody wants them."""

import http.client
import json as json_module
import random
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from chat_api.completions.event_stream import KEEPALIVE_EVERY_S
from tests.live.client import (
    SETTINGS,
    Answer,
    Line,
    Person,
    assert_problem,
    assert_unavailable,
    at_once,
    line_to_each_worker,
    send_raw,
    serving,
    wait_until,
)
from tests.live.streams import (
    DELTA,
    Chat,
    Stream,
    assert_read_once,
    events_in,
    new_key,
    query,
    words,
)
from tests.support.provider import (
    BREAK,
    STALL,
    Received,
    Reply,
    ScriptedProvider,
    error_answer,
    openai_chunk,
    openai_stream,
)
from tests.support.server import GunicornServer

CLOSED_AFTER_LEAVING_S = 5.0
CLOSED_AFTER_CANCEL_S = 2.0
AT_ONCE_S = 1.0  # no promise is as short, a busy machine may take it
PACE_S = 0.02


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        yield running


@pytest.fixture(scope="module")
def server(backend: str, database_url: str) -> Iterator[GunicornServer]:
    """One worker on SQLite, three on Postgres."""
    workers = {"sqlite": "1", "postgres": "3"}[backend]
    settings = {"DATABASE_URL": database_url, "WEB_CONCURRENCY": workers, "MAX_STREAMS_PER_USER": "100"}
    with GunicornServer(SETTINGS | settings, migrate=False) as running:
        yield running


@pytest.fixture
def chat(server: GunicornServer, provider: ScriptedProvider) -> Chat:
    return Chat(server, provider)


def report(what: str, seconds: float) -> None:
    """Shown by `pytest -s`."""
    print(f"{what}: {seconds:.2f} s")


# -- piece by piece -------------------------------------------------------------------------------------


def test_each_piece_arrives_while_the_provider_still_writes(chat: Chat) -> None:
    asked, answering = threading.Event(), threading.Event()
    going_on = [threading.Event() for _ in range(3)]

    def answer_late(request: Received) -> Reply:
        asked.set()
        answering.wait(10)
        return openai_stream("one ", going_on[0], "two ", going_on[1], "three", going_on[2])

    chat.script(answer_late)
    with chat.stream() as stream:
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert "no-cache" in stream.headers["Cache-Control"]
        assert "Content-Length" not in stream.headers
        started = stream.read_events(1).events[0]
        assert (started.name, started.id) == ("completion.started", 0)
        assert started.content["completion"]["status"] == "in_progress"
        assert [m["content"] for m in started.content["messages"]] == ["Hello?", ""]
        assert asked.wait(10)
        assert not answering.is_set(), "the provider has not said a word yet"
        assert [m["content"] for m in chat.messages(chat.conversation_id)] == ["Hello?"]
        for event, piece in zip([answering, *going_on[:2]], ["one ", "two ", "three"], strict=True):
            released = time.monotonic()
            event.set()
            delta = stream.read_events(1).events[-1]
            assert (delta.name, delta.content) == (DELTA, {"delta": piece})
            assert time.monotonic() - released < AT_ONCE_S
        assert not chat.asked[0].answered.is_set(), "nor the last one"
        going_on[2].set()
        last = stream.read_to_end()
    assert last.name == "completion.completed"
    assert last.content["completion"]["message"]["content"] == "one two three" == stream.text
    assert last.content["completion"]["usage"]["estimated"] is False


def test_retries_that_wait_for_a_reply_hold_up_nobody(server: GunicornServer, chat: Chat) -> None:
    """A retry that kept its transaction while it waits would have the next one refused."""
    asked, going_on = chat.body(), threading.Event()
    chat.script(openai_stream("Hello", going_on, " you."))
    key = new_key()
    other = Person(server)
    conversation_id = other.conversation()
    with ThreadPoolExecutor(4) as pool, ExitStack() as at_the_end:
        at_the_end.callback(going_on.set)
        waiting = [pool.submit(chat.post, "/chat/completions", asked, key)]
        chat.at_provider()
        for _ in range(3):
            waiting.append(pool.submit(chat.post, "/chat/completions", asked, key))
            time.sleep(0.2)
        for _ in range(5):
            began = time.monotonic()
            assert other.say(conversation_id, "meanwhile").status == 201
            assert time.monotonic() - began < AT_ONCE_S
        done = [request.done() for request in waiting]
        going_on.set()
        answers = [request.result() for request in waiting]
    assert [answer.status for answer in answers] == [201] * 4
    assert done == [False] * 4
    assert all(answer.body == answers[0].body for answer in answers)
    assert answers[0].body["message"]["content"] == "Hello you."
    assert [answer.headers["Idempotency-Replayed"] for answer in answers] == [None, "true", "true", "true"]
    assert len(chat.asked) == 1


# -- leaving and coming back ----------------------------------------------------------------------------


def test_a_reply_goes_on_without_its_client_and_is_stored_whole(server: GunicornServer, chat: Chat) -> None:
    pieces = words(60)
    chat.script(openai_stream(*pieces, pause_s=PACE_S, usage=(7, 61)))
    with chat.stream() as stream:
        stream.read_text(20)
    assert not chat.asked[0].answered.is_set(), "the client left while the provider was writing"
    completion = chat.ended(stream.completion_id)
    assert chat.asked[0].answered.is_set()
    assert (completion["status"], completion["finish_reason"]) == ("completed", "stop")
    assert completion["message"]["content"] == "".join(pieces)
    usage = {"prompt_tokens": 7, "completion_tokens": 61, "total_tokens": 68, "estimated": False}
    assert completion["usage"] == usage
    assert [m["content"] for m in chat.replies()] == ["".join(pieces)]
    assert_no_piece_is_left(server, stream.completion_id)
    chat.conversation_goes_on()


def test_usage_is_estimated_where_the_provider_said_none_to_a_client_that_left(chat: Chat) -> None:
    pieces = words(40)
    chat.script(openai_stream(*pieces, pause_s=PACE_S, usage=None))
    with chat.stream() as stream:
        stream.read_text(20)
    usage = chat.ended(stream.completion_id)["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] == -(-len("".join(pieces).encode()) // 4)
    assert usage["prompt_tokens"] > 0


def test_a_client_that_comes_back_again_and_again_reads_each_character_once(
    server: GunicornServer, chat: Chat
) -> None:
    """At whatever worker, at whatever place: while the reply is written, and when it has ended."""
    pieces = words(150)
    text, thoughts = "".join(pieces), "Let me think. "
    thinking = openai_chunk({"reasoning_content": thoughts})
    call = ("call_1", "look", '{"at": "🙂"}')
    chat.script(openai_stream(thinking, *pieces, pause_s=PACE_S, tool_calls=[call]))
    chance = random.Random(3)
    with ExitStack() as kept:
        rounds = [kept.enter_context(line_to_each_worker(server)) for _ in range(5)]
        lines = [line for workers in rounds for line in workers]
        first = len(lines) - 1  # the stream begins at the last worker of the last round
        with chat.stream(line=lines.pop(first)) as stream:
            events = stream.read_events(5).events
        elsewhere = len(rounds[0]) > 1
        chance.shuffle(lines)
        came_back = 0
        while events[-1].name != "completion.completed":
            # where no line is left, or the reply would end before all workers were asked: any worker
            line = lines.pop() if lines else None
            with chat.follow(stream.completion_id, events[-1].id, line=line) as again:
                events = events + again.read_events(chance.randint(1, 3)).events
            came_back += 1
    assert came_back > 3
    assert not elsewhere or came_back > len(rounds[0]), "other workers answered, too"
    assert_read_once(events, text)
    assert (
        "".join(event.content["delta"] for event in events if event.name == "completion.reasoning")
        == thoughts
    )
    assert [event.content for event in events if event.name == "completion.tool_call"] == [
        dict(zip(("id", "name", "arguments"), call, strict=True))
    ]
    # its parts in the order in which they came, and positions that count characters
    assert events[-1].id == len(thoughts) + len(text) + 1 + 1
    for place in [0, 1, len(thoughts), *chance.sample(range(events[-1].id), 12), events[-1].id - 1]:
        with chat.follow(stream.completion_id, place) as replay:
            replay.read_to_end()
        assert replay.text == text[max(place - len(thoughts), 0) :]
    with chat.follow(stream.completion_id, events[-1].id) as known:
        assert known.status == 204


def test_readers_at_every_worker_read_the_same(server: GunicornServer, chat: Chat) -> None:
    pieces = words(60)
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    with line_to_each_worker(server) as some, line_to_each_worker(server) as others, chat.stream() as stream:
        stream.read_text(100)

        def read(line: Line) -> Stream:
            with chat.follow(stream.completion_id, line=line) as reader:
                reader.read_to_end()
            return reader

        with ThreadPoolExecutor(8) as pool:
            readers = list(pool.map(read, [*some, *others]))
        stream.read_to_end()
    for reader in [stream, *readers]:
        assert_read_once(reader.events, "".join(pieces))
        assert reader.events[0] == stream.events[0]
        assert reader.events[-1] == stream.events[-1]
        # not only when it had ended
        assert sum(event.name == DELTA for event in reader.events) > 2


# -- nobody wants it any more ---------------------------------------------------------------------------


def seconds_until_closed(request: Received, since: float, within_s: float) -> float:
    """How long it took until the provider saw its connection closed."""
    wait_until(request.closed.is_set, within_s=within_s + 10, what="the provider's connection is closed")
    assert request.closed_at is not None
    return request.closed_at - since


def test_a_client_that_leaves_in_mid_stream_ends_the_reply_if_it_said_so(chat: Chat) -> None:
    chat.script(openai_stream("Words that are kept.", STALL))
    with chat.stream(on_disconnect="cancel") as stream:
        stream.read_text(20)
    took_s = seconds_until_closed(chat.asked[0], time.monotonic(), CLOSED_AFTER_LEAVING_S)
    report("provider closed after its client left in mid-stream", took_s)
    assert took_s < CLOSED_AFTER_LEAVING_S
    completion = chat.ended(stream.completion_id)
    assert (completion["status"], completion["finish_reason"]) == ("cancelled", "cancelled")
    assert completion["usage"]["estimated"] is True
    assert [(m["content"], m["status"]) for m in chat.replies()] == [("Words that are kept.", "cancelled")]
    chat.conversation_goes_on()


def silent(request: Received) -> Reply:
    """A provider that takes a request and says nothing at all, not even a status."""
    reply = Reply(STALL)
    reply.head = b""
    return reply


@pytest.mark.parametrize("says_a_status", [True, False], ids=["after the status", "before the status"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "not streamed"])
def test_a_client_that_leaves_before_the_first_token_ends_the_reply_if_it_said_so(
    chat: Chat, streamed: bool, says_a_status: bool
) -> None:
    chat.script(Reply(STALL) if says_a_status else silent)
    connection = http.client.HTTPConnection("127.0.0.1", chat.server.port, timeout=10)
    headers = {"Authorization": f"Bearer {chat.token}", "Content-Type": "application/json"}
    body = chat.body(stream=streamed, on_disconnect="cancel")
    connection.request("POST", "/chat/completions", json_module.dumps(body), headers)
    request = chat.at_provider()
    time.sleep(0.3)  # whoever looks for the client has looked, and it was there
    assert not request.closed.is_set()
    connection.close()
    took_s = seconds_until_closed(request, time.monotonic(), CLOSED_AFTER_LEAVING_S)
    report("provider closed after its client left before the first token", took_s)
    assert took_s < CLOSED_AFTER_LEAVING_S
    path = f"/chat/conversations/{chat.conversation_id}/completions"
    (completion,) = wait_until(lambda: [c for c in chat.get(path).body if c["status"] != "in_progress"])
    assert (completion["status"], completion["message"]) == ("cancelled", None)
    assert [m["content"] for m in chat.messages(chat.conversation_id)] == ["Hello?"]
    chat.conversation_goes_on()


def test_only_the_client_that_asked_ends_a_reply_by_leaving(chat: Chat) -> None:
    pieces = words(40)
    chat.script(openai_stream(*pieces, pause_s=2 * PACE_S))
    with chat.stream(on_disconnect="cancel") as stream:
        stream.read_events(1)
        for _ in range(3):
            with chat.follow(stream.completion_id) as reader:
                reader.read_text(10)
        last = stream.read_to_end()
    assert (last.name, stream.text) == ("completion.completed", "".join(pieces))


@pytest.mark.parametrize(
    "text", ["", "Words that are kept."], ids=["before the first token", "in mid-stream"]
)
def test_a_cancellation_through_any_worker_closes_the_provider(
    server: GunicornServer, provider: ScriptedProvider, text: str
) -> None:
    with ExitStack() as kept:
        cancelling = kept.enter_context(line_to_each_worker(server))
        # always the same worker is asked
        asking = [kept.enter_context(line_to_each_worker(server))[0] for _ in cancelling]
        for number, (asked, other) in enumerate(zip(asking, cancelling, strict=True)):
            chat = Chat(server, provider)
            chat.script(openai_stream(text, STALL) if text else silent)
            with chat.stream(line=asked) as stream:
                stream.read_events(2 if text else 1)
                request = chat.at_provider()
                began = time.monotonic()
                answer = chat.cancel(stream.completion_id, other)
                took_s = seconds_until_closed(request, began, CLOSED_AFTER_CANCEL_S)
                last = stream.read_to_end()
            report(f"provider closed after cancel through worker {number}", took_s)
            assert took_s < CLOSED_AFTER_CANCEL_S
            assert (answer.status, answer.body["status"]) == (200, "cancelled")
            assert last.name == "completion.cancelled"
            assert last.content["completion"] == answer.body == chat.completion(stream.completion_id)
            assert [m["content"] for m in chat.replies()] == ([text] if text else [])
            assert chat.cancel(stream.completion_id).body == answer.body, "once more changes nothing"
            chat.conversation_goes_on()


# -- many -----------------------------------------------------------------------------------------------


def test_a_slow_reader_delays_nobody_and_misses_nothing(chat: Chat) -> None:
    pieces = [f"{number} ".ljust(9_000, "x") for number in range(60)]
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    with socket.socket() as connection:
        # so little does the kernel take for it, and, of small segments, keep on the server's side
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", chat.server.port))
        body = json_module.dumps(chat.body(stream=True)).encode()
        head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {chat.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        chat.at_provider()
        (shown,) = chat.get(f"/chat/conversations/{chat.conversation_id}/completions").body
        with chat.follow(shown["id"]) as reader:
            gaps: list[float] = []
            arrived = time.monotonic()
            for _ in reader:
                gaps.append(time.monotonic() - arrived)
                arrived = time.monotonic()
        report("longest wait of the other reader", max(gaps))
        assert_read_once(reader.events, "".join(pieces))
        assert max(gaps) < AT_ONCE_S
        assert chat.replies()[0]["content"] == "".join(pieces)
        response = http.client.HTTPResponse(connection)
        response.begin()
        events = list(events_in(iter(response.readline, b"")))
        response.close()
    assert_read_once(events, "".join(pieces))
    assert events[-1] == reader.events[-1]
    assert len(events) < len(pieces) / 2, "it was late: what had come meanwhile came to it in one piece"


def test_thirty_streams_at_once_are_all_whole_and_requests_are_answered_meanwhile(
    server: GunicornServer, chat: Chat
) -> None:
    pieces = words(40)
    chat.script(openai_stream(*pieces, pause_s=2.5 * PACE_S))
    conversations = [chat.conversation() for _ in range(30)]
    other = Person(server)
    conversation_id = other.conversation()
    times: list[float] = []

    def read(conversation_id: str) -> Stream:
        with chat.stream(conversation_id=conversation_id) as stream:
            stream.read_to_end()
        return stream

    with ThreadPoolExecutor(len(conversations)) as pool:
        streams = [pool.submit(read, conversation_id) for conversation_id in conversations]
        while not all(stream.done() for stream in streams):
            began = time.monotonic()
            assert other.get(f"/chat/conversations/{conversation_id}").status == 200
            assert other.say(conversation_id, "meanwhile").status == 201
            times.append(time.monotonic() - began)
            time.sleep(0.02)
    report("a read and a write meanwhile, median", statistics.median(times))
    report("a read and a write meanwhile, longest", max(times))
    assert statistics.median(times) < 0.2
    assert max(times) < 2
    for conversation_id, stream in zip(conversations, streams, strict=True):
        assert_read_once(stream.result().events, "".join(pieces))
        stored = chat.messages(conversation_id)
        assert [(m["position"], m["content"]) for m in stored] == [(1, "Hello?"), (2, "".join(pieces))]
    ids = [stream.result().completion_id for stream in streams]
    assert len(set(ids)) == 30
    for completion_id in ids:
        assert_no_piece_is_left(server, completion_id)


def assert_no_piece_is_left(server: GunicornServer, completion_id: str) -> None:
    """What kept a reply while it was written is gone when it is a message."""
    count = "SELECT count(*) FROM completion_pieces WHERE completion_id = :id"
    assert query(server, count, id=completion_id) == [(0,)]


# -- room -----------------------------------------------------------------------------------------------

ROOM = 4


@pytest.fixture(scope="module")
def small() -> Iterator[GunicornServer]:
    """A worker that holds few streams and has two threads for the rest."""
    settings = {
        "MAX_STREAMS": str(ROOM),
        "THREADS": "2",
        "MAX_STREAMS_PER_USER": "100",
        "WEB_CONCURRENCY": "1",
    }
    with serving(settings) as running:
        yield running


def test_a_full_worker_refuses_streams_at_once_and_answers_everything_else(
    small: GunicornServer, provider: ScriptedProvider
) -> None:
    chats = [Chat(small, provider) for _ in range(ROOM)]
    for chat in chats:
        chat.script(openai_stream("held", STALL))
    late = Chat(small, provider)
    with ExitStack() as held:
        streams = [held.enter_context(chat.stream()).read_text(4) for chat in chats]
        for body in (late.body(stream=True), late.body(), late.body(on_disconnect="cancel")):
            began = time.monotonic()
            assert_unavailable(late.post("/chat/completions", body))
            assert time.monotonic() - began < AT_ONCE_S
        followed = f"/chat/completions/{streams[0].completion_id}/events"
        assert_unavailable(chats[0].get(followed))
        assert late.asked == []
        assert late.messages(late.conversation_id) == [], "nothing was stored"

        def read_and_write() -> float:
            began = time.monotonic()
            assert late.say(late.conversation_id, "meanwhile").status == 201
            assert late.get(f"/chat/conversations/{late.conversation_id}").status == 200
            return time.monotonic() - began

        assert max(at_once([read_and_write] * 8)) < 2 * AT_ONCE_S
        assert late.post("/chat/completions?dry_run=true", late.body()).status == 200
        assert chats[0].completion(streams[0].completion_id)["message"]["content"] == "held"
        assert chats[0].cancel(streams[0].completion_id).body["status"] == "cancelled"
        assert streams[0].read_to_end().name == "completion.cancelled"
        late.conversation_goes_on()  # there is a place again
        streams[1].hang_up()  # its reply goes on, and keeps its place
        chats[0].script(openai_stream("held", STALL))
        streams[0] = held.enter_context(chats[0].stream()).read_text(4)
        assert_unavailable(late.post("/chat/completions", late.body()))
        for chat in chats:
            (*_, running) = chat.get(f"/chat/conversations/{chat.conversation_id}/completions").body
            assert chat.cancel(running["id"]).body["status"] == "cancelled"
        late.conversation_goes_on()


def test_requests_that_wait_for_a_whole_reply_leave_the_threads_to_others(
    small: GunicornServer, provider: ScriptedProvider
) -> None:
    chats = [Chat(small, provider) for _ in range(ROOM)]
    for chat in chats:
        chat.script(openai_stream("held", STALL))
    with ThreadPoolExecutor(ROOM) as pool:
        waiting = [pool.submit(chat.post, "/chat/completions", chat.body()) for chat in chats]
        for chat in chats:
            provider.wait_for_request(chat.model)
        began = time.monotonic()
        for chat in chats:  # there are two threads for requests, and four requests wait
            (running,) = chat.get(f"/chat/conversations/{chat.conversation_id}/completions").body
            assert chat.cancel(running["id"]).body["status"] == "cancelled"
        assert time.monotonic() - began < 4 * AT_ONCE_S
        assert [answer.result().status for answer in waiting] == [201] * ROOM


def test_a_client_that_left_gives_its_place_back_while_the_provider_is_silent(
    small: GunicornServer, provider: ScriptedProvider
) -> None:
    """The page is loaded again and again: each time one more client waits, and the one before has gone."""
    chat = Chat(small, provider)
    chat.script(openai_stream("held", STALL))
    with chat.stream() as stream:
        stream.read_text(4)
    path = f"/chat/completions/{stream.completion_id}/events"
    # a client that has only ended its own side looks as if it had left
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as half, ExitStack() as held:
        half.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {chat.token}\r\n\r\n".encode())
        half.shutdown(socket.SHUT_WR)
        for _ in range(ROOM - 2):
            with chat.follow(stream.completion_id) as again:
                assert again.read_text(4).text == "held"
        assert_unavailable(chat.get(path))
        began = time.monotonic()
        for _ in range(ROOM - 1):
            wait_until(
                lambda: held.enter_context(chat.follow(stream.completion_id)).status == 200,
                within_s=2 * KEEPALIVE_EVERY_S,
            )
        took_s = time.monotonic() - began
        report("all places given back", took_s)
        assert took_s < KEEPALIVE_EVERY_S, "not only when something had to be sent"
        chat.cancel(stream.completion_id)
        assert b"event: completion.cancelled" in b"".join(iter(lambda: half.recv(4096), b""))


def test_one_user_does_not_take_all_places(provider: ScriptedProvider) -> None:
    with serving({"MAX_STREAMS_PER_USER": "2", "WEB_CONCURRENCY": "1"}) as server:
        chat, other = Chat(server, provider), Chat(server, provider)
        chat.script(openai_stream("held", STALL))
        with ExitStack() as held:
            for _ in range(2):
                stream = chat.stream(conversation_id=chat.conversation())
                held.enter_context(stream).read_text(4)
            refused = chat.post("/chat/completions", chat.body())
            assert_problem(refused, 429)
            assert int(refused.headers["Retry-After"]) >= 1
            assert other.post("/chat/completions", other.body()).status == 201


def test_head_and_http_1_0_take_no_place_for_longer_than_they_last(
    small: GunicornServer, provider: ScriptedProvider
) -> None:
    chat, late = Chat(small, provider), Chat(small, provider)
    pieces = words(150)
    chat.script(openai_stream(*pieces, pause_s=PACE_S))
    with chat.stream() as stream:
        stream.read_events(1)
        path = f"/chat/completions/{stream.completion_id}/events"
        for _ in range(2 * ROOM):
            head = Answer(*small.request("HEAD", path, token=chat.token))
            assert (head.status, head.body) == (200, None)
        request = f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {chat.token}\r\n\r\n".encode()

        def begins() -> bool:
            with socket.create_connection(("127.0.0.1", small.port), timeout=10) as old:
                old.sendall(request)
                return b"200 OK" in old.recv(1024)

        for _ in range(ROOM - 1):  # they leave in mid-stream; a HEAD gives its place back after its answer
            wait_until(begins, within_s=5, what="there is a place for one more")
        time.sleep(AT_ONCE_S)  # it is noticed when something is sent to them
        assert not chat.asked[0].answered.is_set()
        with ExitStack() as held:
            for _ in range(ROOM - 1):
                held.enter_context(chat.follow(stream.completion_id)).read_text(10)
            assert_unavailable(late.post("/chat/completions", late.body()))
        whole = stream.read_to_end()
        for _ in range(2 * ROOM):
            answer = send_raw(small.port, request)  # to the end, which is the connection's
            assert answer.status == 200
            assert "Transfer-Encoding" not in answer.headers
            events = list(events_in(answer.body.splitlines(keepends=True)))
            assert_read_once(events, "".join(pieces))
            assert events[-1] == whole


# -- what is written about it ---------------------------------------------------------------------------


def test_no_key_and_no_word_of_a_conversation_is_in_the_log(
    server: GunicornServer, provider: ScriptedProvider
) -> None:
    key, asked, said, thought = (f"{kind}-{uuid.uuid4().hex}" for kind in ("sk", "asked", "said", "thought"))
    chat = Chat(server, provider, api_key=key)
    thinking = openai_chunk({"reasoning_content": thought})
    answers: list[Any] = [
        openai_stream(thinking, said),
        openai_stream(said, BREAK),
        Reply(BREAK),
        Reply(b"data: " + said.encode() + b"\n\n"),
        Reply(said.encode(), content_type="text/html"),
        error_answer(401, f"{key} is no key; you said {asked}"),
        error_answer(500, said),
    ]
    for answer in answers:
        chat.script(answer)
        for more in ({"stream": False}, {"stream": True}):
            chat.server.request("POST", "/chat/completions", chat.body(asked, **more), token=chat.token)
    chat.script(openai_stream(said, STALL))
    with chat.stream(content=asked, key=new_key(), on_disconnect="cancel") as stream:
        stream.read_events(2)
    chat.ended(stream.completion_id)
    chat.post("/chat/completions", {**chat.body(asked), "api_key": key, "base_url": said})
    assert len(chat.asked) >= len(answers) * 2 + 1
    assert all(request.headers["authorization"] == f"Bearer {key}" for request in chat.asked)
    log = server.log
    assert log.count('"route":"/chat/completions"') >= len(chat.asked)
    assert [text for text in (key, asked, said, thought) if text in log] == []
    levels = {json_module.loads(line)["level"] for line in log.splitlines()}
    assert levels <= {"info", "warning"}, "no fault of a provider or a client is an error of ours"
