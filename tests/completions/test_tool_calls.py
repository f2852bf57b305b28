"""Calls to tools: stored, listed, replayed, and sent back with their results."""

import json
import threading

import pytest
from flask import Flask

from chat_api.llm.history import NOT_CARRIED_OUT
from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import STALL, ScriptedProvider, anthropic_stream, openai_stream

CALLS = [("call_1", "get_weather", '{"city": "Lisboa é"}'), ("call_2", "get_time", "{}")]
SHOWN = [{"id": id_, "name": name, "arguments": arguments} for id_, name, arguments in CALLS]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


@pytest.fixture(params=["openai", "anthropic"])
def chat(request: pytest.FixtureRequest, eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider, api_format=request.param)


def script(chat: Chat, *said: str) -> None:
    """First the calls, with some words before them, then a reply without calls."""
    if _speaks_openai(chat):
        chat.script(openai_stream(*said, tool_calls=CALLS, finish="tool_calls"), openai_stream("Rain."))
    else:
        chat.script(
            anthropic_stream(*said, tool_calls=CALLS, stop_reason="tool_use"), anthropic_stream("Rain.")
        )


def _speaks_openai(chat: Chat) -> bool:
    provider = chat.api.get(f"/chat/llm-providers/{chat.provider_id}").get_json()
    return provider["api_format"] == "openai"


def answer_calls(chat: Chat) -> None:
    for id_, name, _ in CALLS:
        body = {"conversation_id": chat.conversation_id, "role": "tool", "content": f"result of {name}"}
        made = chat.api.made("/chat/messages", {**body, "tool_call_id": id_})
        assert made["tool_call_id"] == id_


def test_calls_are_stored_and_shown(chat: Chat) -> None:
    script(chat, "Let me look.")
    completion = chat.reply(parameters={"tools": [TOOL], "tool_choice": "auto"})
    assert (completion["status"], completion["finish_reason"]) == ("completed", "tool_calls")
    assert completion["message"]["content"] == "Let me look."
    assert completion["message"]["tool_calls"] == SHOWN
    assert chat.messages[-1] == completion["message"]
    assert chat.get(completion["id"]) == completion
    assert chat.sent[0].json["tools"]


def test_a_message_of_calls_alone(chat: Chat) -> None:
    script(chat)
    completion = chat.reply()
    assert (completion["message"]["content"], completion["message"]["tool_calls"]) == ("", SHOWN)
    assert chat.messages[-1]["tool_calls"] == SHOWN


def test_calls_are_streamed_and_replayed(chat: Chat) -> None:
    script(chat, "Let me look.")
    stream = chat.stream()
    stream.rest()
    assert [event.content for event in stream.seen if event.name == "completion.tool_call"] == SHOWN
    again = chat.events(stream.id)
    again.rest()
    assert [event.content for event in again.seen if event.name == "completion.tool_call"] == SHOWN
    behind_the_first_call = next(event.id for event in stream.seen if event.name == "completion.tool_call")
    rest = chat.events(stream.id, last=behind_the_first_call)
    rest.rest()
    assert [event.content for event in rest.seen[:-1]] == SHOWN[1:]
    assert rest.end == stream.end


def test_results_are_sent_with_their_calls(chat: Chat) -> None:
    script(chat, "Let me look.")
    chat.reply(content="Weather?")
    answer_calls(chat)
    completion = chat.reply(content=None)
    assert completion["message"]["content"] == "Rain."
    sent = chat.sent[1].json["messages"]
    if chat.sent[1].path == "/v1/messages":
        assert sent == [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "get_weather",
                        "input": {"city": "Lisboa é"},
                    },
                    {"type": "tool_use", "id": "call_2", "name": "get_time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": id_,
                        "content": [{"type": "text", "text": f"result of {name}"}],
                    }
                    for id_, name, _ in CALLS
                ],
            },
        ]
    else:
        assert sent == [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
                    for id_, name, arguments in CALLS
                ],
            },
            *(
                {"role": "tool", "content": f"result of {name}", "tool_call_id": id_}
                for id_, name, _ in CALLS
            ),
        ]


def test_arguments_that_are_no_json_are_sent_as_an_object(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider)
    chat.script(openai_stream(tool_calls=[("c", "f", "{broken\x00")]), openai_stream("ok"))
    completion = chat.reply()
    assert completion["message"]["tool_calls"] == [{"id": "c", "name": "f", "arguments": "{broken\ufffd"}]
    chat.api.made(
        "/chat/messages",
        {"conversation_id": chat.conversation_id, "role": "tool", "content": "?", "tool_call_id": "c"},
    )
    chat.reply(content=None)
    assert (
        chat.sent[1].json["messages"][1]["tool_calls"][0]["function"]["arguments"]
        == '{"arguments":"{broken\ufffd"}'
    )


def test_calls_in_pieces_are_followed_from_another_worker(
    eve: Api, provider: ScriptedProvider, other_app: Flask
) -> None:
    chat = Chat.begin(eve, provider)
    more = threading.Event()
    chat.script(openai_stream("Look", more, tool_calls=CALLS, finish="tool_calls"))
    original = chat.stream().until("Look")
    elsewhere = chat.on(other_app).events(original.id).until("Look")
    more.set()
    original.rest()
    elsewhere.rest()
    for stream in (original, elsewhere):
        assert [event.content for event in stream.seen if event.name == "completion.tool_call"] == SHOWN
    assert original.end == elsewhere.end


def test_calls_that_were_cut_off_are_no_calls(eve: Api, provider: ScriptedProvider) -> None:
    """A half-written call could be taken for a whole one; the words before it are kept."""
    chat = Chat.begin(eve, provider)
    begun = openai_stream("Look", tool_calls=CALLS).steps[2:3]
    chat.script(openai_stream("Look", *begun, STALL))
    stream = chat.stream().until("Look")
    completion = chat.cancel(stream.id).get_json()
    stream.rest()
    assert completion["message"]["content"] == "Look"
    assert "tool_calls" not in completion["message"]


def test_only_tools_answer_calls(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider)
    body = {"conversation_id": chat.conversation_id, "role": "user", "content": "x", "tool_call_id": "c"}
    assert "tool_call_id" in chat.api.post("/chat/messages", body).get_json()["errors"]


def test_a_conversation_goes_on_after_a_call_that_nobody_answers(chat: Chat) -> None:
    """Cut off at its limit in the middle of the arguments, and the user writes on."""
    broken = [("call_1", "get_weather", '{"city": "Lis')]
    if _speaks_openai(chat):
        chat.script(openai_stream(tool_calls=broken, finish="length"), openai_stream("A joke."))
    else:
        chat.script(
            anthropic_stream(tool_calls=broken, stop_reason="max_tokens"), anthropic_stream("A joke.")
        )
    assert chat.reply(content="Weather?")["status"] == "incomplete"
    preview = chat.ask(query="?dry_run=true", content="Tell me a joke.").get_json()
    assert chat.reply(content="Tell me a joke.")["message"]["content"] == "A joke."
    sent = chat.sent[-1].json
    assert sent == preview["request"]["body"]
    question, call, answer, *more = sent["messages"]
    arguments = {"arguments": '{"city": "Lis'}
    if _speaks_openai(chat):
        assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == arguments
        assert (answer["role"], answer["content"]) == ("tool", NOT_CARRIED_OUT)
        assert [message["content"] for message in (question, *more)] == ["Weather?", "Tell me a joke."]
    else:
        assert call["content"][0]["input"] == arguments
        assert [block["type"] for block in answer["content"]] == ["tool_result", "text"]
        assert not more


def test_an_empty_result_goes_to_the_provider(chat: Chat) -> None:
    script(chat)
    chat.reply(content="Weather?")
    for id_, _, _ in CALLS:
        chat.api.message(chat.conversation_id, "", role="tool", tool_call_id=id_)
    assert chat.reply(content=None)["message"]["content"] == "Rain."
    sent = chat.sent[-1].json["messages"]
    if _speaks_openai(chat):
        assert [message["content"] for message in sent[2:]] == ["", ""]
    else:
        assert [block["content"] for block in sent[2]["content"]] == [[], []]


def test_a_conversation_moves_on_to_another_provider(
    chat: Chat, eve: Api, provider: ScriptedProvider
) -> None:
    """Of the other protocol, with ids that only the first one takes."""
    calls = [("functions.get_weather:0", "get_weather", "{}")]
    first = openai_stream(tool_calls=calls, finish="tool_calls")
    other_format = "anthropic"
    if not _speaks_openai(chat):
        first, other_format = anthropic_stream(tool_calls=calls, stop_reason="tool_use"), "openai"
    chat.script(first)
    chat.reply(content="Weather?")
    chat.api.message(chat.conversation_id, "Rain.", role="tool", tool_call_id=calls[0][0])
    other = eve.provider(api_endpoint=provider.url, api_format=other_format)
    eve.config(other["id"], "sk-1")
    preview = chat.ask(query="?dry_run=true", content=None, provider_id=other["id"]).get_json()
    call, answer = preview["request"]["body"]["messages"][1:3]
    if other_format == "anthropic":
        assert call["content"][0]["id"] == answer["content"][0]["tool_use_id"] != calls[0][0]
    else:
        assert call["tool_calls"][0]["id"] == answer["tool_call_id"] == calls[0][0]


def test_names_of_tools_come_back_as_they_were(chat: Chat) -> None:
    """The server gets a name that it takes, and the client the one that it knows."""
    tool = {"type": "function", "function": {"name": "weather.get", "parameters": {"type": "object"}}}
    calls = [("call_1", "weather_get", "{}")]
    chat.script(
        openai_stream(tool_calls=calls, finish="tool_calls")
        if _speaks_openai(chat)
        else anthropic_stream(tool_calls=calls, stop_reason="tool_use")
    )
    completion = chat.reply(parameters={"tools": [tool]})
    assert "weather.get" not in json.dumps(chat.sent[-1].json)
    assert completion["message"]["tool_calls"][0]["name"] == "weather.get"
