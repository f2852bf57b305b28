"""The provider that the other tests rely on does what they take for granted."""

import json
from typing import Any

import pytest

from tests.e2e.llama import MODEL, SLOTS, LlamaServer

HELLO = [{"role": "user", "content": "Hello!"}]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def stream(llama: LlamaServer, path: str, **body: Any) -> list[Any]:
    """The contents of all events."""
    status, text = llama.request("POST", path, {"model": MODEL, "messages": HELLO, "stream": True, **body})
    assert status == 200, text
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_it_streams_chat_completions_with_usage(llama: LlamaServer) -> None:
    chunks = stream(llama, CHAT, max_tokens=16, stream_options={"include_usage": True})
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices)
    assert choices[-1]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 16
    assert chunks[-1]["usage"]["prompt_tokens"] == llama.count_prompt_tokens(HELLO)


def test_it_streams_messages_with_usage(llama: LlamaServer) -> None:
    events = stream(llama, MESSAGES, max_tokens=16)
    assert events[0]["type"] == "message_start"
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    usage = events[0]["message"]["usage"]
    assert usage["input_tokens"] == llama.count_prompt_tokens(HELLO)
    assert events[-2]["usage"]["output_tokens"] == 16
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_it_says_what_it_had_in_its_cache() -> None:
    with LlamaServer(caches=True) as llama:
        usages = [stream(llama, MESSAGES, max_tokens=1)[0]["message"]["usage"] for _ in range(2)]
        assert [usage["cache_read_input_tokens"] > 0 for usage in usages] == [False, True]
        assert len({usage["input_tokens"] + usage["cache_read_input_tokens"] for usage in usages}) == 1


def test_it_says_the_same_again(llama: LlamaServer) -> None:
    """Whatever it was asked in between, so that a test can compare what we store with what it said."""
    first = llama.say(HELLO, max_tokens=1000)
    llama.say([*HELLO, {"role": "assistant", "content": first}, *HELLO], max_tokens=100)
    assert llama.say(HELLO, max_tokens=1000) == first


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}])
def test_it_refuses_other_keys(llama: LlamaServer, path: str, headers: dict[str, str]) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
    assert llama.request("POST", path, body, headers=headers)[0] == 401


def test_what_it_says_is_noise(llama: LlamaServer) -> None:
    """Control characters, characters of several bytes, and bytes that are no UTF-8: else other tests show little."""
    text = llama.ask(HELLO, max_tokens=400)["choices"][0]["message"]["content"]
    assert any(ord(character) < 32 for character in text)
    assert any(ord(character) > 127 and character != "\ufffd" for character in text)
    assert "\ufffd" in text


def test_it_never_ends_by_itself(llama: LlamaServer) -> None:
    answer = llama.ask(HELLO, max_tokens=2000)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 2000)


def test_its_slots_are_free_when_nobody_asks(llama: LlamaServer) -> None:
    status, slots = llama.request("GET", "/slots")
    assert (status, len(json.loads(slots))) == (200, SLOTS)
    assert llama.count_busy_slots() == 0
