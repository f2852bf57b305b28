"""POST /v1/responses/input_tokens and /v1/responses/compact, and compactions as items."""

from typing import Any

import pytest
from flask import Flask

from tests.openai_api.asking import RESPONSES, Asking, asked
from tests.openai_api.door import refused
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream
from tests.test_ownership import rows_of

COUNT, COMPACT = f"{RESPONSES}/input_tokens", f"{RESPONSES}/compact"
TOOLS = [{"type": "function", "name": "get_weather", "description": "x" * 400, "parameters": {}}]


@pytest.fixture
def asking(ada: Api, provider: ScriptedProvider) -> Asking:
    return Asking.open(ada, provider, name="Scripted")


def count(asking: Asking, **body: Any) -> int:
    response = asking.api.post(COUNT, {"model": asking.name, **body})
    assert response.status_code == 200, response.get_data(as_text=True)
    content = response.get_json()
    assert content == {"object": "response.input_tokens", "input_tokens": content["input_tokens"]}
    tokens: int = content["input_tokens"]
    return tokens


def compacted(asking: Asking, **body: Any) -> dict[str, Any]:
    response = asking.api.post(COMPACT, {"model": asking.name, **body})
    assert response.status_code == 200, response.get_data(as_text=True)
    content: dict[str, Any] = response.get_json()
    return content


# -- counting -------------------------------------------------------------------------------------------------


def test_input_is_counted_and_nothing_is_stored_or_sent(app: Flask, asking: Asking) -> None:
    asking.script(openai_stream("x" * 400))
    response_id = asking.response("y" * 400)["id"]
    sent, before = len(asking.sent), rows_of(app, asking.api.user_id)
    short = count(asking, input="Hi")
    assert 1 <= short < 20
    assert count(asking, input="Hi", stream=True, background=True, store=True) == short
    for more in (
        {"input": "x" * 400},
        {"input": "Hi", "instructions": "x" * 400},
        {"input": "Hi", "tools": TOOLS},
        {"input": "Hi", "previous_response_id": response_id},
        {"previous_response_id": response_id},
    ):
        assert 90 <= count(asking, **more) - short <= 300, more
    assert count(asking, model=None, input="Hi") == short
    assert rows_of(app, asking.api.user_id) == before
    assert len(asking.sent) == sent


def test_what_can_not_be_counted(asking: Asking, bob: Api) -> None:
    for body, code, param in (
        ({}, "missing_required_parameter", "input"),
        ({"input": [{"type": "x"}]}, "invalid_value", "input[0].type"),
        (
            {"input": "Hi", "previous_response_id": "resp_x"},
            "previous_response_not_found",
            "previous_response_id",
        ),
        ({"input": "Hi", "prompt": {"id": "x"}}, "unsupported_parameter", "prompt"),
    ):
        refused(asking.api.post(COUNT, {"model": asking.name, **body}), 400, code, param)
    refused(bob.post(COUNT, {"input": "Hi"}), 400, "missing_required_parameter", "model")


# -- compacting -----------------------------------------------------------------------------------------------


def test_a_conversation_is_summed_up_and_goes_on(app: Flask, asking: Asking) -> None:
    asking.script(
        openai_stream("By the river."),
        openai_stream("We spoke ", "of lunch.", usage=(30, 5)),
        openai_stream("Gladly."),
    )
    response_id = asking.response("Where to eat?")["id"]
    before = rows_of(app, asking.api.user_id)
    found = compacted(asking, previous_response_id=response_id, input="And then?", tools=TOOLS)
    assert rows_of(app, asking.api.user_id) == before
    [item] = found["output"]
    assert found == {
        "id": found["id"],
        "object": "response.compaction",
        "created_at": found["created_at"],
        "output": [{"id": item["id"], "type": "compaction", "encrypted_content": item["encrypted_content"]}],
        "usage": {
            "input_tokens": 30,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 35,
        },
    }
    assert found["id"].startswith("resp_")
    assert item["id"].startswith("cmp_")
    assert "lunch" not in item["encrypted_content"]
    sent = asking.sent[-1].json
    assert "tools" not in sent
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][-1]["content"].startswith("And then?\n\nWrite a summary")
    asking.response([item, asked("More?")])
    assert asking.sent[-1].json["messages"] == [
        {"role": "system", "content": "We spoke of lunch."},
        {"role": "user", "content": "More?"},
    ]
    response = asking.api.post("/v1/conversations", {"items": [item]})
    there = response.get_json()["id"]
    [stored] = asking.api.get(f"/v1/conversations/{there}/items").get_json()["data"]
    assert (stored["role"], stored["content"][0]["text"]) == ("system", "We spoke of lunch.")


def test_compactions_of_others_and_broken_ones(asking: Asking, bob: Api, provider: ScriptedProvider) -> None:
    asking.script(openai_stream("Secret."))
    [item] = compacted(asking, input="Hi")["output"]
    his = Asking.open(bob, provider, name="Scripted")
    sealed = item["encrypted_content"]
    param = "input[0].encrypted_content"
    refused(his.create([item]), 400, "invalid_value", param)
    refused(
        bob.post("/v1/conversations", {"items": [item]}), 400, "invalid_value", "items[0].encrypted_content"
    )
    for broken in (sealed[:-4], sealed[:50] + "A" + sealed[51:], "", None, 1, "ä"):
        refused(asking.create([{**item, "encrypted_content": broken}]), 400, "invalid_value", param)
    assert not his.sent


def test_a_chain_of_compactions(asking: Asking) -> None:
    asking.script(openai_stream("First."), openai_stream("Second."), openai_stream("Well."))
    [first] = compacted(asking, input="Hi")["output"]
    [second] = compacted(asking, input=[first, asked("More")])["output"]
    assert asking.sent[-1].json["messages"][0] == {"role": "system", "content": "First."}
    asking.response([second, asked("Go on")])
    assert asking.sent[-1].json["messages"][0] == {"role": "system", "content": "Second."}


def test_what_can_not_be_compacted(app: Flask, asking: Asking, bob: Api) -> None:
    for body, code, param in (
        ({"model": None, "input": "Hi"}, "missing_required_parameter", "model"),
        ({}, "missing_required_parameter", "input"),
        ({"previous_response_id": "resp_" + "0" * 32}, "previous_response_not_found", "previous_response_id"),
    ):
        refused(asking.api.post(COMPACT, {"model": asking.name, **body}), 400, code, param)
    asking.script(
        openai_stream("Yes."), error_answer(429, "Slow down."), openai_stream(""), openai_stream("  ")
    )
    response_id = asking.response()["id"]
    refused(asking.api.post(COMPACT, {"model": asking.name, "input": "Hi"}), 429, "provider_rate_limited")
    for _ in range(2):
        refused(asking.api.post(COMPACT, {"model": asking.name, "input": "Hi"}), 502, "provider_failed")
    his = Asking.open(bob, asking.provider, name="Scripted")
    body = {"model": his.name, "previous_response_id": response_id}
    for path in (COUNT, COMPACT):
        refused(bob.post(path, body), 400, "previous_response_not_found", "previous_response_id")
    body = {"model": his.name, "conversation": asking.create().headers["X-Conversation-Id"]}
    for path in (COUNT, COMPACT):
        refused(bob.post(path, body), 404, "not_found", "conversation")
    assert not his.sent
