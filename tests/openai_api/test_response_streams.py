"""Streams of responses that are resumed, followed, cancelled and left: from any number, the rest is the same."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from tests.completions.chat import run_sql, wait_for
from tests.openai_api.asking import RESPONSES, Asking, text_of
from tests.openai_api.door import refused
from tests.support.api import Api
from tests.support.provider import BREAK, STALL, Pause, ScriptedProvider, openai_chunk, openai_stream
from tests.support.tables import begin_elsewhere

CALLS = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", "{}")]
THOUGHTS = [openai_chunk({"reasoning_content": text}) for text in ("Hm", "m")]


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Asking:
    return Asking.open(ada, provider)


def told(events: list[dict[str, Any]]) -> list[Any]:
    """What events say, each character of a delta for itself: so it is the same however a reply is cut."""
    said: list[Any] = []
    for event in events:
        if event["type"].endswith("text.delta"):
            last, text = event["sequence_number"], event["delta"]
            said += [(last - len(text) + 1 + index, one) for index, one in enumerate(text)]
        else:
            said.append((event["sequence_number"], event))
    return said


@contextmanager
def begun(door: Asking, *steps: Any) -> Iterator[tuple[str, threading.Event]]:
    """A response in progress that has said "Hel" and goes on with these steps when the event is set."""
    go_on = threading.Event()
    door.script(openai_stream("Hel", go_on, *steps))
    answer = door.valid(door.create(background=True))
    try:
        wait_for(lambda: text_of(door.get(answer["id"])) == "Hel")
        yield answer["id"], go_on
    finally:
        go_on.set()


def test_from_any_number_the_rest_is_the_same(door: Asking) -> None:
    door.script(openai_stream(*THOUGHTS, "Hel", "lo", tool_calls=CALLS, finish="tool_calls"))
    whole = door.stream()
    response_id = whole[0]["response"]["id"]
    assert told(door.resumed(response_id)) == told(whole)
    last = whole[-1]["sequence_number"]
    for after in range(-1, last + 1):
        assert told(door.resumed(response_id, after)) == [one for one in told(whole) if one[0] > after]
    for after in (last, last + 1, 10**15):
        assert door.resumed(response_id, after) == []


def test_a_response_in_progress_is_followed(door: Asking, other_app: Flask) -> None:
    with begun(door, Pause(0.05), "lo") as (response_id, go_on):
        current = door.get(response_id)
        assert (current["status"], current["output"][0]["status"]) == ("in_progress", "in_progress")
        go_on.set()
        whole = door.resumed(response_id)
        assert told(door.resumed(response_id, 5)) == [one for one in told(whole) if one[0] > 5]
    assert text_of(whole[-1]["response"]) == "Hello"
    assert door.get(response_id) == whole[-1]["response"]


def test_another_process_has_the_same(door: Asking, other_app: Flask) -> None:
    elsewhere = door.on(other_app)
    with begun(door, "lo") as (response_id, go_on):
        wait_for(lambda: text_of(elsewhere.get(response_id)) == "Hel")
        go_on.set()
        whole = elsewhere.resumed(response_id)
    assert told(whole) == told(door.resumed(response_id))
    assert elsewhere.get(response_id) == door.get(response_id)


@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_cancelling_keeps_what_came(door: Asking, other_app: Flask, is_elsewhere: bool) -> None:
    with begun(door, STALL) as (response_id, _):
        canceller = door.on(other_app) if is_elsewhere else door
        response = door.valid(canceller.api.post(f"{RESPONSES}/{response_id}/cancel"))
    assert (response["status"], text_of(response)) == ("cancelled", "Hel")
    assert response["output"][0]["status"] == "incomplete"
    *_, last = door.resumed(response_id)
    assert (last["type"], last["response"]) == ("response.incomplete", response)
    again = door.valid(door.api.post(f"{RESPONSES}/{response_id}/cancel"))
    assert again == door.get(response_id) == response


@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_a_stream_whose_conversation_is_deleted_ends_with_an_error(
    door: Asking, other_app: Flask, is_elsewhere: bool
) -> None:
    reader = door.on(other_app) if is_elsewhere else door
    with begun(door, STALL) as (response_id, _):
        response = reader.api.get(f"{RESPONSES}/{response_id}?stream=true")
        parts = iter(response.response)
        events = [next(parts)]
        [conversation] = door.conversations()
        assert door.api.delete(f"/chat/conversations/{conversation['id']}").status_code == 204
        events += parts
        response.close()
    assert b'"type":"error"' in events[-1]
    assert b"There is no such" in events[-1]


def test_a_response_that_has_ended_can_not_be_cancelled(door: Asking) -> None:
    response = door.response()
    assert door.valid(door.api.post(f"{RESPONSES}/{response['id']}/cancel")) == response


def test_in_the_background_a_failure_is_an_event(door: Asking) -> None:
    door.script(openai_stream(BREAK))
    events = door.stream(background=True)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["output"] == []
    assert door.get(events[-1]["response"]["id"])["status"] == "failed"


@pytest.mark.parametrize("named", ["resp_1", "x", f"resp_{'0' * 32}"])
def test_what_is_not_there(door: Asking, named: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "?stream=true")):
        refused(door.api.request(method, f"{RESPONSES}/{named}{path}"), 404, "not_found")


def test_ids_are_read_liberally(door: Asking) -> None:
    response = door.response()
    digits = response["id"].removeprefix("resp_")
    for named in (digits, digits.upper(), f"chatcmpl-{digits}", f"resp_{digits.upper()}"):
        assert door.get(named) == response
    said = door.api.get(f"/v1/chat/completions/{response['id']}").get_json()
    assert said["choices"][0]["message"]["content"] == text_of(response)


def test_a_completion_of_another_dialect(door: Asking) -> None:
    answer = door.answered({"role": "user", "content": "Hi"})
    response = door.get(answer["id"].replace("chatcmpl-", "resp_"))
    assert text_of(response) == answer["choices"][0]["message"]["content"]
    assert response["model"] == door.name


@pytest.mark.parametrize("after", ["x", "1.5", ""])
def test_a_number_that_is_none(door: Asking, after: str) -> None:
    response = door.response()
    answer = door.api.get(f"{RESPONSES}/{response['id']}?stream=true&starting_after={after}")
    refused(answer, 400, "invalid_value", "starting_after")


def status_of(door: Asking) -> str:
    """Of the only completion in the newest conversation."""
    path = f"/chat/conversations/{door.conversations()[0]['id']}/completions"
    [completion] = door.api.get(path).get_json()
    status: str = completion["status"]
    return status


@pytest.mark.parametrize(
    ("headers", "status"), [({}, "completed"), ({"X-On-Disconnect": "cancel"}, "cancelled")]
)
def test_a_client_that_leaves(door: Asking, headers: dict[str, str], status: str) -> None:
    go_on = threading.Event()
    door.script(openai_stream("Hel", go_on, "lo"))
    answer = door.create(stream=True, headers=headers)
    next(answer.iter_encoded())
    answer.close()
    if status == "completed":
        go_on.set()
    wait_for(lambda: status_of(door) == status)
    go_on.set()


def test_a_client_that_leaves_what_is_not_stored(door: Asking) -> None:
    door.script(openai_stream("Hel", STALL))
    answer = door.create(stream=True, store=False)
    next(answer.iter_encoded())
    answer.close()
    assert door.sent[0].closed.wait(10)
    assert door.conversations() == []


def test_a_worker_that_dies(door: Asking) -> None:
    message = door.api.message(door.api.conversation()["id"])
    response_id = begin_elsewhere(door.api.app, door.api.user_id, message, door.provider_id)
    running = door.get(response_id)
    assert (running["status"], text_of(running)) == ("in_progress", "By the river")
    run_sql(
        door.api.app, "UPDATE completions SET lease_expires_at = created_at WHERE id = :id", id=response_id
    )
    failed = door.get(response_id)
    assert (failed["status"], text_of(failed)) == ("failed", "By the river")
    assert failed["output"][0] == {**running["output"][0], "status": "incomplete"}
    assert (failed["error"]["code"], failed["error"]["type"]) == ("server_error", "worker_lost")
    *_, error, last = door.resumed(response_id)
    assert (error["type"], last["response"]) == ("error", failed)
