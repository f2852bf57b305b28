"""What a provider sends with a reply for itself: kept, sent back to it and to nobody else, exported, imported."""

import json
from typing import Any

import pytest

from chat_api.llm.provider_state import MAX_STATE_BYTES
from tests.completions.chat import Chat, run_sql
from tests.support.api import Api
from tests.support.provider import (
    CUT,
    DONE,
    Reply,
    ScriptedProvider,
    anthropic_event,
    anthropic_stream,
    json_answer,
    openai_chunk,
    openai_stream,
)
from tests.transfer.exports import exported, imported

SIGNATURE = {"google": {"thought_signature": "c2ln"}}
OTHER_SIGNATURE = {"google": {"thought_signature": "b3RoZXI="}}
THINKING = {"type": "thinking", "thinking": "Where is it?", "signature": "c2lnbmVk"}
REDACTED = {"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="}


def call(id: str = "call_1", index: int = 0, **fields: Any) -> dict[str, Any]:
    """A delta with a whole call."""
    function = {"name": "get_weather", "arguments": "{}"}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function, **fields}]}


def stream(*deltas: dict[str, Any], finish: str = "tool_calls") -> Reply:
    return Reply(*(openai_chunk(delta) for delta in deltas), openai_chunk({}, finish), DONE)


def answer(chat: Chat, *ids: str) -> None:
    for id in ids or ("call_1",):
        chat.api.message(chat.conversation_id, "sunny", role="tool", tool_call_id=id)


def second_round(chat: Chat, first: Reply, *ids: str, **fields: Any) -> list[dict[str, Any]]:
    """The messages of the request that follows a reply with calls and their results."""
    chat.script(first, openai_stream("Done."))
    chat.reply(content="Weather?")
    answer(chat, *ids)
    chat.reply(content=None, **fields)
    messages: list[dict[str, Any]] = chat.sent[-1].json["messages"]
    return messages


@pytest.fixture
def chat(eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider)


@pytest.fixture
def claude(eve: Api, provider: ScriptedProvider) -> Chat:
    return Chat.begin(eve, provider, api_format="anthropic")


# -- second rounds ---------------------------------------------------------------------------------------------


def test_geminis_signature_goes_back_with_its_call(chat: Chat) -> None:
    first = stream(
        {"content": "", "extra_content": {"google": {"thought": True}}},
        call("call_1", extra_content=SIGNATURE),
        call("call_2", index=1),
        {"content": "", "extra_content": OTHER_SIGNATURE},
    )
    message = second_round(chat, first, "call_1", "call_2")[1]
    assert [one.get("extra_content") for one in message["tool_calls"]] == [SIGNATURE, None]
    assert message["extra_content"] == OTHER_SIGNATURE


def test_a_signature_of_a_whole_answer(chat: Chat) -> None:
    calls = call("call_1", extra_content=SIGNATURE)["tool_calls"]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    first = json_answer({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert second_round(chat, first)[1]["tool_calls"][0]["extra_content"] == SIGNATURE


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_goes_back(chat: Chat, name: str) -> None:
    first = stream({name: "It is "}, {name: "far."}, {"content": "Let me look."}, call())
    message = second_round(chat, first)[1]
    assert (message[name], message["content"]) == ("It is far.", "Let me look.")


def test_details_of_reasoning_become_whole_again(chat: Chat) -> None:
    """A signature holds for the whole text, which comes in parts."""

    def details(*entries: dict[str, Any]) -> dict[str, Any]:
        return {"content": "", "reasoning_details": list(entries)}

    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    encrypted = {"type": "reasoning.encrypted", "id": "rs_1", "data": "ZW5j", "index": 1}
    first = stream(
        details({**text, "text": "Let "}),
        details({**text, "text": "me see."}),
        details({**text, "signature": "c2ln"}),
        details(encrypted),
        call(),
    )
    message = second_round(chat, first)[1]
    assert message["reasoning_details"] == [{**text, "text": "Let me see.", "signature": "c2ln"}, encrypted]


def claude_stream(*blocks: dict[str, Any], stop_reason: str = "tool_use") -> Reply:
    """A reply of these blocks; what can comes in parts."""
    steps = [anthropic_event("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}})]
    for index, block in enumerate(blocks):
        empty = {"thinking": "", "signature": "", "text": "", "input": {}}
        begun = {name: empty.get(name, value) for name, value in block.items()}
        steps.append(anthropic_event("content_block_start", index=index, content_block=begun))
        for name, value in block.items():
            deltas: list[dict[str, Any]] = []
            if name in ("thinking", "text"):
                half = len(value) // 2
                deltas = [{"type": f"{name}_delta", name: part} for part in (value[:half], value[half:])]
            elif name == "signature":
                deltas = [{"type": "signature_delta", "signature": value}]
            elif name == "input":
                deltas = [{"type": "input_json_delta", "partial_json": json.dumps(value)}]
            steps += [anthropic_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        steps.append(anthropic_event("content_block_stop", index=index))
    stop = {"stop_reason": stop_reason}
    steps += [
        anthropic_event("message_delta", delta=stop, usage={"output_tokens": 9}),
        anthropic_event("message_stop"),
    ]
    return Reply(*steps)


def claudes_second_round(chat: Chat, *blocks: dict[str, Any], whole: bool = False) -> list[dict[str, Any]]:
    first = claude_stream(*blocks)
    if whole:
        first = json_answer(
            {"type": "message", "content": list(blocks), "stop_reason": "tool_use", "usage": {}}
        )
    chat.script(first, anthropic_stream("Done."))
    chat.reply(content="Weather?")
    answer(chat, "toolu_1")
    chat.reply(content=None)
    content: list[dict[str, Any]] = chat.sent[-1].json["messages"][1]["content"]
    return content


@pytest.mark.parametrize("whole", [False, True])
def test_claudes_thoughts_go_back_in_their_order(claude: Chat, whole: bool) -> None:
    blocks: list[dict[str, Any]] = [
        THINKING,
        REDACTED,
        {"type": "text", "text": "Let me look."},
        {**THINKING, "thinking": "Again."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Lisboa é"}},
    ]
    assert claudes_second_round(claude, *blocks, whole=whole) == blocks


def test_claudes_own_tools_go_back_with_their_results(claude: Chat) -> None:
    result = {"type": "web_search_result", "url": "https://e.example", "encrypted_content": "ZW5j"}
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "I look."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [result]},
        {"type": "text", "text": "Rain."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
    ]
    assert claudes_second_round(claude, *blocks) == blocks


# -- to whom it goes back --------------------------------------------------------------------------------------


def test_it_goes_to_no_other_model(chat: Chat) -> None:
    first = stream({"reasoning_content": "hm"}, call(extra_content=SIGNATURE))
    chat.script(first)
    chat.reply(content="Weather?")
    answer(chat)
    other = f"{chat.model}-other"
    chat.reply(content=None, model=other)
    [sent] = chat.provider.of_model(other)
    assert "reasoning_content" not in sent.json["messages"][1]
    assert "extra_content" not in sent.json["messages"][1]["tool_calls"][0]
    again = chat.ask(query="?dry_run=true", content="And?").get_json()["request"]["body"]["messages"]
    assert again[1]["tool_calls"][0]["extra_content"] == SIGNATURE


def test_it_goes_to_no_other_provider(eve: Api, provider: ScriptedProvider, chat: Chat) -> None:
    chat.script(stream({"reasoning_content": "hm"}, call()))
    chat.reply(content="Weather?")
    other = Chat.begin(eve, provider)
    sent = chat.ask(query="?dry_run=true", content="And?", provider_id=other.provider_id).get_json()
    assert "reasoning_content" not in sent["request"]["body"]["messages"][1]


def test_thoughts_of_claude_go_to_no_other_model_or_provider(
    eve: Api, provider: ScriptedProvider, claude: Chat
) -> None:
    blocks: list[dict[str, Any]] = [
        THINKING,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
    ]
    claude.script(claude_stream(*blocks))
    claude.reply(content="Weather?")
    answer(claude, "toolu_1")
    other = Chat.begin(eve, provider, api_format="anthropic")
    for given in ({"model": "claude-other"}, {"provider_id": other.provider_id, "model": claude.model}):
        body = claude.ask(query="?dry_run=true", **given).get_json()["request"]["body"]
        assert body["messages"][1]["content"] == blocks[1:], given
    own = claude.ask(query="?dry_run=true").get_json()["request"]["body"]
    assert own["messages"][1]["content"] == blocks


def test_clients_do_not_get_it(chat: Chat) -> None:
    chat.script(stream({"reasoning_content": "hm"}, call(extra_content=SIGNATURE)))
    streamed = chat.stream(content="Weather?")
    streamed.rest()
    completion = chat.get(streamed.id)
    texts = [json.dumps(event.content) for event in streamed.seen] + [json.dumps(completion)]
    texts += [chat.api.get(f"/chat/messages/{completion['message']['id']}").get_data(as_text=True)]
    texts += [json.dumps(chat.messages), json.dumps(chat.completions)]
    assert not [text for text in texts if "c2ln" in text or "provider_state" in text]
    assert completion["reasoning"] == "hm"  # which has always been shown


# -- bounds ----------------------------------------------------------------------------------------------------


def test_it_counts_for_the_context(eve: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(eve, provider, context_window=4000)
    chat.script(stream({"reasoning_content": "x" * 10_000}, {"content": "short"}, finish="stop"))
    chat.reply(content="first")
    preview = chat.ask(query="?dry_run=true", content="second").get_json()
    assert preview["prompt_tokens"] > 2500
    other = chat.ask(query="?dry_run=true", content="second", model="other").get_json()
    assert other["prompt_tokens"] < 100
    chat.reply(content="second")
    assert chat.ask(query="?dry_run=true", content="third").get_json()["omitted_messages"] == 2


def test_more_than_is_kept_is_not_kept(chat: Chat) -> None:
    too_much = "x" * (MAX_STATE_BYTES + 1)
    chat.script(stream({"content": "", "reasoning_details": [{"type": "r", "data": too_much}]}, call()))
    completion = chat.reply(content="Weather?")
    assert completion["status"] == "completed"
    assert [warning.partition(":")[0] for warning in completion["warnings"]] == ["state"]
    assert "reasoning_details" not in json.dumps(chat.ask(query="?dry_run=true").get_json())


def test_as_much_as_is_kept_is_kept(chat: Chat) -> None:
    just_enough = "x" * (MAX_STATE_BYTES - 200)
    message = second_round(chat, stream({"reasoning_content": just_enough}, call()))[1]
    assert message["reasoning_content"] == just_enough


def test_it_counts_for_the_quota(chat: Chat) -> None:
    chat.script(stream({"reasoning_content": "x" * 5000}, call()))
    chat.reply(content="Weather?")
    [(counted,)] = run_sql(
        chat.api.app, "SELECT content_bytes FROM conversations WHERE id = :id", id=chat.conversation_id
    )
    assert counted > 5000


# -- replies that end early ------------------------------------------------------------------------------------


def test_a_reply_that_reached_its_limit_has_it(chat: Chat) -> None:
    chat.script(stream({"reasoning_content": "hm"}, {"content": "Half an"}, finish="length"))
    assert chat.reply(content="Weather?")["status"] == "incomplete"
    sent = chat.ask(query="?dry_run=true", content="Go on.").get_json()["request"]["body"]["messages"]
    assert sent[1]["reasoning_content"] == "hm"


def test_a_reply_that_broke_off_has_none(chat: Chat) -> None:
    """Nor has it calls, for which a provider would want it back."""
    chat.script(
        Reply(
            openai_chunk({"reasoning_content": "hm"}),
            openai_chunk({"content": "Half"}),
            openai_chunk(call()),
            CUT,
        )
    )
    assert chat.reply(content="Weather?")["status"] == "incomplete"
    sent = chat.ask(query="?dry_run=true", content="Go on.").get_json()["request"]["body"]["messages"]
    assert sent[1] == {"role": "assistant", "content": "Half"}


def test_an_unsigned_thought_of_claude_does_not_go_back(claude: Chat) -> None:
    """The stream ended in it, and Claude refuses a thought without its signature."""
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    steps = [
        anthropic_event("content_block_start", index=0, content_block=REDACTED),
        anthropic_event("content_block_stop", index=0),
        anthropic_event("content_block_start", index=1, content_block={"type": "text", "text": "Half"}),
        anthropic_event("content_block_stop", index=1),
        anthropic_event("content_block_start", index=2, content_block=thought),
        anthropic_event("content_block_delta", index=2, delta={"type": "thinking_delta", "thinking": "h"}),
        anthropic_event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 9}),
        anthropic_event("message_stop"),
    ]
    claude.script(Reply(*steps))
    claude.reply(content="Weather?")
    sent = claude.ask(query="?dry_run=true", content="Go on.").get_json()["request"]["body"]["messages"]
    assert sent[1]["content"] == [REDACTED, {"type": "text", "text": "Half"}]


# -- exports and imports ---------------------------------------------------------------------------------------


@pytest.fixture
def signed(ada: Api, provider: ScriptedProvider) -> Chat:
    """A conversation with a signed call, and its result."""
    chat = Chat.begin(ada, provider)
    chat.script(stream({"reasoning_content": "hm"}, call(extra_content=SIGNATURE)))
    chat.reply(content="Weather?")
    answer(chat)
    return chat


def test_it_is_exported_and_imported(signed: Chat, ada: Api, bob: Api) -> None:
    lines = exported(ada)
    [state] = [line["provider_state"] for line in lines if "provider_state" in line]
    assert (state["provider_id"], state["model"]) == (signed.provider_id, signed.model)
    report = imported(bob, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert report["conversations"]["imported"] == 1
    providers = bob.get("/chat/llm-providers").get_json()
    [provider] = [found for found in providers if found["owner_id"] == bob.user_id]
    bob.config(provider["id"], "sk-1")
    [conversation] = bob.get("/chat/conversations").get_json()
    body = {"conversation_id": conversation["id"], "provider_id": provider["id"], "model": signed.model}
    preview = bob.post("/chat/completions?dry_run=true", body).get_json()
    message = preview["request"]["body"]["messages"][1]
    assert message["reasoning_content"] == "hm"
    assert message["tool_calls"][0]["extra_content"] == SIGNATURE
    [again] = [line["provider_state"] for line in exported(bob) if "provider_state" in line]
    assert again == {**state, "provider_id": provider["id"]}


@pytest.mark.parametrize(
    "state",
    [
        None,
        "x",
        [],
        {},
        {"provider_id": "x", "model": "m", "state": {}},
        {"model": "m", "state": {}},
        {"state": []},
        {"state": {"x": "y" * MAX_STATE_BYTES}},
        {"state": {}, "more": 1},
        {"state": json.loads('{"x":' * 101 + "{}" + "}" * 101)},
    ],
)
def test_what_is_imported_is_validated(signed: Chat, ada: Api, bob: Api, state: Any) -> None:
    lines = exported(ada)
    for line in lines:
        if "provider_state" in line:
            whole = {"provider_id": signed.provider_id, "model": "m"}
            is_part = isinstance(state, dict) and "model" not in state and state
            line["provider_state"] = {**whole, **state} if is_part else state
    report = imported(bob, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert report["conversations"] == {"imported": 0, "updated": 0, "unchanged": 0, "failed": 1}
    assert "provider_state" in report["errors"][0]["detail"]
