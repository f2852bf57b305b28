"""POST /v1/chat/completions: what goes to the provider, what comes back, whole and streamed."""

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.completions.chat import wait_for
from tests.openai_api.door import COMPLETIONS, HEADER, Door, assistant, frames_of, refused, user
from tests.support.api import Api
from tests.support.provider import (
    BREAK,
    STALL,
    Reply,
    ScriptedProvider,
    error_answer,
    openai_chunk,
    openai_stream,
)
from tests.support.uploads import PNG, names_of
from tests.transfer.exports import rows_of

THOUGHTS = [openai_chunk({"reasoning_content": text}) for text in ("Hm", "m")]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    return Door.open(ada, provider, name="Scripted")


def test_a_whole_answer(door: Door) -> None:
    door.script(openai_stream("Hel", "lo", usage=(16, 3)))
    answer = door.answered(user("Hi"), temperature=0.5, max_completion_tokens=7)
    assert answer["id"].startswith("chatcmpl-")
    assert len(answer["id"]) == len("chatcmpl-") + 32
    assert (answer["object"], answer["model"]) == ("chat.completion", door.name)
    assert isinstance(answer["created"], int)
    [choice] = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []}
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (16, 3, 19)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "audio_tokens": 0}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    [sent] = door.sent
    assert sent.json["model"] == door.model
    assert sent.json["messages"] == [{"role": "user", "content": "Hi"}]
    assert sent.json["temperature"] == 0.5


def test_a_stream(door: Door) -> None:
    door.script(openai_stream("Hel", "lo", usage=(16, 3)))
    chunks = door.chunks(user("Hi"))
    assert len({chunk["id"] for chunk in chunks}) == len({chunk["created"] for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["model"] == door.name for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert deltas[-1] == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]


def test_a_stream_with_usage(door: Door) -> None:
    door.script(openai_stream("Hello", usage=(16, 3)))
    *chunks, last = door.chunks(user("Hi"), stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 19


def test_details_of_the_usage(door: Door) -> None:
    counts = {
        "prompt_tokens": 16,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    body = openai_stream("Hello", openai_chunk(usage=counts), usage=None)
    door.script(body, body)
    answer = door.answered(user("Hi"))
    *_, last = door.chunks(user("Hi"), stream_options={"include_usage": True})
    for usage in (answer["usage"], last["usage"]):
        assert usage["total_tokens"] == 25
        assert usage["prompt_tokens_details"] == {"cached_tokens": 12, "audio_tokens": 0}
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 6
    assert door.api.get(f"{COMPLETIONS}/{answer['id']}").get_json()["usage"] == answer["usage"]


def test_calls_of_tools(door: Door) -> None:
    calls = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", '{"city":"Porto"}')]
    door.script(openai_stream(tool_calls=calls, finish="tool_calls"), openai_stream("Sunny."))
    choice = door.answered(user("Weather?"), tools=TOOLS, tool_choice="auto")["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert [(call["id"], call["function"]) for call in choice["message"]["tool_calls"]] == [
        (id_, {"name": name, "arguments": arguments}) for id_, name, arguments in calls
    ]
    results = [{"role": "tool", "tool_call_id": id_, "content": "28"} for id_, *_ in calls]
    conversation_id, text = door.talk(user("Weather?"), choice["message"], *results, tools=TOOLS)
    assert text == "Sunny."
    assert [role for role, _ in door.said(conversation_id)] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert len(door.conversations()) == 1
    sent = door.sent[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "call_2"]


def test_calls_in_a_stream(door: Door) -> None:
    calls = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", "{}")]
    door.script(openai_stream("Let me see.", tool_calls=calls, finish="tool_calls"))
    gathered: dict[int, dict[str, str]] = {}
    for chunk in door.chunks(user("Weather?"), tools=TOOLS):
        for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
            here = gathered.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            here["id"] += call.get("id", "")
            here["name"] += call["function"].get("name", "")
            here["arguments"] += call["function"]["arguments"]
    assert [tuple(call.values()) for call in gathered.values()] == calls
    assert chunk["choices"][0]["finish_reason"] == "tool_calls"


def test_thoughts(door: Door) -> None:
    door.script(openai_stream(*THOUGHTS, "So."))
    message = door.answered(user("Why?"))["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hmm", "So.")
    door.script(openai_stream(*THOUGHTS, "So."))
    deltas = [chunk["choices"][0]["delta"] for chunk in door.chunks(user("Why?"))]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hmm"


def test_formats_and_vendors_extras_are_passed_on(door: Door) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    extras = {"top_k": 5, "enable_thinking": False, "provider": {"sort": "price"}}
    door.answered(user("Hi"), response_format=schema, unknown_to_us=None, stop=[], tools=[], **extras)
    body = door.sent[-1].json
    assert body["response_format"] == schema
    assert {name: body[name] for name in extras} == extras
    assert not {"unknown_to_us", "stop", "tools"} & set(body)


FUNCTION = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}


def test_tools_as_agents_send_them(door: Door) -> None:
    manual = {
        **FUNCTION,
        "name": "g",
        "description": "How to use it. " * 4000,
        "strict": None,
        "returns": {"type": "string"},
    }
    tools = [
        {"type": "function", "function": FUNCTION},
        {"type": "function", "function": manual, "cache_control": {"type": "ephemeral"}},
    ]
    choice = {"type": "function", "function": {"name": "g", "x": 1}, "y": 2}
    door.answered(user("Hi"), tools=tools, tool_choice=choice)
    [first, second] = door.sent[-1].json["tools"]
    assert first["function"]["name"] == "f"
    assert second["type"] == "function"
    assert second["function"] == {name: manual[name] for name in ("name", "description", "parameters")}
    assert door.sent[-1].json["tool_choice"] == {"type": "function", "function": {"name": "g"}}


@pytest.mark.parametrize("tools", [{}, {"tools": []}, {"tools": None}])
def test_what_says_how_to_call_tools_is_not_sent_without_tools(door: Door, tools: dict[str, Any]) -> None:
    door.answered(user("Hi"), tool_choice="auto", parallel_tool_calls=False, **tools)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(door.sent[-1].json)


def test_empty_texts_say_nothing(door: Door) -> None:
    names = (
        "stop", "user", "safety_identifier", "prompt_cache_key", "reasoning_effort", "verbosity", "service_tier"
    )  # fmt: skip
    door.answered(user("Hi"), **dict.fromkeys(names, ""))
    assert not {*names} & set(door.sent[-1].json)


def test_empty_lists_say_nothing(door: Door) -> None:
    """PHP writes an empty object as one."""
    names = ("tools", "stop", "logit_bias", "modalities")
    door.answered(user("Hi"), **{name: [] for name in names})
    assert not {*names} & set(door.sent[-1].json)


def test_no_limit_as_clients_of_local_models_say_it(door: Door) -> None:
    names = ("max_tokens", "max_completion_tokens")
    door.answered(user("Hi"), **dict.fromkeys(names, -1))
    assert not {*names} & set(door.sent[-1].json)
    door.answered(user("Hi"), max_tokens=-1, max_completion_tokens=7)
    assert 7 in (door.sent[-1].json.get(name) for name in names)
    refused(door.ask(user("Hi"), max_tokens=-2), 400, "invalid_value", "max_tokens")


@pytest.mark.parametrize("nothing", [{}, {"content": None}, {"content": ""}])
def test_calls_and_results_with_nothing_in_them(door: Door, nothing: dict[str, Any]) -> None:
    """Clients in Go leave out what is empty: the arguments of a call without any, and what a tool has returned."""
    calls = [("call_1", "look", "")]
    door.script(openai_stream(tool_calls=calls, finish="tool_calls"), openai_stream("Nothing there."))
    first, _ = door.talk(user("Look"), tools=TOOLS)
    call = {"id": "call_1", "type": None, "function": {"name": "look"}}
    result = {"role": "tool", "tool_call_id": "call_1", **nothing}
    again, text = door.talk(user("Look"), assistant(None, tool_calls=[call]), result, tools=TOOLS)
    assert (again, text) == (first, "Nothing there.")
    assert door.said(first)[2] == ("tool", "")
    assert door.sent[-1].json["messages"][2]["content"] == ""


def test_a_cache_key_is_the_providers(ada: Api, provider: ScriptedProvider) -> None:
    door = Door.open(ada, provider, catalog="openai")
    door.answered(user("Hi"), prompt_cache_key="session-1", prompt_cache_retention="24h")
    assert door.sent[-1].json["prompt_cache_key"] == "session-1"
    refused(door.ask(user("Hi"), prompt_cache_key="k" * 65), 400, "invalid_value", "prompt_cache_key")


def test_texts_that_tools_have_cut_are_mended(door: Door) -> None:
    """Half a character, or a byte of a file, would stay in the history of a program, and all it sends be refused."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    broken = [
        user("Look"),
        assistant(None, tool_calls=[call]),
        {"role": "tool", "tool_call_id": "call_1", "content": "CUT"},
    ]

    def ask(*messages: dict[str, Any]) -> TestResponse:
        text = json.dumps({"model": door.name, "messages": messages}).replace("CUT", "a\\u0000b \\ud83d")
        return door.api.post(COMPLETIONS, data=text.encode(), content_type="application/json")

    answer = ask(*broken)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert door.sent[-1].json["messages"][-1]["content"] == "a\ufffdb \ufffd"
    again = ask(*broken, answer.get_json()["choices"][0]["message"], user("And now?"))
    assert again.headers[HEADER] == answer.headers[HEADER]


def test_what_clients_put_into_an_object_of_extras(door: Door) -> None:
    door.answered(user("Hi"), extra_body={"enable_thinking": False, "tools": [{"type": "web_search"}]})
    body = door.sent[-1].json
    assert (body["enable_thinking"], body["tools"]) == (False, [{"type": "web_search"}])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"foo": 1e999', "foo"),
        ('"extra_body": {"foo": [1e999]}', "extra_body.foo"),
        ('"extra_body": {"temperature": 1}', "extra_body.temperature"),
        ('"extra_body": {"messages": []}', "extra_body.messages"),
        ('"extra_body": 5', "extra_body"),
        (f'"a": 1, "foo": "{"x" * 300_000}"', "foo"),
        (f'"foo": {"[" * 200}1{"]" * 200}', "foo"),
    ],
)
def test_faulty_extras_are_called_what_the_client_calls_them(door: Door, fields: str, param: str) -> None:
    whole = orjson.dumps({"model": door.name, "messages": [user("Hi")]}).removesuffix(b"}")
    body = b"%b, %b}" % (whole, fields.encode())
    response = door.api.post(COMPLETIONS, data=body, content_type="application/json")
    refused(response, 400, "invalid_value", param)


def test_texts_in_parts(door: Door) -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]
    conversation_id, _ = door.talk({"role": "developer", "content": parts}, user(parts))
    assert door.said(conversation_id)[:2] == [("developer", "One\n\nTwo"), ("user", "One\n\nTwo")]


def test_empty_texts_in_parts_are_none(door: Door) -> None:
    parts = [{"type": "text", "text": text} for text in ("", "One", "", "Two", "")]
    conversation_id, reply = door.talk(user(parts))
    assert door.sent[-1].json["messages"] == [user("One\n\nTwo")]
    again, _ = door.talk(
        user("One\n\nTwo"),
        assistant([{"type": "text", "text": ""}, {"type": "text", "text": reply}]),
        user("More"),
    )
    assert again == conversation_id


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_other_ends(door: Door, finish: str) -> None:
    door.script(openai_stream("So far", finish=finish))
    assert door.answered(user("Hi"))["choices"][0]["finish_reason"] == finish
    assert door.chunks(user("Hi"))[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("status", "said", "code", "retries"),
    [
        (400, 400, "provider_refused_request", True),
        (401, 502, "provider_refused_key", False),
        (404, 404, "model_not_found", True),
        (429, 429, "provider_rate_limited", True),
        (500, 502, "provider_failed", True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_before_the_first_word(
    door: Door, status: int, said: int, code: str, retries: bool, stream: bool
) -> None:
    door.script(error_answer(status, "model not found" if status == 404 else "out of order"))
    response = door.ask(user("Hi"), stream=stream)
    refused(response, said, code)
    assert response.headers.get("X-Should-Retry") == (None if retries else "false")


def test_a_failure_in_the_middle(door: Door) -> None:
    door.script(openai_stream("So ", "far", BREAK))
    *frames, last = frames_of(door.ask(user("Hi"), stream=True))
    assert "So " in "".join(frames)
    assert '"error"' in last
    assert "[DONE]" not in last


def test_an_unfinished_answer_that_is_not_streamed_is_an_answer(door: Door) -> None:
    door.script(openai_stream("So ", "far", BREAK))
    answer = door.answered(user("Hi"))
    assert answer["choices"][0]["message"]["content"] == "So far"
    assert answer["choices"][0]["finish_reason"] == "length"  # there would have been more
    stored = door.api.get(f"{COMPLETIONS}/{answer['id']}").get_json()
    assert stored["choices"] == answer["choices"]


@pytest.mark.parametrize("answer", [error_answer(500, "out of order"), openai_stream("So far", STALL)])
def test_the_list_shows_what_was_asked_from_the_beginning(door: Door, answer: Reply) -> None:
    door.script(answer)
    with door.ask({"role": "system", "content": "Be brief."}, user("Where to eat?"), stream=True):
        [conversation] = door.conversations()
    assert conversation["title"] == "Where to eat?"


def test_the_client_leaves(door: Door) -> None:
    door.script(openai_stream("So far", STALL))
    response = door.ask(user("Hi"), stream=True)
    parts: Any = iter(response.response)
    while b"So far" not in next(parts):
        pass
    response.close()
    [conversation] = door.conversations()
    path = f"/chat/conversations/{conversation['id']}/completions"
    wait_for(lambda: door.api.get(path).get_json()[0]["status"] == "cancelled")
    assert door.said(conversation["id"]) == [("user", "Hi"), ("assistant", "So far")]


def test_a_stored_one_is_read_again(door: Door, bob: Api) -> None:
    door.script(openai_stream("Hello", usage=(16, 3)))
    answer = door.answered(user("Hi"))
    path = f"{COMPLETIONS}/{answer['id']}"
    again = door.api.get(path).get_json()
    assert again == {**answer, "metadata": {}}
    for spelled in (
        answer["id"].removeprefix("chatcmpl-"),
        answer["id"].upper().replace("CHATCMPL", "chatcmpl"),
    ):
        assert door.api.get(f"{COMPLETIONS}/{spelled}").get_json() == again
    refused(bob.get(path), 404, "not_found")
    refused(door.api.get(f"{COMPLETIONS}/chatcmpl-{uuid.uuid4().hex}"), 404, "not_found")
    refused(door.api.get(f"{COMPLETIONS}/nonsense"), 404, "not_found")


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_to_be_stored_leaves_nothing(app: Flask, door: Door, stream: bool) -> None:
    calls = [("call_1", "get_weather", "{}")]
    image = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    said: list[Any] = [*THOUGHTS, "Hello", openai_chunk({"images": [image]})]
    door.script(openai_stream(*said, tool_calls=calls, finish="tool_calls", usage=(16, 3)))
    before = rows_of(app, door.api.user_id)
    history = [user("One"), assistant("Two"), user("Three")]
    if stream:
        *chunks, last = door.chunks(*history, store=False, stream_options={"include_usage": True})
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Hello"
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
        id_, usage = last["id"], last["usage"]
    else:
        response = door.ask(*history, store=False)
        assert HEADER not in response.headers
        answer = response.get_json()
        message = answer["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("Hello", "Hmm")
        assert [call["id"] for call in message["tool_calls"]] == ["call_1"]
        id_, usage = answer["id"], answer["usage"]
    assert usage["total_tokens"] == 19
    assert door.sent[-1].json["messages"] == history
    assert rows_of(app, door.api.user_id) == before
    assert names_of(app, door.api) == set()
    refused(door.api.get(f"{COMPLETIONS}/{id_}"), 404, "not_found")


def test_what_is_not_stored_fails_and_is_cancelled_as_well(app: Flask, door: Door) -> None:
    before = rows_of(app, door.api.user_id)
    door.script(error_answer(500, "out of order"))
    refused(door.ask(user("Hi"), store=False), 502, "provider_failed")
    door.script(openai_stream("So far", STALL))
    response = door.ask(user("Hi"), store=False, stream=True, headers={"X-On-Disconnect": "continue"})
    parts: Any = iter(response.response)
    while b"So far" not in next(parts):
        pass
    response.close()
    assert door.sent[-1].closed.wait(10)
    assert rows_of(app, door.api.user_id) == before
    refused(
        door.ask(user("Hi"), store=False, headers={"Idempotency-Key": "k"}),
        400,
        "unsupported_parameter",
        "store",
    )


def delete_conversation(door: Door) -> TestResponse:
    return door.api.delete(f"/chat/conversations/{door.conversations()[0]['id']}")


def log_out(door: Door) -> TestResponse:
    return door.api.post("/auth/logout", {"refresh_token": door.api.refresh_token})


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (delete_conversation, "not_found", "There is no such completion."),
        (log_out, "invalid_api_key", "The token is invalid or has expired."),
    ],
)
def test_a_stream_that_can_not_go_on_ends_with_an_error(
    door: Door, end: Callable[[Door], TestResponse], code: str, message: str
) -> None:
    door.script(openai_stream("So far", STALL))
    response = door.ask(user("Hi"), stream=True)
    parts: Any = iter(response.response)
    while b"So far" not in next(parts):
        pass
    assert end(door).status_code == 204
    *_, last = b"".join(parts).split(b"\n\n")[:-1]
    response.close()
    error = orjson.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["message"]) == (code, message)


def test_an_idempotency_key_has_one_reply(door: Door) -> None:
    door.script(openai_stream("Hello"), openai_stream("Another"))
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = door.ask(user("Hi"), headers=headers)
    again = door.ask(user("Hi"), headers=headers)
    assert first.get_json() == again.get_json()
    assert again.headers["Idempotency-Replayed"] == "true"
    [*_, last, _] = door.chunks(user("Hi"), headers=headers, stream_options={"include_usage": True})
    assert (last["id"], last["choices"][0]["finish_reason"]) == (first.get_json()["id"], "stop")
    assert len(door.sent) == len(door.conversations()) == 1
    refused(door.ask(user("Other"), headers=headers), 422, "idempotency_key_reused")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no messages": ({"messages": None}, "missing_required_parameter", "messages"),
    "empty": ({"messages": []}, "invalid_value", "messages"),
    "role": ({"messages": [{"role": "function", "content": "x"}]}, "invalid_value", "messages[0].role"),
    "content": ({"messages": [user(1)]}, "invalid_value", "messages[0].content"),
    "null": ({"messages": [user(None)]}, "invalid_value", "messages[0].content"),
    "image": (
        {"messages": [user([{"type": "image_url", "image_url": {"url": "http://x.example/a.png"}}])]},
        "invalid_value",
        "messages[0].content[0].image_url.url",
    ),
    "call": (
        {"messages": [assistant(None, tool_calls=[{"id": "a", "type": "function"}])]},
        "invalid_value",
        "messages[0].tool_calls[0].type",
    ),
    "result": ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages[0].tool_call_id"),
    "several": ({"n": 2}, "unsupported_parameter", "n"),
    "functions": ({"functions": []}, "unsupported_parameter", "functions"),
    "audio": ({"audio": {"voice": "alloy"}}, "unsupported_parameter", "audio"),
    "spoken": ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
    "no list": ({"modalities": 5}, "invalid_value", "modalities"),
    "search": ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
    "prediction": ({"prediction": {}}, "unsupported_parameter", "prediction"),
    "system": ({"system": "Be brief."}, "unsupported_parameter", "system"),
    "not stored": ({"store": False, "conversation": "conv_" + "0" * 32}, "unsupported_parameter", "store"),
    "no conversation": ({"conversation": {}}, "invalid_value", "conversation"),
    "number": ({"conversation": 5}, "invalid_value", "conversation"),
    "temperature": ({"temperature": "hot"}, "invalid_value", "temperature"),
    "tool": ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_value", "tools[0].function.name"),
    "stream": ({"stream": "yes"}, "invalid_value", "stream"),
    "options": ({"stream_options": 1}, "invalid_value", "stream_options"),
    "metadata": ({"metadata": {"a": 1}}, "invalid_value", "metadata"),
    "no model": ({"model": None}, "missing_required_parameter", "model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(door: Door, name: str) -> None:
    fields, code, param = REFUSED[name]
    body = {"model": door.name, "messages": [user("Hi")], **fields}
    refused(door.api.post(COMPLETIONS, body), 400, code, param)
    assert door.conversations() == []


def test_errors_of_the_framework(door: Door, stranger: Api) -> None:
    assert refused(stranger.post(COMPLETIONS, {}), 401, "invalid_api_key")["type"] == "invalid_request_error"
    refused(door.api.post("/v1/none", {}), 404, "not_found")
    refused(door.api.post("/v1/completions", {}), 404, "not_found")
    response = door.api.delete(COMPLETIONS)
    refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]
    refused(door.api.post(COMPLETIONS, data=b"{", content_type="application/json"), 400, "invalid_input")
    refused(door.api.post(COMPLETIONS, data=b"x", content_type="text/plain"), 415, "unsupported_media_type")
    packed = door.ask(user("Hi"), headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding" in refused(packed, 415, "unsupported_media_type")["message"]


def test_a_personal_access_token_and_a_slash(door: Door) -> None:
    made = door.api.made("/auth/tokens", {"name": "sdk"})
    script = Api(door.api.app, made["token"])
    body = {"model": door.name, "messages": [user("Hi")]}
    assert script.post(f"{COMPLETIONS}/", body).status_code == 200
