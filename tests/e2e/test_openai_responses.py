"""Responses of the `openai` package against gunicorn: every event and object is as its types say."""

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.e2e.account import Account
from tests.support.provider import BREAK, Answer, openai_chunk, openai_stream

TOOLS: Any = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}]
CALLS = [("call_1", "get_weather", '{"city": "Lisbon"}'), ("call_2", "get_weather", "{}")]
FORMAT: Any = {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}}
THOUGHT = openai_chunk({"reasoning_content": "Hm"})
_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_ITEMS: TypeAdapter[Any] = TypeAdapter(ResponseItem)


@pytest.fixture
def client(me: Account) -> Iterator[OpenAI]:
    with OpenAI(base_url=me.base_url, api_key=me.key, max_retries=0) as opened:
        yield opened


def valid(events: Any) -> list[Any]:
    """The events, which are all what the package's types say, strictly."""
    seen = list(events)
    for event in seen:
        _EVENTS.validate_python(event.to_dict())
    numbers = [event.sequence_number for event in seen]
    assert numbers == sorted(set(numbers))
    return seen


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (openai_stream(THOUGHT, "Hel", "lo", tool_calls=CALLS, finish="tool_calls"), "response.completed"),
        (openai_stream("Hel", finish="length"), "response.incomplete"),
    ],
)
def test_a_stream(me: Account, client: OpenAI, answer: Answer, end: str) -> None:
    me.script(answer)
    events = valid(client.responses.create(model=me.name, input="Hi", tools=TOOLS, text=FORMAT, stream=True))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last.type == end
    Response.model_validate(last.response.to_dict())
    assert client.responses.retrieve(last.response.id).to_dict() == last.response.to_dict()
    for after in (0, 3, last.sequence_number):
        rest = client.responses.retrieve(last.response.id, stream=True, starting_after=after)
        assert [event.sequence_number for event in valid(rest)] == [
            event.sequence_number for event in events if event.sequence_number > after
        ] or after == 3  # where a text may be cut otherwise
    for item in client.responses.input_items.list(last.response.id):
        _ITEMS.validate_python(item.to_dict())


def test_the_stream_helper(me: Account, client: OpenAI) -> None:
    me.script(openai_stream(THOUGHT, "Hel", "lo", tool_calls=CALLS, finish="tool_calls"))
    with client.responses.stream(model=me.name, input="Hi", tools=TOOLS) as stream:
        seen = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "Hello"
    with client.responses.stream(response_id=final.id, starting_after=seen[4]) as stream:
        list(stream)
        assert stream.get_final_response().output_text == "Hello"


def test_a_reply_that_breaks_off(me: Account, client: OpenAI) -> None:
    me.script(openai_stream("Hel", BREAK))
    stream = client.responses.create(model=me.name, input="Hi", stream=True)
    with pytest.raises(openai.APIError):
        valid(stream)


def test_the_life_of_a_response(me: Account, client: OpenAI) -> None:
    go_on = threading.Event()
    me.script(openai_stream("Hel", go_on))
    running = client.responses.create(model=me.name, input="Hi", background=True)
    assert running.status == "in_progress"
    ended = client.responses.cancel(running.id)
    go_on.set()
    assert ended.status == "cancelled"
    me.script(openai_stream("Hello"))
    follow_up = client.responses.create(model=me.name, input="Go on", previous_response_id=running.id)
    assert follow_up.output_text == "Hello"
    conversation = me.get("/chat/conversations")[0]["id"]
    bound = client.responses.create(model=me.name, input="More", conversation=conversation)
    assert bound.conversation is not None
    client.responses.delete(bound.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(bound.id)
