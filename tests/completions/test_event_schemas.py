"""The events of a stream are as the OpenAPI document has them, each with its name inside its data as well."""

from typing import Any

import jsonschema_rs
import pytest

from tests.completions.chat import Chat
from tests.support.provider import BREAK, STALL, error_answer, openai_chunk, openai_stream

CITED = {
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example/", "title": "A"}}]
}


@pytest.fixture
def documented(chat: Chat) -> dict[str, Any]:
    document: dict[str, Any] = chat.api.get("/openapi.json").get_json()
    return document


def complaints(documented: dict[str, Any], name: str, content: dict[str, Any]) -> list[str]:
    """What is wrong with an event by the schema of its type alone; and that no other type's schema takes it."""
    parts = documented["components"]
    union = parts["schemas"]["CompletionEvent"]
    fitting = [
        reference
        for reference in union["discriminator"]["mapping"].values()
        if jsonschema_rs.Draft202012Validator({"$ref": reference, "components": parts}).is_valid(content)
    ]
    reference = union["discriminator"]["mapping"][name]
    if fitting == [reference]:
        return []
    found = jsonschema_rs.Draft202012Validator({"$ref": reference, "components": parts}).iter_errors(content)
    return [*(error.message for error in found), *fitting]


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (
            openai_stream(
                openai_chunk({"reasoning_content": "Hm"}),
                "Hel",
                openai_chunk({"content": "lo", **CITED}),
                tool_calls=[("call_1", "f", "{}")],
                finish="tool_calls",
            ),
            {"reasoning", "delta", "source", "tool_call", "completed"},
        ),
        (openai_stream("So far", finish="length"), {"delta", "incomplete"}),
        (openai_stream("So ", "far", BREAK), {"delta", "incomplete"}),
        (error_answer(500, "out of order"), {"failed"}),
    ],
    ids=["all", "length", "break", "failure"],
)
def test_events_fit_their_schemas(
    chat: Chat, documented: dict[str, Any], answer: Any, names: set[str]
) -> None:
    chat.script(answer)
    live = chat.stream()
    live.rest()
    replayed = chat.events(live.id)
    replayed.rest()
    for stream in (live, replayed):
        assert {event.name for event in stream.seen} == {f"completion.{name}" for name in names | {"started"}}
        for event in stream.seen:
            assert complaints(documented, event.name, {"type": event.name, **event.content}) == []


def test_the_event_of_a_cancelled_reply_fits(chat: Chat, documented: dict[str, Any]) -> None:
    chat.script(openai_stream("So far", STALL))
    stream = chat.stream()
    stream.until("So far")
    assert chat.cancel(stream.id).status_code == 200
    stream.rest()
    assert stream.end.name == "completion.cancelled"
    assert complaints(documented, stream.end.name, {"type": stream.end.name, **stream.end.content}) == []
