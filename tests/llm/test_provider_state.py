"""What is collected of a reply for its provider: fields, entries and blocks that arrive in parts."""

import json
from typing import Any

import pytest

from chat_api.llm.anthropic.state import ReplyState as Blocks
from chat_api.llm.events import Event, ProviderState
from chat_api.llm.openai.state import ReplyState as Fields
from chat_api.llm.provider_state import MAX_STATE_BYTES, MAX_STATE_ITEMS, StateTooLarge
from tests.support.asking import AskingMaker
from tests.support.provider import (
    DONE,
    Reply,
    ScriptedProvider,
    anthropic_event,
    json_answer,
    openai_chunk,
    openai_stream,
)


def details(*deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What becomes of the entries of several deltas."""
    fields = Fields()
    for entries in deltas:
        fields.take_message({"reasoning_details": entries})
    state = fields.build([])
    assert state is not None
    found: list[dict[str, Any]] = state["message"]["reasoning_details"]
    return found


TEXT = {"type": "reasoning.text", "index": 0}


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param(
            [[{**TEXT, "text": "a"}], [{**TEXT, "text": "b"}], [{**TEXT, "signature": "s"}]],
            [{**TEXT, "text": "ab", "signature": "s"}],
            id="one",
        ),
        pytest.param(
            [[{**TEXT, "text": "a", "signature": None}], [{**TEXT, "text": "", "signature": "s"}]],
            [{**TEXT, "text": "a", "signature": "s"}],
            id="null",
        ),
        pytest.param(
            [[{**TEXT, "text": "a"}], [{**TEXT, "index": 1, "text": "x"}], [{**TEXT, "text": "b"}]],
            [{**TEXT, "text": "ab"}, {**TEXT, "index": 1, "text": "x"}],
            id="two in turns",
        ),
        pytest.param(
            [[{**TEXT, "text": "a"}], [{"type": "reasoning.encrypted", "index": 0, "data": "x"}]],
            [{**TEXT, "text": "a"}, {"type": "reasoning.encrypted", "index": 0, "data": "x"}],
            id="two types of one index",
        ),
        pytest.param(
            [
                [{"type": "reasoning.encrypted", "index": 0, "id": "1", "data": "x"}],
                [{"type": "reasoning.encrypted", "index": 0, "id": "2", "data": "y"}],
            ],
            [
                {"type": "reasoning.encrypted", "index": 0, "id": "1", "data": "x"},
                {"type": "reasoning.encrypted", "index": 0, "id": "2", "data": "y"},
            ],
            id="two ids of one index",
        ),
        pytest.param(
            [[{"type": "t", "text": "a"}], [{"type": "t", "text": "b"}], [{"type": "u", "summary": "c"}]],
            [{"type": "t", "text": "ab"}, {"type": "u", "summary": "c"}],
            id="without index",
        ),
        pytest.param(
            [[{"type": "t", "text": "a", "signature": "s"}], [{"type": "t", "text": "b"}]],
            [{"type": "t", "text": "a", "signature": "s"}, {"type": "t", "text": "b"}],
            id="after a signature",
        ),
        pytest.param(
            [[{"type": "t", "text": "a"}, {"type": "t", "text": "b"}]],
            [{"type": "t", "text": "a"}, {"type": "t", "text": "b"}],
            id="whole answer",
        ),
        pytest.param(
            [[{"type": ["x"], "index": {}, "text": 5}, "x", None], [{"type": ["x"], "index": {}}]],
            [{"type": ["x"], "index": {}, "text": 5}],
            id="odd",
        ),
    ],
)
def test_entries_become_whole_again(deltas: list[Any], expected: list[Any]) -> None:
    assert details(*deltas) == expected


def test_reasoning_of_many_small_parts_is_kept() -> None:
    """Each of them is an entry of many more bytes than its text."""
    words = [[{**TEXT, "text": "word ", "format": "anthropic-claude-v1"}]] * 20_000
    [entry] = details(*words)
    assert len(entry["text"]) == 100_000


def test_the_mark_of_a_thought_does_not_go_back() -> None:
    """It says of a delta that it is a thought; what goes back is a whole message."""
    fields = Fields()
    fields.take_message({"extra_content": {"google": {"thought": True}}})
    assert fields.build([]) is None
    fields.take_message({"extra_content": {"google": {"thought_signature": "s"}, "other": 1}})
    assert fields.build([]) == {
        "message": {"extra_content": {"google": {"thought_signature": "s"}, "other": 1}}
    }


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_opaque": "x" * (MAX_STATE_BYTES + 1)},
        {"reasoning_opaque": "é" * (MAX_STATE_BYTES // 2)},
        {"extra_content": {"a": "x" * MAX_STATE_BYTES}},
        {"extra_content": {"a": 2**70}},
        {"reasoning_details": [{"index": number} for number in range(999)]},
    ],
)
def test_too_much_is_not_kept(delta: dict[str, Any]) -> None:
    fields = Fields()
    fields.take_message(delta)
    if "reasoning_details" in delta:
        fields.take_message({"reasoning_details": [{"index": number} for number in range(999, 1100)]})
    fields.take_message({"reasoning_content": "hm"})
    with pytest.raises(StateTooLarge):
        fields.build([])


def test_too_many_blocks_are_not_kept() -> None:
    blocks = Blocks()
    for index in range(MAX_STATE_ITEMS + 1):
        blocks.take_block(index, {"type": "redacted_thinking", "data": "x"})
    with pytest.raises(StateTooLarge):
        blocks.build()


def test_blocks_that_say_nothing_else_are_no_state() -> None:
    blocks = Blocks()
    blocks.take_block(0, {"type": "text", "text": "x" * MAX_STATE_BYTES})
    blocks.take_block(1, {"type": "tool_use", "id": "1", "name": "f", "input": {}})
    assert blocks.build() is None


def state_of(events: list[Event]) -> Any:
    states = [event.state for event in events if isinstance(event, ProviderState)]
    assert len(states) <= 1
    return states[0] if states else None


def test_a_reply_with_nothing_of_it_has_none(asking: AskingMaker, provider: ScriptedProvider) -> None:
    provider.script(openai_stream("Hello", tool_calls=[("c", "f", "{}")]))
    assert state_of(asking().events()) is None


def test_fields_of_calls_stay_with_their_calls(asking: AskingMaker, provider: ScriptedProvider) -> None:
    def call(index: int, **fields: Any) -> bytes:
        function = {"name": f"f{index}", "arguments": "{}"}
        return openai_chunk(
            {"tool_calls": [{"index": index, "id": f"c{index}", "function": function, **fields}]}
        )

    provider.script(
        Reply(
            call(0),
            call(1, extra_content={"a": 1}),
            call(2, thought_signature="s"),
            openai_chunk({}, "stop"),
            DONE,
        )
    )
    assert state_of(asking().events()) == {
        "tool_calls": [{}, {"extra_content": {"a": 1}}, {"thought_signature": "s"}]
    }


def test_too_much_of_a_reply_is_reported_as_nothing(asking: AskingMaker, provider: ScriptedProvider) -> None:
    message = {"role": "assistant", "content": "Hi", "reasoning_opaque": "x" * (MAX_STATE_BYTES + 1)}
    provider.script(json_answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    assert state_of(asking().events()) == {}


def test_citations_of_a_text_are_kept_with_it(asking: AskingMaker, provider: ScriptedProvider) -> None:
    citation = {"type": "web_search_result_location", "url": "https://e.example", "encrypted_index": "x"}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    deltas = [
        {"type": "input_json_delta", "partial_json": '{"query": '},
        {"type": "input_json_delta", "partial_json": '"x"}'},
    ]
    text = [{"type": "text_delta", "text": "Rain."}, {"type": "citations_delta", "citation": citation}]
    provider.script(
        Reply(
            anthropic_event("message_start", message={}),
            anthropic_event("content_block_start", index=0, content_block=search),
            *(anthropic_event("content_block_delta", index=0, delta=delta) for delta in deltas),
            anthropic_event("content_block_stop", index=0),
            anthropic_event("content_block_start", index=1, content_block=found),
            anthropic_event("content_block_stop", index=1),
            anthropic_event("content_block_start", index=2, content_block={"type": "text", "text": ""}),
            *(anthropic_event("content_block_delta", index=2, delta=delta) for delta in text),
            anthropic_event("content_block_stop", index=2),
            anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
            anthropic_event("message_stop"),
        )
    )
    state = state_of(asking("anthropic").events())
    assert state == {
        "content": [
            {**search, "input": {"query": "x"}},
            found,
            {"type": "text", "text": "Rain.", "citations": [citation]},
        ]
    }
    assert json.loads(json.dumps(state)) == state
