"""POST /v1/responses: what goes to the provider, what comes back, whole and streamed, and what is stored."""

import json
from typing import Any

import pytest

from tests.completions.chat import wait_for
from tests.openai_api.asking import FIELDS, RESPONSES, Asking, asked, conversation_id_of, text_of
from tests.openai_api.door import refused
from tests.support.api import Api
from tests.support.provider import BREAK, ScriptedProvider, error_answer, openai_chunk, openai_stream

TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
OTHER = {"type": "function", "name": "other"}
ALLOWED = {"type": "allowed_tools", "tools": [{"type": "function", "name": "other"}]}
DEEP: dict[str, Any] = {}
for _ in range(240):
    DEEP = {"a": DEEP}
CALLS = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", '{"city":"Porto"}')]
THOUGHTS = [openai_chunk({"reasoning_content": text}) for text in ("Hm", "m")]


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Asking:
    return Asking.open(ada, provider)


def names_of(events: list[dict[str, Any]]) -> list[str]:
    """Without repeated deltas."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [
        name for index, name in enumerate(names) if not (name.endswith("delta") and name == names[index - 1])
    ]


def test_a_whole_response(door: Asking) -> None:
    door.script(openai_stream("Hel", "lo", usage=(16, 3)))
    response = door.response("Hi")
    assert set(response) == FIELDS
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"], response["model"]) == ("response", "completed", door.name)
    assert isinstance(response["created_at"], int)
    assert isinstance(response["completed_at"], int)
    [item] = response["output"]
    assert item["id"].startswith("msg_")
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert response["usage"] == {
        "input_tokens": 16,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 19,
    }
    assert door.sent[0].json["messages"] == [asked("Hi")]
    assert door.get(response["id"]) == response


def test_a_stream(door: Asking) -> None:
    door.script(openai_stream(*THOUGHTS, "Hel", "lo", usage=(16, 3)))
    events = door.stream()
    assert names_of(events) == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    first, last = events[0]["response"], events[-1]["response"]
    assert set(first) == set(last) == FIELDS
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert last["status"] == "completed"
    assert last == door.get(last["id"])
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == last["output"]
    assert [item["id"][:3] for item in done] == ["rs_", "msg"]
    for event in events[2:-1]:
        item = done[event["output_index"]]
        assert item["id"] == (event["item"]["id"] if "item" in event else event["item_id"])
    assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == "HmmHello"
    assert [event["sequence_number"] for event in events if "delta" not in event["type"]] == [
        0, 1, 2, 3, 7, 8, 9, 10, 11, 17, 18, 19, 21
    ]  # fmt: skip


def test_calls_of_tools(door: Asking) -> None:
    door.script(openai_stream("See.", tool_calls=CALLS, finish="tool_calls"), openai_stream("Sunny."))
    events = door.stream("Weather?", tools=[TOOL])
    assert names_of(events)[8:12] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"
    ]  # fmt: skip
    first = events[-1]["response"]
    text, *calls = first["output"]
    assert text["content"][0]["text"] == "See."
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == CALLS
    assert len({item["id"] for item in first["output"]}) == 3
    assert door.sent[0].json["tools"] == [
        {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    ]
    results = [{"type": "function_call_output", "call_id": id_, "output": "28"} for id_, *_ in CALLS]
    answer = door.create(results, previous_response_id=first["id"], tools=[TOOL])
    second = door.valid(answer)
    assert text_of(second) == "Sunny."
    assert second["previous_response_id"] == first["id"]
    assert [message["role"] for message in door.sent[1].json["messages"]] == [
        "user", "assistant", "tool", "tool"
    ]  # fmt: skip
    [conversation] = door.conversations()
    assert (conversation["id"], conversation["source"]) == (conversation_id_of(answer), "responses")


def test_what_is_asked_is_repeated(door: Asking) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    fields = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "max_tool_calls": 3,
        "metadata": {"topic": "travel"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema}, "verbosity": "low"},
        "tool_choice": "required",
        "tools": [TOOL],
        "truncation": "auto",
        "user": "u-1",
        "safety_identifier": "s-1",
        "prompt_cache_key": "k-1",
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "top_logprobs": 2,
        "service_tier": "flex",
        "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": False},
        "of_a_later_sdk": {"x": 1},
        "context_management": None,
    }  # fmt: skip
    response = door.response(**fields)
    repeated = {name: fields[name] for name in FIELDS & set(fields)}
    repeated |= {
        "tools": [{**TOOL, "description": None, "strict": True}],
        "service_tier": "default",
        "text": {
            "format": {**fields["text"]["format"], "description": None, "strict": True},  # type: ignore[index]
            "verbosity": "low",
        },
    }
    assert {name: response[name] for name in repeated} == repeated
    assert response == door.get(response["id"])
    sent = door.sent[0].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
    assert (sent["temperature"], sent["top_p"], sent["presence_penalty"]) == (0.5, 0.9, 0.1)


def test_the_defaults(door: Asking) -> None:
    response = door.response()
    assert response["text"] == {"format": {"type": "text"}}
    assert response["reasoning"] == {"effort": None, "summary": None}
    assert (response["temperature"], response["top_p"], response["tool_choice"]) == (1, 1, "auto")
    assert (response["store"], response["background"], response["truncation"]) == (True, False, "disabled")
    assert (response["conversation"], response["instructions"], response["error"]) == (None, None, None)
    assert set(door.sent[0].json) <= {"model", "messages", "stream", "stream_options"}


def test_tools_that_may_be_called(door: Asking) -> None:
    other = {**TOOL, "name": "get_time"}
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "get_time"}],
    }
    response = door.response(tools=[TOOL, other], tool_choice=choice)
    assert response["tool_choice"] == choice
    assert [tool["name"] for tool in response["tools"]] == ["get_weather", "get_time"]
    sent = door.sent[0].json
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_time"]
    assert sent["tool_choice"] == "required"
    named = {"type": "function", "name": "get_time"}
    assert door.response(tools=[TOOL, other], tool_choice=named)["tool_choice"] == named
    assert door.sent[1].json["tool_choice"] == {"type": "function", "function": {"name": "get_time"}}


def test_claude_gets_it_in_its_own_words(ada: Api, provider: ScriptedProvider) -> None:
    door = Asking.open(ada, provider, api_format="anthropic")
    response = door.response(instructions="Be brief.", tools=[TOOL], prompt_cache_key="k-1", user="u-1")
    assert (response["status"], response["prompt_cache_key"]) == ("completed", "k-1")
    assert text_of(response)
    sent = door.sent[0].json
    assert sent["system"] == "Be brief."
    assert sent["tools"][0]["input_schema"] == {"type": "object"}
    assert "cache_control" not in str(sent)


# -- where it belongs -----------------------------------------------------------------------------------------


def test_instructions_are_of_one_response(door: Asking) -> None:
    first = door.response("One", instructions="Be brief.")
    door.response("Two", previous_response_id=first["id"])
    assert [message["role"] for message in door.sent[1].json["messages"]] == ["user", "assistant", "user"]
    [conversation] = door.conversations()
    assert [role for role, _ in door.said(conversation["id"])] == ["user", "assistant"] * 2


def test_two_follow_ups_are_branches(door: Asking) -> None:
    first = door.response("One")
    for text in ("Two", "Two, otherwise"):
        door.response(text, previous_response_id=first["id"])
        assert [message["content"] for message in door.sent[-1].json["messages"]][0::2] == ["One", text]
    [conversation] = door.conversations()
    assert len(door.said(conversation["id"], "all")) == 6


def test_in_a_conversation(door: Asking) -> None:
    conversation_id = door.api.conversation()["id"]
    named = f"conv_{conversation_id.replace('-', '')}"
    first = door.response("One", conversation=named)
    assert first["conversation"] == {"id": named}
    door.response("Two", conversation={"id": named})
    door.response([], conversation=named)
    assert [message["role"] for message in door.sent[1].json["messages"]] == ["user", "assistant", "user"]
    assert [role for role, _ in door.said(conversation_id)] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "assistant",
    ]
    assert len(door.conversations()) == 1


def test_a_history_that_is_sent_whole_is_continued(door: Asking) -> None:
    first = door.response("One")
    sent = [asked("One"), {"role": "assistant", "content": text_of(first)}, asked("Two")]
    second = door.response(sent)
    # as the AI SDK sends it
    references = [{"type": "item_reference", "id": item["id"]} for item in second["output"]]
    door.response([*sent, *references, asked("Three")])
    [conversation] = door.conversations()
    assert conversation["message_count"] == 6
    assert [message["role"] for message in door.sent[2].json["messages"]] == ["user", "assistant"] * 2 + [
        "user"
    ]


def test_a_reply_with_thoughts_between_its_texts_is_recognised(door: Asking) -> None:
    thought = openai_chunk({"reasoning_content": "Hm."})
    door.script(openai_stream(thought, "One, ", thought, "two."), openai_stream("Next"))
    answer = door.create([asked("Count")])
    output = door.valid(answer)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning", "message"]
    again = door.create([asked("Count"), *output, asked("And now?")])
    assert conversation_id_of(again) == conversation_id_of(answer)
    references = [{"type": "item_reference", "id": item["id"]} for item in output]
    referred = door.create([asked("Count"), *references, asked("And then?")])
    assert conversation_id_of(referred) == conversation_id_of(answer)
    texts = [message["content"] for message in door.sent[-1].json["messages"]]
    assert texts == ["Count", "One, two.", "And then?"]


def test_a_conversation_has_one_reply_at_a_time(door: Asking) -> None:
    conversation_id = door.api.conversation()["id"]
    running = door.create("One", conversation=conversation_id, background=True, model=door.stalled())
    assert door.valid(running)["status"] == "in_progress"
    answer = door.create("Two", conversation=conversation_id)
    refused(answer, 400, "conversation_locked", "conversation")
    assert answer.headers["Retry-After"]
    refused(
        door.create("Two", previous_response_id=running.get_json()["id"]),
        400,
        "response_in_progress",
        "previous_response_id",
    )
    response_id = running.get_json()["id"]
    wait_for(lambda: text_of(door.get(response_id)) == "Hel")
    door.api.post(f"{RESPONSES}/{response_id}/cancel")
    assert [text for _, text in door.said(conversation_id)] == ["One", "Hel"]


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
def test_nothing_of_it_is_stored(door: Asking, name: str) -> None:
    answer = door.create("One")
    first = answer.headers["X-Conversation-Id"] if name == "conversation" else answer.get_json()["id"]
    answer = door.create("Two", store=False, **{name: first})
    response = door.valid(answer)
    assert response["store"] is False
    assert "X-Conversation-Id" not in answer.headers
    assert [message["role"] for message in door.sent[1].json["messages"]] == ["user", "assistant", "user"]
    [conversation] = door.conversations()
    assert conversation["message_count"] == 2
    refused(door.api.get(f"{RESPONSES}/{response['id']}"), 404, "not_found")
    refused(
        door.create("Three", previous_response_id=response["id"]),
        400,
        "previous_response_not_found",
        "previous_response_id",
    )


def test_metadata_is_of_the_conversation_that_begins_with_it(door: Asking) -> None:
    response = door.response(metadata={"title": "A trip", "topic": "travel"})
    [found] = door.api.get("/chat/conversations?metadata[topic]=travel&source=responses").get_json()
    assert (found["title"], found["metadata"]) == ("A trip", response["metadata"])


def test_no_limit_as_clients_of_local_models_say_it(door: Asking) -> None:
    assert door.response(max_output_tokens=-1)["max_output_tokens"] is None
    assert not {"max_tokens", "max_completion_tokens"} & set(door.sent[-1].json)


def test_empty_texts_say_nothing(door: Asking) -> None:
    names = ("user", "safety_identifier", "prompt_cache_key", "service_tier")
    response = door.response(**dict.fromkeys(names, ""), reasoning={"effort": ""}, text={"verbosity": ""})
    assert (response["user"], response["prompt_cache_key"]) == (None, None)
    assert (response["reasoning"]["effort"], response["text"]) == (None, {"format": {"type": "text"}})
    sent = door.sent[-1].json
    assert not {*names, "reasoning_effort", "verbosity"} & set(sent)


def test_a_tool_without_a_description(door: Asking) -> None:
    response = door.response(tools=[{**TOOL, "description": ""}])
    assert response["tools"][0]["description"] == ""


def test_what_is_accepted_and_not_kept(door: Asking) -> None:
    text = {"type": "output_text", "text": "Hm.", "annotations": [{"type": "url_citation"}], "logprobs": []}
    said = {
        "type": "message",
        "role": "assistant",
        "phase": "commentary",
        "status": "completed",
        "id": "msg_x",
    }
    door.response([asked("One"), {**said, "content": [text]}, asked("Two")])
    assert [message["content"] for message in door.sent[0].json["messages"]] == ["One", "Hm.", "Two"]


# -- failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_failure_before_the_first_word_is_one_of_http(door: Asking, is_streamed: bool) -> None:
    door.script(error_answer(429, "Slow down."))
    refused(door.create(stream=is_streamed), 429, "provider_rate_limited")


def test_a_reply_that_breaks_off(door: Asking) -> None:
    door.script(openai_stream("Hel", BREAK))
    *_, error, last = door.stream()
    assert (error["type"], last["type"]) == ("error", "response.failed")
    assert error["error"]["code"] == error["code"] == "server_error"
    assert error["error"]["message"] == error["message"] == last["response"]["error"]["message"]
    response = last["response"]
    assert response["status"] == "failed"
    assert text_of(response) == "Hel"
    assert response["output"][0]["status"] == "incomplete"
    assert response == door.get(response["id"])


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_reply_that_is_cut_off(door: Asking, finish: str, reason: str) -> None:
    door.script(openai_stream("Hel", finish=finish))
    last = door.stream()[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["output"][0]["status"] == "incomplete"


REFUSALS: list[tuple[dict[str, Any], str, str, int]] = [
    ({"model": None}, "model", "missing_required_parameter", 400),
    ({"model": 7}, "model", "invalid_value", 400),
    ({"sent": ...}, "input", "missing_required_parameter", 400),
    ({"sent": []}, "input", "invalid_value", 400),
    ({"sent": {"role": "user"}}, "input", "invalid_value", 400),
    ({"sent": [asked("Hi"), {"type": "nothing"}]}, "input[1].type", "invalid_value", 400),
    ({"sent": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "item_not_found", 404),
    ({"stream": "yes"}, "stream", "invalid_value", 400),
    ({"store": 1}, "store", "invalid_value", 400),
    ({"store": False, "background": True}, "store", "invalid_value", 400),
    ({"instructions": ["x"]}, "instructions", "invalid_value", 400),
    ({"temperature": 3}, "temperature", "invalid_value", 400),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value", 400),
    ({"max_tool_calls": 0}, "max_tool_calls", "invalid_value", 400),
    ({"reasoning": "low"}, "reasoning", "invalid_value", 400),
    ({"reasoning": {"effort": "utmost"}}, "reasoning.effort", "invalid_value", 400),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value", 400),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value", 400),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", "invalid_value", 400),
    ({"text": {"verbosity": "huge"}}, "text.verbosity", "invalid_value", 400),
    ({"tools": {}}, "tools", "invalid_value", 400),
    ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_tool", 400),
    ({"tools": [TOOL, {"type": "function"}]}, "tools[1].name", "invalid_value", 400),
    ({"tools": [{**TOOL, "parameters": 1}]}, "tools[0].parameters", "invalid_value", 400),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name", "invalid_value", 400),
    ({"tools": [TOOL], "tool_choice": "some"}, "tool_choice", "invalid_value", 400),
    (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}},
        "tool_choice.tools", "invalid_value", 400,
    ),
    (
        {"tools": [{**TOOL, "description": "x" * 65_537}, OTHER], "tool_choice": ALLOWED},
        "tools[0].description", "invalid_value", 400,
    ),
    ({"tools": [TOOL, *[OTHER] * 128], "tool_choice": ALLOWED}, "tools", "invalid_value", 400),
    (
        {"tools": [{**TOOL, "parameters": DEEP}, OTHER], "tool_choice": ALLOWED},
        "tools[0].parameters", "invalid_value", 400,
    ),
    (
        {"sent": [{"type": "function_call_output", "call_id": "c", "output": [{"type": ["x"]}]}]},
        "input[0].output[0].type", "invalid_value", 400,
    ),
    ({"truncation": "some"}, "truncation", "invalid_value", 400),
    ({"metadata": {"a": 1}}, "metadata", "invalid_value", 400),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "invalid_value", 400),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter", 400),
    ({"context_management": []}, "context_management", "unsupported_parameter", 400),
    ({"moderation": {}}, "moderation", "unsupported_parameter", 400),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found", 400),
    ({"previous_response_id": f"resp_{'0' * 32}"}, "previous_response_id", "previous_response_not_found", 400),
    ({"conversation": f"conv_{'0' * 32}"}, "conversation", "not_found", 404),
    ({"conversation": {"id": "x"}}, "conversation", "not_found", 404),
    ({"conversation": 7}, "conversation", "invalid_value", 400),
    (
        {"conversation": f"conv_{'0' * 32}", "previous_response_id": f"resp_{'0' * 32}"},
        "previous_response_id", "invalid_value", 400,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code", "status"), REFUSALS)
def test_faulty_requests_are_refused(
    door: Asking, fields: dict[str, Any], param: str, code: str, status: int
) -> None:
    refused(door.create(**fields), status, code, param)
    assert door.conversations() == []
    assert door.sent == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tool_calls": 10**30}, "max_tool_calls"),
        ({"tools": [{**TOOL, "parameters": {"maximum": 10**30}}]}, "tools"),
    ],
)
def test_numbers_that_can_not_be_repeated(door: Asking, fields: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": door.name, "input": "Hi", **fields})
    answer = door.api.post(RESPONSES, data=body, headers={"Content-Type": "application/json"})
    refused(answer, 400, "invalid_value", param)


def test_a_conversation_that_is_too_long(ada: Api, provider: ScriptedProvider) -> None:
    door = Asking.open(ada, provider, context_window=1000)
    refused(door.create("word " * 4000), 400, "context_length_exceeded", "input")
    assert door.conversations() == []
    assert door.response("word " * 4000, truncation="auto")["truncation"] == "auto"
    first = door.response("word " * 500)
    door.response("word " * 500, previous_response_id=first["id"], truncation="auto")
    assert len(door.sent[-1].json["messages"]) == 1


def test_an_idempotency_key_has_one_response(door: Asking) -> None:
    headers = {"Idempotency-Key": "k"}
    first, again = (door.create("Hi", headers=headers) for _ in range(2))
    assert first.get_json() == again.get_json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert door.stream("Hi", headers=headers)[-1]["response"]["id"] == first.get_json()["id"]
    assert len(door.sent) == 1
    refused(door.create("Other", headers=headers), 422, "idempotency_key_reused")
    refused(door.create("Hi", headers=headers, store=False), 400, "unsupported_parameter", "store")
