"""POST /chat/completions without a stream: what is stored, what is sent, what comes back."""

import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.llm_providers.models import LLMProvider
from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import (
    Received,
    Reply,
    ScriptedProvider,
    anthropic_stream,
    models_answer,
    openai_answer,
    openai_chunk,
    openai_stream,
)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
UNUSED_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


@pytest.mark.happy_path("create_completion", "get_completion")
def test_a_reply_has_all_fields(chat: Chat) -> None:
    chat.script(openai_stream("Hel", "lo", usage=(16, 3)))
    response = chat.ask(content="Hi")
    assert response.status_code == 201
    completion = response.get_json()
    user, assistant = chat.messages
    assert completion == {
        "id": completion["id"],
        "conversation_id": chat.conversation_id,
        "parent_id": user["id"],
        "provider_id": chat.provider_id,
        "model": chat.model,
        "status": "completed",
        "message": assistant,
        "reasoning": None,
        "usage": {"prompt_tokens": 16, "completion_tokens": 3, "total_tokens": 19, "estimated": False},
        "finish_reason": "stop",
        "omitted_messages": 0,
        "omitted_attachments": [],
        "warnings": [],
        "problem": None,
        "created_at": completion["created_at"],
        "finished_at": completion["finished_at"],
    }
    assert TIME.fullmatch(completion["created_at"])
    assert TIME.fullmatch(completion["finished_at"])
    assert completion["created_at"] <= completion["finished_at"]
    assert chat.said == [("user", "Hi", "completed"), ("assistant", "Hello", "completed")]
    assert [message["position"] for message in chat.messages] == [1, 2]
    assert response.headers["Location"] == f"/chat/completions/{completion['id']}"
    assert chat.get(completion["id"]) == completion
    assert chat.completions == [completion]


def test_the_conversation_counts_the_reply(chat: Chat) -> None:
    before = chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json()
    chat.reply()
    after = chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json()
    assert after["message_count"] == 2
    assert after["updated_at"] > before["updated_at"]


def test_what_is_sent_is_what_is_needed_and_no_more(chat: Chat) -> None:
    chat.api.message(chat.conversation_id, "Be brief.", role="system")
    chat.reply(content="One?", parameters={"temperature": 0.5, "max_tokens": 9, "stop": ["\n"]})
    sent = chat.sent[0]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.headers["authorization"] == f"Bearer {chat.key}"
    assert sent.json == {
        "model": chat.model,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["\n"],
    }
    private = (
        chat.api.user_id,
        chat.api.user["email"],
        chat.conversation_id,
        chat.api.token or "?",
        "cookie",
    )
    for text in private:
        assert text not in f"{sent.headers} {sent.body.decode()}"


def test_the_next_turn_sends_what_was_said(chat: Chat) -> None:
    chat.script(openai_stream("Two."), openai_stream("Four."))
    chat.reply(content="One?")
    chat.reply(content="Three?")
    assert [message["content"] for message in chat.sent[1].json["messages"]] == ["One?", "Two.", "Three?"]
    assert [message["role"] for message in chat.sent[1].json["messages"]] == ["user", "assistant", "user"]


def test_the_users_message_is_committed_before_the_provider_is_called(chat: Chat, other_app: Flask) -> None:
    """Seen from another worker, by another connection, at the moment of the call."""
    found: list[Any] = []

    def answer(request: Received) -> Reply:
        elsewhere = chat.on(other_app)
        found.append((elsewhere.said, [completion["status"] for completion in elsewhere.completions]))
        return openai_stream("Yes.")

    chat.script(answer)
    chat.reply(content="Are you there?")
    assert found == [([("user", "Are you there?", "completed")], ["in_progress"])]


def test_without_content_the_last_message_is_answered(chat: Chat) -> None:
    asked = chat.api.message(chat.conversation_id, "Hi")
    completion = chat.reply(content=None)
    assert completion["parent_id"] == asked["id"]
    assert [role for role, _, _ in chat.said] == ["user", "assistant"]


def test_parent_id_answers_an_earlier_message(chat: Chat) -> None:
    chat.script(openai_stream("first"), openai_stream("second"), openai_stream("third"))
    first = chat.reply(content="A")
    chat.reply(content="B")
    again = chat.reply(content=None, parent_id=first["parent_id"])
    assert again["parent_id"] == first["parent_id"]
    assert [message["content"] for message in chat.sent[2].json["messages"]] == ["A"]
    edited = chat.reply(content="B, edited", parent_id=first["message"]["id"])
    assert [message["content"] for message in chat.sent[3].json["messages"]] == ["A", "first", "B, edited"]
    assert edited["parent_id"] != first["message"]["id"]


def test_the_configs_default_model_is_taken(chat: Chat) -> None:
    own = Chat.begin(chat.api, chat.provider)
    provider_id = chat.api.provider(api_endpoint=chat.provider.url)["id"]
    body = {
        "user_id": chat.api.user_id,
        "provider_id": provider_id,
        "api_key": "k",
        "default_model": own.model,
    }
    chat.api.made("/chat/user-llm-configs", body)
    assert chat.reply(provider_id=provider_id, model=None)["model"] == own.model
    assert len(own.sent) == 1


def test_a_shared_provider_is_called_with_ones_own_key(
    admin: Api, ada: Api, bob: Api, provider: ScriptedProvider
) -> None:
    shared = admin.provider(api_endpoint=provider.url, shared=True)
    ada.config(shared["id"], "key-of-ada")
    body = {"conversation_id": bob.conversation()["id"], "provider_id": shared["id"], "content": "Hi"}
    response = bob.post("/chat/completions", {**body, "model": "m"})
    assert response.status_code == 404
    assert "config" in response.get_json()["detail"]
    bob.config(shared["id"], "key-of-bob")
    model = f"shared-{bob.user_id}"
    assert bob.post("/chat/completions", {**body, "model": model}).status_code == 201
    assert provider.of_model(model)[0].headers["authorization"] == "Bearer key-of-bob"


def test_a_service_account_asks_for_its_user(chat: Chat, trusted: Api) -> None:
    headers = {"X-Act-As": chat.api.user_id}
    response = trusted.post("/chat/completions", chat.asked(), headers=headers)
    assert response.status_code == 201
    assert chat.get(response.get_json()["id"])["status"] == "completed"
    assert trusted.post("/chat/completions", chat.asked()).status_code == 404


def test_anthropics_protocol(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, api_format="anthropic", api_endpoint=provider.origin)
    chat.script(anthropic_stream("Hel", "lo", usage=(20, 5)))
    eve.message(chat.conversation_id, "Be brief.", role="system")
    completion = chat.reply(content="Hi")
    assert completion["message"]["content"] == "Hello"
    assert (completion["finish_reason"], completion["usage"]["total_tokens"]) == ("stop", 25)
    sent = chat.sent[0]
    assert (sent.path, sent.headers["x-api-key"]) == ("/v1/messages", chat.key)
    assert sent.json["system"] == "Be brief."


def test_a_provider_that_does_not_stream(chat: Chat) -> None:
    chat.script(openai_answer("All at once.", usage=(5, 4)))
    completion = chat.reply()
    assert completion["message"]["content"] == "All at once."
    assert completion["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "total_tokens": 9,
        "estimated": False,
    }


# a provider's word -> status, finish_reason
ENDS = {
    "stop": ("completed", "stop"),
    "STOP": ("completed", "stop"),
    "FINISH_REASON_STOP": ("completed", "stop"),
    "end_turn": ("completed", "stop"),
    "stop_sequence": ("completed", "stop"),
    "eos": ("completed", "stop"),
    "COMPLETE": ("completed", "stop"),
    "tool_calls": ("completed", "tool_calls"),
    "tool-calls": ("completed", "tool_calls"),
    "tool_use": ("completed", "tool_calls"),
    "length": ("incomplete", "length"),
    "LENGTH": ("incomplete", "length"),
    "max_tokens": ("incomplete", "length"),
    "MAX_TOKENS": ("incomplete", "length"),
    "model_context_window_exceeded": ("incomplete", "length"),
    "content_filter": ("incomplete", "content_filter"),
    "refusal": ("incomplete", "content_filter"),
}
OWN_WORDS = {
    "insufficient_system_resource": "provider_overloaded",
    "SAFETY": "provider_not_allowed",
    "content_filter: SAFETY": "provider_not_allowed",
    "PROHIBITED_CONTENT": "provider_not_allowed",
    "sensitive": "provider_not_allowed",
    "RECITATION": "provider_not_allowed",
    "model_length": "provider_failed",
    "error": "provider_failed",
    "network_error": "provider_failed",
    "abort": "provider_failed",
    "cancelled": "provider_failed",
    "pause_turn": "provider_failed",
    "compaction": "provider_failed",
    "not_finished": "provider_failed",
    "MALFORMED_FUNCTION_CALL": "provider_failed",
    "FINISH_REASON_UNSPECIFIED": "provider_failed",
    "stopped by nobody knows what": "provider_failed",
}


@pytest.mark.parametrize("word", ENDS)
def test_finish_reasons(chat: Chat, word: str) -> None:
    chat.script(openai_stream("So far", finish=word))
    completion = chat.reply()
    assert (completion["status"], completion["finish_reason"]) == ENDS[word]
    assert completion["problem"] is None
    assert chat.said[-1] == ("assistant", "So far", ENDS[word][0])


@pytest.mark.parametrize("word", OWN_WORDS)
def test_a_reply_that_ends_in_an_unknown_way_is_incomplete(chat: Chat, word: str) -> None:
    chat.script(openai_stream("So far", finish=word))
    completion = chat.reply()
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", word)
    assert completion["problem"]["code"] == OWN_WORDS[word]
    assert word in completion["problem"]["detail"]
    assert chat.said[-1] == ("assistant", "So far", "incomplete")
    stream = chat.stream()
    stream.rest()
    assert stream.end.name == "completion.incomplete"
    assert stream.end.content["problem"] == completion["problem"]


def test_a_strange_finish_reason_is_kept_short_and_clean(chat: Chat) -> None:
    chat.script(openai_stream("x", finish="r" * 500), openai_stream("x", finish="a\x00\u202e\n<b>b</b> "))
    assert chat.reply()["finish_reason"] == "r" * 64
    assert chat.reply()["finish_reason"] == "a b"


@pytest.mark.parametrize("usage", [None, (7, None), (None, 7)])
def test_tokens_are_estimated_where_the_provider_does_not_say(chat: Chat, usage: Any) -> None:
    prompt, written = usage or (None, None)
    said = (
        [] if usage is None else [openai_chunk(usage={"prompt_tokens": prompt, "completion_tokens": written})]
    )
    chat.script(openai_stream("x" * 400, *said, usage=None))
    found = chat.reply(content="y" * 40)["usage"]
    assert found["estimated"] is True
    assert found["completion_tokens"] == (written or 100)
    assert found["prompt_tokens"] == prompt or 10 <= found["prompt_tokens"] <= 20
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"]


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 9}}, {"cached_tokens": 9}),
        ({"completion_tokens_details": {"reasoning_tokens": 0}}, {"reasoning_tokens": 0}),
        ({"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": "5"}}, {}),
    ],
)
def test_tokens_of_the_cache_and_of_thoughts_are_kept(chat: Chat, details: Any, expected: Any) -> None:
    counts = {"prompt_tokens": 12, "completion_tokens": 7, **details}
    chat.script(openai_stream("Hi", openai_chunk(usage=counts), usage=None))
    completion = chat.reply()
    known = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19, "estimated": False}
    assert completion["usage"] == known | expected
    assert chat.get(completion["id"])["usage"] == known | expected


def test_an_empty_reply_is_a_reply(chat: Chat) -> None:
    """The provider has ended it properly; the next turn goes on without it, as providers refuse empty messages."""
    chat.script(openai_stream(), openai_stream("Now."))
    completion = chat.reply(content="Hi")
    assert (completion["status"], completion["message"]["content"]) == ("completed", "")
    chat.reply(content="Well?")
    assert [message["content"] for message in chat.sent[1].json["messages"]] == ["Hi\n\nWell?"]


def test_text_no_database_holds_is_replaced(chat: Chat) -> None:
    chat.script(openai_stream("a\x00b", "\ud83d", "c😀"))
    completion = chat.reply()
    text = completion["message"]["content"]
    assert (text[:3], text[-2:]) == ("a\ufffdb", "c😀")
    assert "\x00" not in text
    assert chat.said[-1] == ("assistant", text, "completed")
    events = chat.events(completion["id"])
    events.rest()
    assert events.text == text


def test_large_replies_and_questions(chat: Chat) -> None:
    question, answer = "frag ü" * 50_000, "antwort é" * 30_000
    chat.script(openai_stream(answer[:100_000], answer[100_000:]))
    assert chat.reply(content=question)["message"]["content"] == answer
    assert chat.sent[0].json["messages"][0]["content"] == question


# -- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"conversation_id": "x"}, "conversation_id"),
        ({"conversation_id": None}, "conversation_id"),
        ({"provider_id": None}, "provider_id"),
        ({"model": ""}, "model"),
        ({"model": "m" * 256}, "model"),
        ({"content": ""}, "content"),
        ({"content": 7}, "content"),
        ({"content": "a\x00b"}, "content"),
        ({"content": "\ud800"}, "content"),
        ({"stream": "yes"}, "stream"),
        ({"on_disconnect": "panic"}, "on_disconnect"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"temperature": "1"}}, "parameters"),
        ({"parameters": {"temperature": True}}, "parameters"),
        ({"parameters": {"temperature": 2.1}}, "parameters"),
        ({"parameters": {"max_tokens": 0}}, "parameters"),
        ({"parameters": {"stop": ["a"] * 5}}, "parameters"),
        ({"parameters": {"stop": ""}}, "parameters"),
        ({"parameters": {"tools": []}}, "parameters"),
        ({"parameters": {"tools": [{"type": "function", "function": {"name": "a b"}}]}}, "parameters"),
        ({"parameters": {"tool_choice": "maybe"}}, "parameters"),
        ({"parameters": {"tool_choice": {"type": "function", "function": {"name": ""}}}}, "parameters"),
        # nothing of this steers the call
        ({"parameters": {"base_url": "http://127.0.0.1:1"}}, "parameters"),
        ({"parameters": {"model": "other"}}, "parameters"),
        ({"parameters": {"messages": []}}, "parameters"),
        ({"parameters": {"stream": False}}, "parameters"),
        ({"parameters": {"extra_headers": {"a": "b"}}}, "parameters"),
        ({"base_url": "http://127.0.0.1:1"}, "base_url"),
        ({"api_base": "http://127.0.0.1:1"}, "api_base"),
        ({"api_key": "k"}, "api_key"),
        ({"extra_headers": {}}, "extra_headers"),
        ({"proxy": "http://127.0.0.1:1"}, "proxy"),
        ({"user_id": UNUSED_ID}, "user_id"),
        ({"messages": []}, "messages"),
    ],
)
def test_bad_input_stores_nothing_and_calls_nobody(chat: Chat, fields: dict[str, Any], name: str) -> None:
    response = chat.ask(**fields)
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert name in response.get_json()["errors"]
    assert (chat.messages, chat.completions, chat.sent) == ([], [], [])


def test_nothing_to_answer(chat: Chat) -> None:
    assert "content" in chat.ask(content=None).get_json()["errors"]


def test_no_model_anywhere(chat: Chat) -> None:
    response = chat.ask(model=None)
    assert response.status_code == 400
    assert "model" in response.get_json()["errors"]
    assert chat.messages == []


@pytest.mark.parametrize("name", ["conversation_id", "provider_id", "parent_id"])
def test_what_is_not_there(chat: Chat, name: str) -> None:
    response = chat.ask(**{name: UNUSED_ID})
    assert response.status_code == 404
    assert (chat.messages, chat.sent) == ([], [])


def test_a_message_of_another_conversation_is_not_answered(chat: Chat) -> None:
    message = chat.api.message(chat.elsewhere().conversation_id)
    assert chat.ask(parent_id=message["id"]).status_code == 404
    assert chat.messages == []


def test_what_belongs_to_others_is_not_there(chat: Chat, bob: Api) -> None:
    """The same answer as for an id that was never used, in every place an id can stand."""
    theirs = Chat.begin(bob, chat.provider)
    message = bob.message(theirs.conversation_id)
    reply = theirs.reply()
    for fields in (
        {"conversation_id": theirs.conversation_id},
        {"provider_id": theirs.provider_id},
        {"parent_id": message["id"]},
        {"conversation_id": theirs.conversation_id, "parent_id": message["id"]},
    ):
        assert chat.ask(**fields).status_code == 404
    for method, path in (
        ("GET", f"/chat/completions/{reply['id']}"),
        ("GET", f"/chat/completions/{reply['id']}/events"),
        ("POST", f"/chat/completions/{reply['id']}/cancel"),
        ("GET", f"/chat/conversations/{theirs.conversation_id}/completions"),
        ("GET", f"/chat/llm-providers/{theirs.provider_id}/models"),
    ):
        response = chat.api.request(method, path)
        unused = chat.api.request(method, re.sub(r"[0-9a-f-]{36}", UNUSED_ID, path))
        assert response.status_code == 404
        without_id = {"request_id": None}
        assert response.get_json() | without_id == unused.get_json() | without_id
    assert chat.sent == []


def test_no_key_names_the_config(chat: Chat) -> None:
    provider_id = chat.api.provider(api_endpoint=chat.provider.url)["id"]
    response = chat.ask(provider_id=provider_id)
    assert response.status_code == 404
    assert "config" in response.get_json()["detail"]
    assert chat.messages == []


@pytest.mark.parametrize(
    "endpoint",
    ["http://10.0.0.1/v1", "https://169.254.169.254/latest", "http://[::ffff:a9fe:a9fe]/v1", "https://0/"],
)
def test_addresses_inside_are_not_called(chat: Chat, endpoint: str) -> None:
    """Making such a provider is refused; one may be stored from before that."""
    provider_id = chat.api.provider()["id"]
    chat.api.config(provider_id)
    with chat.api.app.app_context():
        stored = sa.update(LLMProvider).where(LLMProvider.id == provider_id).values(api_endpoint=endpoint)
        db.session.execute(stored)
        db.session.commit()
    response = chat.ask(provider_id=provider_id)
    assert response.status_code == 502
    assert response.get_json()["code"] == "provider_blocked"


# -- reading ------------------------------------------------------------------------------------------------


def test_a_completion_has_an_etag(chat: Chat) -> None:
    completion = chat.reply()
    path = f"/chat/completions/{completion['id']}"
    etag = chat.api.get(path).headers["ETag"]
    assert chat.api.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.happy_path("list_completions")
def test_completions_come_page_by_page(chat: Chat) -> None:
    made = [chat.reply(content=str(number))["id"] for number in range(5)]
    path = f"/chat/conversations/{chat.conversation_id}/completions"
    found, link = [], f"{path}?limit=2"
    for _ in range(3):
        response = chat.api.get(link)
        found.append([completion["id"] for completion in response.get_json()])
        links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', response.headers.get("Link", "")))
        link = {relation: url for url, relation in links.items()}.get("next", "")
    assert found == [made[:2], made[2:4], made[4:]]
    assert link == ""
    before = chat.api.get(f"{path}?limit=2&before={made[4]}").get_json()
    assert [completion["id"] for completion in before] == made[2:4]
    assert chat.api.get(f"/chat/conversations/{UNUSED_ID}/completions").status_code == 404


@pytest.mark.happy_path("list_models")
def test_models_of_a_provider(eve: Api) -> None:
    with ScriptedProvider() as own:
        own.script(models_answer("gpt-a", "gpt-b"))
        listed = Chat.begin(eve, own)
        response = eve.get(f"/chat/llm-providers/{listed.provider_id}/models")
        assert response.get_json() == [{"id": "gpt-a"}, {"id": "gpt-b"}]
        assert (own.last.method, own.last.path) == ("GET", "/v1/models")
        assert own.last.headers["authorization"] == f"Bearer {listed.key}"
