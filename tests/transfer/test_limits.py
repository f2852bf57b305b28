"""Limits of an import: whatever an export holds is within them, and who waits for a slot does not wait for ever."""

import io
import json
import time
from pathlib import Path

import orjson
import pytest
from flask import Flask

from chat_api.database.bulk import PAUSED
from chat_api.database.session import db
from chat_api.llm.client import MAX_PARTS
from chat_api.llm.provider_state import MAX_STATE_BYTES
from chat_api.llm.sources import MAX_PLACES, MAX_SOURCES, MAX_TITLE_LENGTH, MAX_URL_LENGTH
from chat_api.llm.stream_parser import MAX_TOOL_CALLS
from chat_api.transfer import service, slots
from chat_api.transfer.limits import LARGE_BYTES, MAX_VALUES, longest_line
from chat_api.transfer.schemas import MAX_OUTLINE_PARTS, MAX_PROBLEM_BYTES
from chat_api.transfer.slots import LargeConversationSlot, transfer_slots
from chat_api.web.json_values import has_more_values
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.transfer.exports import (
    Line,
    chain,
    completion,
    conversation,
    exported,
    file_of,
    imported,
    message,
    restorable,
    send,
)
from tests.transfer.test_chatgpt import conversation as of_chatgpt
from tests.transfer.test_chatgpt import node

JSON = "application/json"
ESCAPED = "\x01"  # a byte that takes six in JSON

# -- a line of an export ---------------------------------------------------------------------------------------------


def filled(name: str, size_bytes: int) -> dict[str, list[int]]:
    """An object with as many values as its size as JSON allows."""
    return {name: [0] * ((size_bytes - len(name) - 6) // 2)}


def turns(count: int, length: int = 1) -> list[list[str | int]]:
    return [["text" if number % 2 else "reasoning", length] for number in range(count)]


def replied(first: Line, content: str, reasoning: str, outline: list[list[str | int]]) -> list[Line]:
    """A question, and a reply that has as much of everything as a provider may send besides these texts."""
    asked = message(first, 1)
    reply = message(first, 2, asked, role="assistant", content=content)
    reply["tool_calls"] = [{"id": "c", "name": "f", "arguments": "{}"}] * MAX_TOOL_CALLS
    url = "https://s.example/" + "\U0001f600" * (MAX_URL_LENGTH - 18)
    places = [[number, number + 1] for number in range(MAX_PLACES)]
    source = {"url": url, "title": "\U0001f600" * MAX_TITLE_LENGTH, "places": places}
    reply["sources"] = [source] * MAX_SOURCES
    ended = completion(asked, message_id=reply["id"], reasoning=reasoning, outline=outline)
    ended["problem"] = filled("detail", MAX_PROBLEM_BYTES)
    state = {"provider_id": ended["provider_id"], "model": "m", "state": filled("a", MAX_STATE_BYTES)}
    reply["provider_state"] = state
    return [asked, ended, reply]


@pytest.mark.parametrize("reply_bytes", [1, 2**20, 16 * 2**20])
@pytest.mark.parametrize("is_text", [True, False])
def test_no_line_that_an_export_may_have_is_too_long_or_has_too_many_values(
    reply_bytes: int, is_text: bool
) -> None:
    """Whatever providers and clients have brought; texts of a message and a completion share one limit."""
    content = ESCAPED * (reply_bytes if is_text else 0)
    reasoning = ESCAPED * (0 if is_text else reply_bytes)
    first = conversation(title="\U0001f600" * 255)
    for line in (first, *replied(first, content, reasoning, turns(MAX_OUTLINE_PARTS))):
        raw = orjson.dumps(line)
        assert len(raw) <= longest_line(reply_bytes), line["type"]
        assert not has_more_values(raw, MAX_VALUES), line["type"]


def test_the_largest_lines_are_exported_and_imported_again(ada: Api, bob: Api) -> None:
    first = conversation(last_position=2)
    lines = replied(first, "x" * (MAX_PARTS // 2), "y" * (MAX_PARTS // 2), turns(MAX_PARTS))
    first["active_leaf_id"] = lines[-1]["id"]
    assert imported(ada, file_of(first, *lines))["errors"] == []
    found = exported(ada)
    assert restorable(found)[:-1] == [first, *lines]
    assert imported(bob, b"\n".join(map(orjson.dumps, found)))["errors"] == []
    assert restorable(exported(bob)) == restorable(found)


def test_longer_outline_than_replies_have_is_refused(ada: Api) -> None:
    first = conversation()
    asked, reply = chain(first, 2)
    ended = completion(asked, message_id=reply["id"], outline=turns(MAX_OUTLINE_PARTS + 1))
    report = imported(ada, file_of(first, asked, reply | {"role": "assistant"}, ended))
    assert (report["errors"][0]["line"], report["conversations"]["failed"]) == (5, 1)
    assert report["errors"][0]["detail"].startswith("outline: ")


def test_conversation_of_more_values_than_a_line_may_have_is_imported(app: Flask, ada: Api, bob: Api) -> None:
    """A line holds one message, so the limit is none of conversations."""
    first = conversation(last_position=6)
    said = chain(first, 6)
    first["active_leaf_id"] = said[-1]["id"]
    for line in said:
        state = {"provider_id": line["id"], "model": "m", "state": filled("a", MAX_STATE_BYTES)}
        line |= {"role": "assistant", "provider_state": state}
    content = file_of(first, *said)
    assert has_more_values(content, MAX_VALUES)
    assert imported(ada, content)["errors"] == []
    found = exported(ada)
    assert imported(bob, b"\n".join(map(orjson.dumps, found)))["errors"] == []
    assert restorable(exported(bob)) == restorable(found)


# -- the slot for large conversations --------------------------------------------------------------------------------


def talk(name: str, size: int = 1) -> Line:
    return of_chatgpt(node("a", None, "x" * size), conversation_id=name)


def test_import_waits_for_the_slot_for_a_limited_time(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the large conversation is stored, and the same file goes on there."""
    monkeypatch.setattr(slots, "LARGE_WAIT_S", 0.2)
    content = json.dumps([talk("a"), talk("b", 2 * LARGE_BYTES), talk("c")]).encode()
    other = LargeConversationSlot(app.config["DATA_DIR"])
    assert other.try_take()
    try:
        began = time.monotonic()
        refused = send(ada, content, JSON)
        assert time.monotonic() - began >= 0.2
    finally:
        other.release()
    assert_problem(refused, 503)
    assert int(refused.headers["Retry-After"]) > 0
    assert "large conversations" in refused.get_json()["detail"]
    assert transfer_slots.taken == 0
    assert len(ada.get("/chat/conversations").get_json()) == 1
    assert imported(ada, content, JSON)["conversations"] == {
        "imported": 2,
        "updated": 0,
        "unchanged": 1,
        "failed": 0,
    }
    assert other.try_take(), "The import has kept it."
    other.release()


def test_others_get_the_slot_between_two_large_conversations(app: Flask, ada: Api) -> None:
    """Else a file of many of them would have it until its end."""
    content = json.dumps([talk("a", 2 * LARGE_BYTES), talk("b", 2 * LARGE_BYTES)]).encode()
    other = LargeConversationSlot(app.config["DATA_DIR"])
    with app.app_context():
        report, steps = service.import_file(user_id=ada.user_id, file=io.BytesIO(content))
        for step in steps:
            db.session.commit()
            if step is PAUSED and other.try_take():
                break
        assert other.is_held
        assert report.imported["conversation"] == 1
        assert next(steps) is PAUSED, "It waits."
        db.session.commit()
        other.release()
        for _ in steps:
            db.session.commit()
    assert report.imported["conversation"] == 2


def test_slot_is_free_again_when_its_holder_fails(app: Flask, tmp_path: Path) -> None:
    first, second = LargeConversationSlot(tmp_path), LargeConversationSlot(tmp_path)
    assert first.try_take()
    assert not second.try_take()
    first.release()
    assert second.try_take()
    second.release()
    second.release()
