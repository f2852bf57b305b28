"""What is sent of any stored conversation is what the provider takes: properties, and the cases behind them."""

import json
import re
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from chat_api.llm import anthropic, openai
from chat_api.llm.events import ToolCall
from chat_api.llm.history import CONTINUE, NO_REPLY, NOT_CARRIED_OUT, START, STRAY_RESULT
from chat_api.llm.options import RequestOptions
from chat_api.llm.request import ChatMessage, ChatRequest, Endpoint
from chat_api.llm.vendors import options_of, vendors

ADAPTERS = {"openai": openai, "anthropic": anthropic}
STRICT = RequestOptions(prefill=False, user_after_tool=False, blank_text=False, call_ids="mistral")
# as OpenAI's own server: nothing is joined or moved
OPENAI = RequestOptions(alternation=False, developer_role=True)
ENDPOINTS = {
    "unknown": ("openai", RequestOptions()),
    "strict": ("openai", STRICT),
    **{
        f"{vendor.id}": (vendor.api_format, options_of(vendor))
        for vendor in vendors().values()
        if vendor.id
        in ("openai", "anthropic", "gemini", "deepseek", "mistral", "perplexity", "bedrock", "moonshot")
    },
}
MODELS = (
    "m",
    "claude-3-5-sonnet-latest",
    "anthropic/claude-opus-4.6",
    "claude-sonnet-5",
    "mistral-large-latest",
)
OPENAI_ID = re.compile(r"[\x21-\x7e]{1,40}")
MISTRAL_ID = re.compile("[A-Za-z0-9]{9}")
ANTHROPIC_ID = re.compile("[A-Za-z0-9_-]{1,64}")
NAME = re.compile("[A-Za-z0-9_-]{1,64}")


def body_of(
    *messages: ChatMessage,
    api_format: str = "openai",
    options: RequestOptions | None = None,
    model: str = "m",
    **parameters: Any,
) -> Any:
    """The body that is sent for these messages, as the server reads it."""
    endpoint = Endpoint(api_format, "https://llm.example/v1", "k", options=options or RequestOptions())
    body = ADAPTERS[api_format].request_body(ChatRequest(model, messages, parameters), endpoint)
    return json.loads(json.dumps(body.fields))


def sent(*messages: ChatMessage, **given: Any) -> list[dict[str, Any]]:
    """The messages of that body."""
    return body_of(*messages, **given)["messages"]


def user(content: str = "Hi") -> ChatMessage:
    return ChatMessage("user", content)


def calls(*ids: str, content: str = "", arguments: str = "{}", name: str = "f", **more: Any) -> ChatMessage:
    return ChatMessage("assistant", content, tuple(ToolCall(id, name, arguments) for id in ids), **more)


def result(id: str | None, content: str = "42") -> ChatMessage:
    return ChatMessage("tool", content, tool_call_id=id)


# -- any tree --------------------------------------------------------------------------------------------------

# few of each, so that they meet: ids of several vendors, of ours, broken ones, and ones that differ in case only
IDS = st.sampled_from(
    [
        "call_1",
        "call_2",
        "functions.f:0",
        "toolu_01",
        "abcDEF123",
        "x" * 60,
        "x" * 61,
        "é",
        "",
        "a b",
        "_made_",
    ]
)
NAMES = st.sampled_from(["f", "a.b", "a_b", "1st", "x" * 70, "", "погода", "-"])
TEXTS = st.sampled_from(["", " ", "\n\n", "word", "two\n\nwords", "😀"])
ARGUMENTS = st.sampled_from(
    [
        "",
        "{}",
        '{"city":"Lis',
        "null",
        "[]",
        '"x"',
        '{"a":NaN}',
        '{"a":1}',
        '{"a":' + "[" * 300 + "]" * 300 + "}",
    ]
)
STATES = st.sampled_from(
    [
        None,
        {},
        {"message": {"reasoning_content": "hm", "role": "system", "content": "forged"}},
        {
            "message": {"extra_content": {"google": {"thought_signature": "s"}}},
            "tool_calls": [{"id": "forged"}],
        },
        {"tool_calls": [{"extra_content": {"google": {"thought_signature": "s"}}, "function": {}}]},
        {
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "word"},
            ]
        },
        {
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "tool_use", "id": "forged", "name": "f"},
            ]
        },
        {
            "content": [
                {"type": "text", "text": " "},
                {"type": "server_tool_use", "id": "s1", "name": "search"},
            ]
        },
        {"content": [{"type": "text", "text": "word"}, {"type": "tool_use"}, {"type": "redacted_thinking"}]},
        {"content": [1, None, {"type": 2}, {"type": "web_search_tool_result", "tool_use_id": {}}]},
    ]
)
CALLS = st.builds(ToolCall, IDS, NAMES, ARGUMENTS)
MESSAGES = st.one_of(
    st.builds(ChatMessage, st.sampled_from(["system", "developer", "user"]), TEXTS),
    st.builds(
        ChatMessage, st.just("assistant"), TEXTS, st.lists(CALLS, max_size=3).map(tuple), st.none(), STATES
    ),
    st.builds(ChatMessage, st.just("tool"), TEXTS, st.just(()), st.none() | IDS),
)


@hypothesis.given(
    st.lists(MESSAGES, max_size=9), st.sampled_from(sorted(ENDPOINTS)), st.sampled_from(MODELS), st.booleans()
)
@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=300)
def test_any_history_is_acceptable(
    messages: list[ChatMessage], endpoint: str, model: str, has_tools: bool
) -> None:
    api_format, options = ENDPOINTS[endpoint]
    tools = [{"type": "function", "function": {"name": name}} for name in ("a.b", "a_b", "f")]
    given: dict[str, Any] = {"api_format": api_format, "options": options, "model": model}
    given |= {"tools": tools} if has_tools else {}
    body = body_of(*messages, **given)
    assert body == body_of(*messages, **given), "It must be the same each time."
    assert body["messages"]
    if api_format == "anthropic":
        assert_anthropic_takes(body, model)
    else:
        assert_openai_takes(body["messages"], options, model)


def assert_openai_takes(messages: Sequence[dict[str, Any]], options: RequestOptions, model: str) -> None:
    is_mistral = "mistral" in model or options.call_ids == "mistral"
    open_ids: list[str] = []
    used: set[str] = set()
    for message in messages:
        role = message["role"]
        assert role in ("system", "user", "assistant", "tool") or (
            role == "developer" and options.developer_role
        )
        if role == "tool":
            assert message["tool_call_id"] == open_ids.pop(0)
            continue
        assert not open_ids, "A call is answered before anything else is said."
        made = message.get("tool_calls", [])
        assert message["content"] or made
        if not options.blank_text:
            assert message["content"] is None or message["content"].strip()
        for call in made:
            assert role == "assistant"
            assert (MISTRAL_ID if is_mistral else OPENAI_ID).fullmatch(call["id"])
            assert NAME.fullmatch(call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert call["id"] not in used
            used.add(call["id"])
            open_ids.append(call["id"])
    assert not open_ids
    roles = [message["role"] for message in messages]
    assert set(roles) - {"system", "developer"}
    if options.alternation:
        assert_turns(roles)
    if is_mistral or not options.prefill or model in MODELS[2:4]:
        assert roles[-1] != "assistant"
    if is_mistral or not options.user_after_tool:
        assert ("tool", "user") not in pairwise(roles)
    if options.reasoning_content:
        assert all(message["reasoning_content"] for message in messages if message["role"] == "assistant")
    if options.thought_signatures:
        for message in messages:
            if message.get("tool_calls"):
                assert any("extra_content" in call for call in message["tool_calls"])


def assert_turns(roles: list[str]) -> None:
    """One system message at most, and then the user and the assistant in turns."""
    said = roles[1:] if roles[0] == "system" else roles
    assert said[0] == "user"
    assert "system" not in said
    for before, after in pairwise(said):
        assert before != after or before == "tool"


def assert_anthropic_takes(body: dict[str, Any], model: str) -> None:
    messages = body["messages"]
    assert body.get("system", "x").strip()
    assert [message["role"] for message in messages] == [
        ("user", "assistant")[index % 2] for index in range(len(messages))
    ]
    used: set[str] = set()
    open_ids: list[str] = []
    for message in messages:
        blocks = message["content"]
        assert blocks
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert results == open_ids
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        open_ids = []
        for block in blocks:
            if block["type"] == "tool_result":
                assert all(part["text"].strip() for part in block["content"])
            elif block["type"] == "text":
                assert block["text"].strip()
            elif block["type"] == "tool_use":
                assert ANTHROPIC_ID.fullmatch(block["id"])
                assert NAME.fullmatch(block["name"])
                assert isinstance(block["input"], dict)
                assert block["id"] not in used
                used.add(block["id"])
                open_ids.append(block["id"])
                assert any(tool["name"] == block["name"] for tool in body["tools"]) or body["tools"]
        assert blocks[-1]["type"] not in ("thinking", "redacted_thinking")
    assert not open_ids
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        assert model == MODELS[1]
        assert last["content"][-1]["text"] == last["content"][-1]["text"].rstrip()


# -- calls and results -----------------------------------------------------------------------------------------


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    messages = sent(user(), calls("call_1"), user("Never mind, tell me a joke."))
    assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": NOT_CARRIED_OUT}
    assert messages[3] == {"role": "user", "content": "Never mind, tell me a joke."}
    blocks = sent(user(), calls("call_1"), user("Never mind."), api_format="anthropic")[2]["content"]
    assert [block["type"] for block in blocks] == ["tool_result", "text"]


def test_a_call_at_the_end_is_answered_too() -> None:
    assert [message["role"] for message in sent(user(), calls("a", "b"))] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]


def test_a_result_moves_to_its_call() -> None:
    messages = sent(user(), calls("a", "b"), result("b", "of b"), user("Well?"), result("a", "of a"))
    assert [message["content"] for message in messages] == ["Hi", None, "of a", "of b", "Well?"]


def test_an_empty_result_is_sent() -> None:
    assert sent(user(), calls("a"), result("a", ""))[2]["content"] == ""
    [block] = sent(user(), calls("a"), result("a", " \n"), api_format="anthropic")[2]["content"]
    assert block == {"type": "tool_result", "tool_use_id": "a", "content": []}


@pytest.mark.parametrize("id", [None, "unknown"])
def test_a_result_without_a_call_is_text_of_the_user(id: str | None) -> None:
    assert sent(user("q"), ChatMessage("assistant", "a"), result(id))[2] == {
        "role": "user",
        "content": f"{STRAY_RESULT}42",
    }


def test_a_second_result_of_a_call_is_text_of_the_user() -> None:
    messages = sent(user(), calls("a"), result("a", "first"), result("a", "second"))
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    assert messages[-1]["content"] == f"{STRAY_RESULT}second"


def test_servers_that_number_calls_anew_in_each_reply() -> None:
    history = (
        user(),
        calls("call_0"),
        result("call_0", "first"),
        calls("call_0"),
        result("call_0", "second"),
    )
    for api_format in ADAPTERS:
        text = json.dumps(sent(*history, api_format=api_format))
        assert text.index("first") < text.index("second")
    messages = sent(*history)
    first, second = (message["tool_calls"][0]["id"] for message in messages if "tool_calls" in message)
    assert first == "call_0" != second
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == [first, second]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ('{"city":"Lis', {"arguments": '{"city":"Lis'}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a": NaN}', {"a": None}),
        ('{"a": 1}', {"a": 1}),
    ],
)
def test_arguments_are_an_object(arguments: str, expected: dict[str, Any]) -> None:
    message = calls("a", arguments=arguments)
    assert json.loads(sent(user(), message)[1]["tool_calls"][0]["function"]["arguments"]) == expected
    assert sent(user(), message, api_format="anthropic")[1]["content"][0]["input"] == expected


def test_arguments_that_are_an_object_stay_as_the_model_wrote_them() -> None:
    message = calls("a", arguments='{"b": 1,  "a": 1e2}')
    assert sent(user(), message)[1]["tool_calls"][0]["function"]["arguments"] == '{"b": 1,  "a": 1e2}'


def test_ids_of_another_vendor() -> None:
    history = (user(), calls("functions.f:0"), result("functions.f:0"))
    block = sent(*history, api_format="anthropic")[1]["content"][0]
    assert ANTHROPIC_ID.fullmatch(block["id"])
    assert sent(*history, api_format="anthropic")[2]["content"][0]["tool_use_id"] == block["id"]
    assert sent(*history)[1]["tool_calls"][0]["id"] == "functions.f:0"  # Moonshot wants its own back
    call = sent(*history, options=RequestOptions(call_ids="mistral"))[1]["tool_calls"][0]
    assert MISTRAL_ID.fullmatch(call["id"])


def test_ids_that_begin_alike_stay_apart() -> None:
    ids = [f"call_{'x' * 50}{number}" for number in range(300)]
    for options in (RequestOptions(), RequestOptions(call_ids="mistral")):
        messages = sent(user(), calls(*ids), *map(result, ids), options=options)
        assert len({call["id"] for call in messages[1]["tool_calls"]}) == 300


# -- roles -----------------------------------------------------------------------------------------------------


def test_neighbours_of_one_role_are_joined() -> None:
    messages = sent(
        user("first"), user("second"), ChatMessage("assistant", "a"), ChatMessage("assistant", "b"), user()
    )
    assert [message["content"] for message in messages] == ["first\n\nsecond", "a\n\nb", "Hi"]
    assert len(sent(user("first"), user("second"), options=OPENAI)) == 2


def test_system_messages_come_first() -> None:
    history = (user("a"), ChatMessage("system", "Be brief."), ChatMessage("developer", "Be kind."), user("b"))
    assert sent(*history) == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "a\n\nb"},
    ]
    assert [message["role"] for message in sent(*history, options=OPENAI)] == [
        "user",
        "system",
        "developer",
        "user",
    ]


def test_an_assistant_does_not_begin() -> None:
    assert [message["content"] for message in sent(ChatMessage("assistant", "Hello!"), user())] == [
        START,
        "Hello!",
        "Hi",
    ]


@pytest.mark.parametrize("history", [(), (ChatMessage("system", "Be brief."),), (ChatMessage("user", ""),)])
@pytest.mark.parametrize("options", [OPENAI, RequestOptions()])
@pytest.mark.parametrize("api_format", sorted(ADAPTERS))
def test_something_is_always_said(
    history: tuple[ChatMessage, ...], options: RequestOptions, api_format: str
) -> None:
    last = sent(*history, options=options, api_format=api_format)[-1]
    assert last["role"] == "user"
    assert START in json.dumps(last)


def test_mistral_wants_a_reply_to_results() -> None:
    history = (user(), calls("a"), result("a"), user("And?"))
    for given in ({"model": "open-mixtral-8x22b"}, {"options": RequestOptions(user_after_tool=False)}):
        messages = sent(*history, **given)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
        assert messages[3]["content"] == NO_REPLY
    assert len(sent(*history)) == 4


@pytest.mark.parametrize(
    ("model", "continues"),
    [
        ("claude-3-5-sonnet-20241022", True),
        ("claude-3-opus-latest", True),
        ("claude-opus-4-20250514", True),
        ("claude-sonnet-4-5-20250929", True),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", True),
        ("claude-opus-4-6", False),
        ("claude-sonnet-4.6", False),
        ("claude-sonnet-5", False),
        ("claude-opus-10-20270101", False),
    ],
)
def test_which_claude_continues_a_message(model: str, continues: bool) -> None:
    history = (user(), ChatMessage("assistant", "Once upon \n"))
    for api_format in ADAPTERS:
        last = sent(*history, api_format=api_format, model=model)[-1]
        assert last["role"] == ("assistant" if continues else "user")
        assert (CONTINUE in json.dumps(last)) is not continues
    if continues:
        assert sent(*history, api_format="anthropic", model=model)[-1]["content"][-1]["text"] == "Once upon"
        assert (
            sent(*history, api_format="anthropic", model=model, reasoning_effort="high")[-1]["role"] == "user"
        )


def test_unknown_models_of_anthropics_protocol_get_a_user_message_at_the_end() -> None:
    history = (user(), ChatMessage("assistant", "Once"))
    assert sent(*history, api_format="anthropic")[-1]["role"] == "user"
    assert sent(*history)[-1]["role"] == "assistant"
    assert sent(*history, options=RequestOptions(prefill=False))[-1]["role"] == "user"


def test_blank_texts() -> None:
    history = (user("a"), ChatMessage("assistant", " "), user("b"), calls("c", content="\n\n"))
    messages = sent(*history, api_format="anthropic")
    assert [block["type"] for message in messages for block in message["content"]] == [
        "text",
        "text",
        "tool_use",
        "tool_result",
    ]
    assert sent(*history, options=RequestOptions(blank_text=False))[0]["content"] == "a\n\nb"
    assert sent(*history)[1]["content"] == " "


def test_blank_stop_sequences() -> None:
    body = body_of(user(), api_format="anthropic", stop=["\n\n", "END"])
    assert body["stop_sequences"] == ["END"]
    assert "stop_sequences" not in body_of(user(), api_format="anthropic", stop=["\n\n"])


# -- names of tools --------------------------------------------------------------------------------------------


def test_names_of_tools_fit_everywhere_alike() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("weather.get", "weather_get")]
    choice = {"type": "function", "function": {"name": "weather.get"}}
    body = body_of(user(), calls("a", name="weather.get"), tools=tools, tool_choice=choice)
    first, second = (tool["function"]["name"] for tool in body["tools"])
    assert second == "weather_get" != first
    assert NAME.fullmatch(first)
    assert body["tool_choice"]["function"]["name"] == first
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == first


def test_a_choice_among_some_tools_has_their_new_names() -> None:
    names = ("weather.get", "other", "third")
    tools: list[Any] = [{"type": "function", "function": {"name": name}} for name in names]
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools[:2]}}
    body = body_of(user(), tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather_get", "other"]
    openai_options = options_of(vendors()["openai"])
    body = body_of(user(), options=openai_options, tools=tools, tool_choice=choice)
    allowed = body["tool_choice"]["allowed_tools"]["tools"]
    assert [tool["function"]["name"] for tool in allowed] == ["weather_get", "other"]
    assert choice["allowed_tools"]["tools"][0]["function"]["name"] == "weather.get"


def test_state_of_a_message_is_not_changed_by_sending_it() -> None:
    state = {"tool_calls": [{"extra_content": {"a": 1}}]}
    message = calls("a", "b", state=state)
    first = body_of(user(), message, result("a"), result("b"))
    assert body_of(user(), message, result("a"), result("b")) == first
    assert state == {"tool_calls": [{"extra_content": {"a": 1}}]}


def test_names_that_fit_are_sent_as_they_are() -> None:
    tools = [{"type": "function", "function": {"name": "get_weather-2"}}]
    assert body_of(user(), tools=tools)["tools"] == tools


def test_the_servers_own_tools_are_tools_enough() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    history = (user(), calls("a", name="look"), result("a"))
    body = body_of(*history, api_format="anthropic", extra={"tools": [search]})
    assert body["tools"] == [search]
    assert "tool_choice" not in body


def test_anthropic_gets_the_tools_that_a_history_calls() -> None:
    body = body_of(user(), calls("a", name="look"), result("a"), api_format="anthropic")
    assert body["tools"] == [{"name": "look", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}
    assert "tools" not in body_of(user(), api_format="anthropic")


# -- state -----------------------------------------------------------------------------------------------------

SIGNATURE = {"google": {"thought_signature": "c2ln"}}


def test_state_of_openais_protocol_goes_back_to_where_it_was() -> None:
    state = {"message": {"reasoning_content": "hm"}, "tool_calls": [{"extra_content": SIGNATURE}, {}]}
    message = sent(user(), calls("a", "b", state=state))[1]
    assert message["reasoning_content"] == "hm"
    assert [call.get("extra_content") for call in message["tool_calls"]] == [SIGNATURE, None]


def test_state_overrides_nothing_of_the_protocol() -> None:
    state = {
        "message": {"role": "system", "content": "forged", "name": "x"},
        "tool_calls": [{"id": "forged", "function": {"name": "forged"}}],
    }
    assert sent(user(), calls("a", state=state)) == sent(user(), calls("a"))


def test_calls_without_a_signature_for_gemini() -> None:
    gemini = options_of(vendors()["gemini"])
    made_elsewhere = sent(user(), calls("a", "b"), options=gemini)[1]["tool_calls"]
    assert (
        made_elsewhere[0]["extra_content"]["google"]["thought_signature"]
        == "skip_thought_signature_validator"
    )
    assert "extra_content" not in made_elsewhere[1]
    own = calls("a", state={"tool_calls": [{"extra_content": SIGNATURE}]})
    assert sent(user(), own, options=gemini)[1]["tool_calls"][0]["extra_content"] == SIGNATURE


def test_messages_without_reasoning_for_deepseek() -> None:
    deepseek = options_of(vendors()["deepseek"])
    assert sent(user(), calls("a"), options=deepseek)[1]["reasoning_content"] == " "
    own = calls("a", state={"message": {"reasoning_content": "hm"}})
    assert sent(user(), own, options=deepseek)[1]["reasoning_content"] == "hm"
    assert "reasoning_content" not in sent(user(), calls("a"))[1]


def test_state_is_kept_back_where_the_owner_says_so() -> None:
    own = calls("a", state={"message": {"reasoning_content": "hm"}})
    assert "reasoning_content" not in sent(user(), own, options=RequestOptions(state=False))[1]


THINKING = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}


def claude(*messages: ChatMessage) -> list[dict[str, Any]]:
    return sent(*messages, api_format="anthropic", model="claude-sonnet-5")


def test_blocks_of_claude_go_back_in_their_order() -> None:
    blocks = [
        THINKING,
        {"type": "text", "text": "Let me look"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "toolu_1", "name": "f"},
    ]
    message = calls("toolu_1", content="Let me look", arguments='{"a":1}', state={"content": blocks})
    assert claude(user(), message, result("toolu_1"))[1]["content"] == [
        *blocks[:3],
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]


def test_blocks_of_another_text_are_not_sent() -> None:
    """The reply was replaced, or an import says something else: what the user sees is what is sent."""
    state = {"content": [THINKING, {"type": "text", "text": "forged"}]}
    message = ChatMessage("assistant", "seen", state=state)
    assert claude(user(), message, user())[1]["content"] == [{"type": "text", "text": "seen"}]


@pytest.mark.parametrize(
    "blocks",
    [
        [THINKING, {"type": "text", "text": ["word"]}],
        [{"type": "text", "text": [{"text": "word"}]}],
        [{"type": "thinking", "thinking": None}, {"type": "text", "text": "word"}],
        [{"type": "redacted_thinking", "data": {}}, {"type": "text", "text": "word"}],
    ],
)
def test_an_imported_block_whose_text_is_no_string_is_not_sent(blocks: list[dict[str, Any]]) -> None:
    message = ChatMessage("assistant", "word", state={"content": blocks})
    for newest in ((), (user(),)):
        body = body_of(user(), message, *newest, api_format="anthropic", model="claude-3-haiku")
        assert body["messages"][1]["content"] == [{"type": "text", "text": "word"}]


def test_thinking_is_not_the_end_of_a_message() -> None:
    state = {"content": [{"type": "text", "text": "word"}, THINKING]}
    message = ChatMessage("assistant", "word", state=state)
    assert claude(user(), message, user())[1]["content"] == [{"type": "text", "text": "word"}]


def test_tools_of_the_server_go_back_with_their_results() -> None:
    text, more = {"type": "text", "text": "I look."}, {"type": "text", "text": "It rains."}
    message = ChatMessage("assistant", "I look.\n\nIt rains.", state={"content": [text, SEARCH, FOUND, more]})
    assert claude(user(), message, user())[1]["content"] == [text, SEARCH, FOUND, more]
    broken = ChatMessage("assistant", "I look.", state={"content": [text, SEARCH]})
    assert claude(user(), broken, user())[1]["content"] == [text]


def test_a_pause_of_the_server_is_continued() -> None:
    text = {"type": "text", "text": "I look."}
    paused = ChatMessage("assistant", "I look.", state={"content": [text, SEARCH]})
    assert claude(user(), paused)[-1] == {"role": "assistant", "content": [text, SEARCH]}
    rest = ChatMessage("assistant", "Rain.", state={"content": [FOUND, {"type": "text", "text": "Rain."}]})
    merged = claude(user(), paused, rest, user())[1]["content"]
    assert merged == [text, SEARCH, FOUND, {"type": "text", "text": "Rain."}]


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "unknown"])
def test_claude_does_not_think_after_calls_without_a_thought(model: str) -> None:
    """Within a budget it wants its thought before the last calls; another model has made them."""
    given: dict[str, Any] = {"api_format": "anthropic", "model": model, "reasoning_effort": "high"}
    assert body_of(user(), calls("a"), result("a"), **given)["thinking"] == {"type": "disabled"}
    assert body_of(user(), calls("a"), user("Never mind."), **given)["thinking"] == {"type": "disabled"}
    own = calls("a", state={"content": [THINKING, {"type": "tool_use", "id": "a", "name": "f"}]})
    for history in (
        (user(),),
        (user(), own, result("a")),
        (user(), calls("a"), ChatMessage("assistant", "x"), user()),
    ):
        assert body_of(*history, **given)["thinking"]["type"] == "enabled"
    kept_back = body_of(user(), own, result("a"), options=RequestOptions(state=False), **given)
    assert kept_back["thinking"] == {"type": "disabled"}


def test_joining_takes_time_in_proportion_to_the_text() -> None:
    """Appending one text to another and another copies the first ones again and again."""

    def seconds(count: int) -> float:
        messages = [user("x" * 1000)] * count
        began = time.process_time()
        sent(*messages)
        return time.process_time() - began

    assert seconds(8000) < 30 * seconds(1000) + 0.1
