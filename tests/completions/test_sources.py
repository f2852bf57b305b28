"""What a reply refers to: stored, listed, streamed, replayed, exported and imported; and reasoning that ends late."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import (
    DONE,
    STALL,
    Pause,
    Reply,
    ScriptedProvider,
    anthropic_delta,
    anthropic_event,
    openai_chunk,
    openai_stream,
    sse,
)

A, B = "https://a.example/one", "https://b.example/two"
TEXT = "Lisbon is sunny.[1] It rains in Porto.[2]"
SOURCES: list[dict[str, Any]] = [
    {"url": A, "title": "One", "places": [[16, 19]]},
    {"url": B, "title": None, "places": [[38, 41]]},
]
NAMED = {"citations": [A, B, "javascript:alert(1)"], "search_results": [{"url": A, "title": "One"}]}


def perplexity() -> Reply:
    """Each chunk has all sources."""
    choices = [{"index": 0, "delta": {"content": text}} for text in (TEXT[:10], TEXT[10:])]
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return Reply(*(sse({"choices": [choice], **NAMED}) for choice in (*choices, end)), DONE)


def claude() -> Reply:
    def block(index: int, text: str, url: str, title: str | None) -> list[bytes]:
        citation = {"type": "web_search_result_location", "url": url, "title": title}
        return [
            anthropic_event(
                "content_block_start",
                index=index,
                content_block={"type": "text", "text": "", "citations": []},
            ),
            anthropic_delta(index, "citations_delta", citation=citation),
            anthropic_delta(index, "text_delta", text=text),
            anthropic_event("content_block_stop", index=index),
        ]

    stop = anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
    return Reply(
        anthropic_delta(0, "text_delta", text=TEXT[:16]),
        *block(1, TEXT[16:19], A, "One"),
        anthropic_delta(2, "text_delta", text=TEXT[19:38]),
        *block(3, TEXT[38:], B, None),
        stop,
        anthropic_event("message_stop"),
    )


@pytest.fixture(params=["openai", "anthropic"])
def chat(request: pytest.FixtureRequest, eve: Api, provider: ScriptedProvider) -> Chat:
    """A conversation with a provider that names its sources."""
    chat = Chat.begin(eve, provider, api_format=request.param)
    chat.script(perplexity() if request.param == "openai" else claude())
    return chat


def test_sources_are_stored_with_the_message(chat: Chat) -> None:
    completion = chat.reply()
    assert completion["message"]["content"] == TEXT
    assert completion["message"]["sources"] == SOURCES
    assert chat.messages[-1] == completion["message"]
    assert chat.get(completion["id"]) == completion
    assert chat.api.get(f"/chat/messages/{completion['message']['id']}").get_json() == completion["message"]
    assert "sources" not in chat.messages[0]


def test_sources_are_streamed_and_replayed(chat: Chat) -> None:
    stream = chat.stream()
    stream.rest()
    sources = [event for event in stream.seen if event.name == "completion.source"]
    assert [event.content for event in sources] == [{**source, "places": []} for source in SOURCES]
    assert stream.end.content["completion"]["message"]["sources"] == SOURCES
    assert stream.text == TEXT
    again = chat.events(stream.id)
    again.rest()
    assert [event.content for event in again.seen if event.name == "completion.source"] == [
        event.content for event in sources
    ]
    assert again.end == stream.end
    rest = chat.events(stream.id, last=sources[0].id)
    rest.rest()
    assert [event.content for event in rest.seen if event.name == "completion.source"] == [sources[1].content]


def test_sources_survive_an_export(chat: Chat, make_user: Callable[..., Api]) -> None:
    completion = chat.reply()
    exported = chat.api.get("/chat/export", buffered=True).get_data()
    lines = [json.loads(line) for line in exported.splitlines()]
    mine = [line for line in lines if line.get("conversation_id") == chat.conversation_id]
    assert [line["sources"] for line in mine if "sources" in line] == [SOURCES]
    other = make_user()
    report = other.post("/chat/import", data=exported).get_json()
    assert report["errors"] == []
    messages = other.get(f"/chat/conversations/{chat.conversation_id}/messages").get_json()
    assert messages[-1]["sources"] == SOURCES
    replay = Chat(other, chat.provider, chat.conversation_id, chat.provider_id, "", "").events(
        completion["id"]
    )
    replay.rest()
    assert [event.content["url"] for event in replay.seen if event.name == "completion.source"] == [A, B]


@pytest.fixture
def openai_chat(eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider)


def test_sources_are_kept_of_a_reply_that_is_cut_off(openai_chat: Chat) -> None:
    chat = openai_chat
    chat.script(Reply(sse({"choices": [{"delta": {"content": TEXT}}], **NAMED}), STALL))
    stream = chat.stream()
    stream.until(TEXT)
    assert [stream.next().name for _ in SOURCES] == ["completion.source"] * 2
    assert [source["url"] for source in chat.get(stream.id)["message"]["sources"]] == [A, B]
    assert chat.cancel(stream.id).status_code == 200
    stream.rest()
    message = chat.ended(stream.id)["message"]
    assert (message["status"], message["sources"]) == ("cancelled", SOURCES)


def test_tags_are_reasoning_that_is_neither_found_nor_sent(openai_chat: Chat) -> None:
    chat = openai_chat
    chat.script(openai_stream("<thi", "nk>a zebrafish", " plan</think>", "\n\nHello"), openai_stream("ok"))
    completion = chat.reply()
    assert (completion["message"]["content"], completion["reasoning"]) == ("Hello", "a zebrafish plan")
    assert chat.api.get("/chat/search?q=zebrafish").get_json() == []
    chat.reply()
    assert "zebrafish" not in json.dumps(chat.sent[-1].json)


def test_reasoning_whose_end_alone_is_marked(openai_chat: Chat) -> None:
    chat = openai_chat
    texts = ("Let me see what ", "I can do about it.", "\n</think>\n\n", "Hello")
    steps: list[Any] = [step for text in texts for step in (openai_chunk({"content": text}), Pause(0.05))]
    chat.script(Reply(*steps, openai_chunk({}, "stop"), DONE))
    stream = chat.stream()
    stream.rest()
    completion = chat.get(stream.id)
    assert completion["message"]["content"] == "Hello"
    assert completion["reasoning"].strip() == "Let me see what I can do about it."
    again = chat.events(stream.id)
    again.rest()
    assert again.text == "Hello"
    assert again.end == stream.end
