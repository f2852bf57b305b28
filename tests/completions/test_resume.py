"""Coming back to a reply: from any place, any number of times, at any worker, while it is written and after it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from tests.completions.chat import Chat, Event, Stream, joined
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.provider import error_answer, openai_chunk, openai_stream

TEXT = "Über allen Gipfeln 😀 ist Ruh"


@pytest.fixture(params=["here", "elsewhere"])
def reader(request: pytest.FixtureRequest, chat: Chat, other_app: Flask) -> Chat:
    """Who comes back: to the worker that writes the reply, or to another one."""
    return chat if request.param == "here" else chat.on(other_app)


def read(chat: Chat, completion_id: str, after: str | int | None = None) -> Stream:
    stream = chat.events(completion_id, last=after)
    stream.rest()
    return stream


@pytest.mark.happy_path("get_events")
def test_the_whole_of_a_reply_that_has_ended(chat: Chat, reader: Chat) -> None:
    chat.script(openai_stream(*TEXT))
    original = chat.stream()
    original.rest()
    again = read(reader, original.id)
    assert again.seen[0] == original.seen[0]
    assert again.text == TEXT
    assert again.end == original.end


def test_from_every_place_the_rest_is_exact(chat: Chat, reader: Chat) -> None:
    chat.script(openai_stream(*TEXT))
    original = chat.stream()
    original.rest()
    for position in range(len(TEXT) + 1):
        again = read(reader, original.id, position)
        assert again.text == TEXT[position:]
        assert again.end == original.end
        assert all(event.id > position for event in again.seen)


def test_the_query_is_as_good_as_the_header(chat: Chat) -> None:
    chat.script(openai_stream("abc"))
    completion_id = chat.reply()["id"]
    for query, last, text in (("?after=1", None, "bc"), ("?after=1", 2, "c"), ("?after=-1", None, "abc")):
        stream = chat.events(completion_id, query=query, last=last)
        stream.rest()
        assert stream.text == text


@pytest.mark.parametrize("last", [None, "-1", ""])
def test_no_id_means_everything(chat: Chat, reader: Chat, last: str | None) -> None:
    stream = read(reader, chat.reply()["id"], last)
    assert [stream.seen[0].name, stream.end.name] == ["completion.started", "completion.completed"]
    assert stream.text == "Hello from the provider."


@pytest.mark.parametrize("last", ["x", "1.5", "-2", "1e3", " 7 8", "٣", "9" * 17, "0x10", "+1"])
def test_what_is_no_id(chat: Chat, last: str) -> None:
    completion_id = chat.reply()["id"]
    path = f"/chat/completions/{completion_id}/events"
    sent = last.encode().decode("latin-1")
    response = chat.api.get(path, headers={"Last-Event-ID": sent})
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert chat.api.get(path, query_string={"after": last}).status_code == 400


def test_the_last_id_stops_an_event_source(chat: Chat, reader: Chat) -> None:
    completion_id = chat.reply()["id"]
    last = read(chat, completion_id).end.id
    response = reader.follow(completion_id, last=last)
    assert (response.status_code, response.get_data()) == (204, b"")
    assert reader.follow(completion_id, query=f"?after={last}").status_code == 204


def test_the_last_id_stops_an_event_source_at_once(chat: Chat) -> None:
    """Also one that comes back in the very moment in which it got the last event."""
    for _ in range(10):
        stream = chat.stream()
        while not stream.next().is_end:
            pass
        response = chat.follow(stream.id, last=stream.end.id)
        assert response.status_code == 204
        stream.close()


def test_an_id_beyond_the_end_gets_the_end(chat: Chat, reader: Chat) -> None:
    """A client that saw more than there is, as after a crash, gets the end."""
    completion_id = chat.reply()["id"]
    stream = read(reader, completion_id, 10**12)
    assert [event.name for event in stream.seen] == ["completion.completed"]


def test_the_end_alone_to_whom_has_all_else(chat: Chat, reader: Chat) -> None:
    chat.script(openai_stream("abc"))
    completion_id = chat.reply()["id"]
    assert [event.name for event in read(reader, completion_id, 3).seen] == ["completion.completed"]


def test_a_reply_that_failed_is_replayed(chat: Chat, reader: Chat) -> None:
    chat.script(error_answer(500, "no"))
    original = chat.stream()
    original.rest()
    assert read(reader, original.id).seen == original.seen


def test_unknown_replies_have_no_events(chat: Chat) -> None:
    for completion_id in ("019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071", "x"):
        response = chat.api.get(f"/chat/completions/{completion_id}/events")
        assert (response.status_code, response.content_type) == (404, "application/problem+json")


# -- while it is written --------------------------------------------------------------------------------------


def test_a_reader_in_another_worker_follows_live(chat: Chat, other_app: Flask) -> None:
    more, end = threading.Event(), threading.Event()
    chat.script(openai_stream("one ", more, "two", end))
    original = chat.stream().until("one ")
    elsewhere = chat.on(other_app).events(original.id).until("one ")
    assert elsewhere.seen[0] == original.seen[0]
    found = chat.on(other_app).get(original.id)
    assert (found["status"], found["message"]["content"]) == ("in_progress", "one ")
    more.set()
    elsewhere.until("one two")
    assert not elsewhere.seen[-1].is_end
    end.set()
    elsewhere.rest()
    original.rest()
    assert (elsewhere.text, elsewhere.end) == ("one two", original.end)


def test_coming_back_while_it_is_written(chat: Chat, reader: Chat) -> None:
    more = threading.Event()
    chat.script(openai_stream("one ", more, "two"))
    original = chat.stream().until("one ")
    original.close()
    again = reader.events(original.id, last=2).until("e ")
    more.set()
    again.rest()
    assert (again.text, again.end.name) == ("e two", "completion.completed")
    assert again.seen[0].id > 2


def test_coming_back_before_the_first_word(chat: Chat, reader: Chat) -> None:
    more = threading.Event()
    chat.script(openai_stream(more, "late"))
    original = chat.stream()
    original.next()
    original.close()
    again = reader.events(original.id, last=0)
    more.set()
    again.rest()
    assert (again.text, again.end.name) == ("late", "completion.completed")


def test_waiting_for_what_is_not_written_yet(chat: Chat, reader: Chat) -> None:
    """A client that has seen more than is durable, as after a change of worker, gets nothing twice."""
    more = threading.Event()
    chat.script(openai_stream("abc", more, "defg"))
    original = chat.stream().until("abc")
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read, reader, original.id, 5)
        more.set()
        assert reading.result().text == "fg"
    original.rest()


def test_many_readers_at_once_each_get_everything_once(chat: Chat, other_app: Flask) -> None:
    thoughts = [openai_chunk({"reasoning_content": letter}) for letter in "hm "]
    chat.script(openai_stream(*thoughts, *(letter for letter in TEXT * 3), pause_s=0.01))
    original = chat.stream()
    original.next()
    with ThreadPoolExecutor(8) as pool:
        whole = [pool.submit(read, at, original.id) for at in (chat, chat.on(other_app)) for _ in range(2)]
        parts = [
            pool.submit(read, at, original.id, 10) for at in (chat, chat.on(other_app)) for _ in range(2)
        ]
        original.rest()
        for reading in whole:
            assert reading.result().text == TEXT * 3
            assert joined(reading.result().seen, "completion.reasoning") == "hm "
        for reading in parts:
            assert reading.result().text == (TEXT * 3)[10 - len("hm ") :]
        for reading in [*whole, *parts]:
            assert reading.result().end == original.end


def test_a_client_that_breaks_off_all_the_time_misses_nothing(chat: Chat, other_app: Flask) -> None:
    """After each event it comes back, to another worker each time, with the last id that it saw."""
    chat.script(openai_stream(*(letter for letter in TEXT * 2), pause_s=0.02))
    original = chat.stream()
    original.next()
    original.close()
    places, last = [chat, chat.on(other_app)], 0
    seen: list[Event] = []
    while not (seen and seen[-1].is_end):
        places.reverse()
        stream = places[0].events(original.id, last=last)
        seen.append(stream.next())
        last = seen[-1].id
        stream.close()
    assert joined(seen) == TEXT * 2
    assert seen[-1].content["completion"] == chat.get(original.id)


# -- Idempotency-Key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_the_same_key_gets_the_same_reply_after_its_end(chat: Chat, reader: Chat, stream: bool) -> None:
    headers = {"Idempotency-Key": f"after {chat.model}"}
    chat.script(openai_stream("once"), openai_stream("twice"))
    first = chat.ask(stream=stream, headers=headers)
    first_text = first.get_data(as_text=True)
    again = reader.ask(stream=stream, headers=headers)
    assert again.status_code == first.status_code
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (
        None,
        "true",
    )
    if stream:
        assert again.get_data(as_text=True) == first_text
    else:
        assert again.get_json() == first.get_json()
        assert again.headers["Location"] == first.headers["Location"]
    assert len(chat.sent) == 1
    assert [role for role, _, _ in chat.said] == ["user", "assistant"]


@pytest.mark.parametrize("stream", [True, False])
def test_the_same_key_attaches_to_the_reply_while_it_is_written(
    chat: Chat, reader: Chat, stream: bool
) -> None:
    headers = {"Idempotency-Key": f"while {chat.model}"}
    more = threading.Event()
    chat.script(openai_stream("on", more, "ce"), openai_stream("twice"))
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(lambda: chat.ask(stream=stream, headers=headers).get_data())
        chat.request()
        if stream:
            attached = Stream(reader.ask(stream=True, headers=headers)).until("on")
            more.set()
            attached.rest()
            assert (attached.text, attached.end.name) == ("once", "completion.completed")
        else:
            attaching = pool.submit(reader.ask, headers=headers)
            threading.Timer(0.3, more.set).start()
            response = attaching.result()
            assert (response.status_code, response.headers["Idempotency-Replayed"]) == (201, "true")
            assert response.get_json()["message"]["content"] == "once"
        asking.result()
    assert len(chat.sent) == 1
    assert len(chat.completions) == 1


def test_a_key_is_for_one_body(chat: Chat) -> None:
    headers = {"Idempotency-Key": f"one body {chat.model}"}
    chat.ask(content="A", headers=headers)
    assert chat.ask(content="B", headers=headers).status_code == 422
    assert len(chat.sent) == 1


def test_a_refused_request_does_not_burn_its_key(chat: Chat) -> None:
    headers = {"Idempotency-Key": f"refused {chat.model}"}
    more = threading.Event()
    chat.script(openai_stream("a", more), openai_stream("b"))
    running = chat.stream().until("a")
    assert chat.ask(content="B", headers=headers).status_code == 409
    more.set()
    running.rest()
    response = chat.ask(content="B", headers=headers)
    assert (response.status_code, "Idempotency-Replayed" in response.headers) == (201, False)


def test_parallel_requests_with_one_key_are_one_reply(chat: Chat, other_app: Flask) -> None:
    """Each gets that reply, or an error that says that the first request has not ended starting it."""
    headers = {"Idempotency-Key": f"parallel {chat.model}"}
    chat.script(openai_stream("on", "ce", pause_s=0.1))
    places = [chat, chat.on(other_app)] * 4
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda place: place.ask(headers=headers), places))
    answers = {response.status_code: response for response in responses}
    assert set(answers) <= {201, 409}
    assert len({response.get_json()["id"] for response in responses if response.status_code == 201}) == 1
    if 409 in answers:
        assert answers[409].get_json()["code"] == "still_running"
        assert int(answers[409].headers["Retry-After"]) >= 1
    assert len(chat.sent) == 1
    assert [content for _, content, _ in chat.said] == ["Hello", "once"]


NO_EVENT_IDS = ["x", "-2", "--1", "1.5", "+1", "1 2", "0x1", "1_0", "1" * 17, "٣", "1,2", "null"]


@pytest.mark.parametrize("text", NO_EVENT_IDS)
def test_bad_last_event_id_is_refused(user: Api, own_ids: dict[str, str], text: str) -> None:
    path = f"/chat/completions/{own_ids['completion']}/events"
    header = user.get(path, environ_overrides={"HTTP_LAST_EVENT_ID": text.encode().decode("latin-1")})
    assert_problem(header, 400, "Last-Event-ID")
    assert_problem(user.get(path, query_string={"after": text}), 400, "after")


@pytest.mark.parametrize(
    "query", ["after=", "after", "after=1&after=1", "limit=1", "after=%00", "after=%ED%A0%80"]
)
def test_bad_query_of_events_is_refused(user: Api, own_ids: dict[str, str], query: str) -> None:
    path = f"/chat/completions/{own_ids['completion']}/events"
    assert_problem(user.get(f"{path}?{query}"), 400, query.partition("=")[0])


@pytest.mark.parametrize("text", [None, "", "-1", "0", "00", "3", "9" * 16])
def test_good_last_event_id_is_answered(user: Api, own_ids: dict[str, str], text: str | None) -> None:
    path = f"/chat/completions/{own_ids['completion']}/events"
    headers = {} if text is None else {"Last-Event-ID": text}
    with user.get(path, headers=headers) as answered:
        assert answered.status_code == 200
        assert ("completion.started" in answered.get_data(as_text=True)) == (text in (None, "", "-1"))
    if text is not None:  # the header wins: it is what a client sends that comes back
        with user.get(f"{path}?after=2", headers=headers) as both:
            assert both.get_data() == answered.get_data()
