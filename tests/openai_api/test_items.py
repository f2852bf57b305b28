"""Items and messages: what a client sends becomes messages, and messages become items with ids that stay."""

from typing import Any

import orjson
import pytest

from chat_api.completions.reply_log import Chunk
from chat_api.completions.turns import Draft
from chat_api.openai_api import ids
from chat_api.openai_api.errors import RequestRefused
from chat_api.openai_api.items_in import drafts_of, references_in
from chat_api.openai_api.items_out import find_item, message_items, reply_items

MESSAGE_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"
HEX = MESSAGE_ID.replace("-", "")
CALL = {"id": "call_1", "name": "get_weather", "arguments": '{"city":"Lisbon"}'}


def call_sent(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "get_weather", "arguments": "{}"}


def result_sent(call_id: str = "call_1", output: Any = "28") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def call_of(call_id: str) -> dict[str, str]:
    return {"id": call_id, "name": "get_weather", "arguments": "{}"}


def message(role: str, content: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"id": MESSAGE_ID, "role": role, "content": content, "status": "completed", **fields}


# -- in -------------------------------------------------------------------------------------------------------


def test_a_text_is_the_users() -> None:
    assert drafts_of("Hi") == [Draft("user", "Hi")]


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
def test_messages_keep_their_role(role: str) -> None:
    parts = [{"type": "input_text", "text": "One"}, {"type": "output_text", "text": "Two"}]
    sent = [{"role": role, "content": "Hi"}, {"type": "message", "role": role, "content": parts, "id": "x"}]
    assert drafts_of(sent) == [Draft(role, "Hi"), Draft(role, "One\n\nTwo")]


def test_a_refusal_is_a_text() -> None:
    sent = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]
    assert drafts_of(sent) == [Draft("assistant", "No.")]


def test_calls_belong_to_the_message_before_them() -> None:
    sent = [{"role": "assistant", "content": "Let me see."}, call_sent("a"), call_sent("b")]
    assert drafts_of(sent) == [Draft("assistant", "Let me see.", [call_of("a"), call_of("b")])]


def test_calls_after_anything_else_are_a_message() -> None:
    sent = [
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        call_sent("a"),
        result_sent("a"),
        call_sent("b"),
        result_sent("b", [{"type": "input_text", "text": "1"}, {"type": "input_text", "text": "2"}]),
    ]
    assert drafts_of(sent) == [
        Draft("user", "Weather?"),
        Draft("assistant", "", [call_of("a")]),
        Draft("tool", "28", tool_call_id="a"),
        Draft("assistant", "", [call_of("b")]),
        Draft("tool", "1\n\n2", tool_call_id="b"),
    ]


def test_references_are_read_as_what_they_name() -> None:
    items = message_items(message("assistant", "Let me see.", tool_calls=[CALL]))
    sent = [{"type": "item_reference", "id": item["id"]} for item in items]
    wanted = references_in(sent)
    assert {item.message_id for item in wanted.values()} == {MESSAGE_ID}
    assert drafts_of(sent, referred={item["id"]: item for item in items}) == [
        Draft("assistant", "Let me see.", [CALL])
    ]


def test_what_references_add_is_bounded() -> None:
    [item] = message_items(message("assistant", "x" * 1024 * 1024))
    sent = [{"type": "item_reference", "id": item["id"]}] * 17
    assert len(drafts_of(sent[:15], referred={item["id"]: item})) == 15
    with pytest.raises(RequestRefused, match="bytes") as raised:
        drafts_of(sent, referred={item["id"]: item})
    assert raised.value.extra["param"] == "input[15]"


@pytest.mark.parametrize("named", ["msg_019ab2c45d6e7f809a1b2c3d4e5f6099", "nothing", 7, None])
def test_a_reference_to_nothing(named: Any) -> None:
    sent = [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": named}]
    with pytest.raises(RequestRefused) as raised:
        drafts_of(sent, referred={name: {} for name in references_in(sent) if not name})
    assert (raised.value.status, raised.value.code) == (404, "item_not_found")
    assert raised.value.extra["param"] == "input[1]"


def test_a_compaction_is_its_summary() -> None:
    sent = [{"type": "compaction", "encrypted_content": "sealed"}]
    assert drafts_of(sent, open_compaction=lambda sealed: f"opened {sealed}") == [
        Draft("system", "opened sealed")
    ]
    with pytest.raises(RequestRefused) as raised:
        drafts_of(sent, open_compaction=lambda sealed: None)
    assert raised.value.extra["param"] == "input[0].encrypted_content"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("text", ".type"),
        ({}, ".type"),
        ({"type": "web_search_call"}, ".type"),
        ({"type": ["message"]}, ".type"),
        ({"role": "tool", "content": "x"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, ".content[0].type"),
        ({"role": "user", "content": ["x"]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, ".content[0].text"),
        ({**call_sent(), "arguments": {}}, ".arguments"),
        ({**call_sent(), "call_id": ""}, ".call_id"),
        ({**call_sent(), "name": None}, ".name"),
        ({**result_sent(), "output": 28}, ".output"),
        ({**result_sent(), "call_id": "c" * 256}, ".call_id"),
    ],
)
def test_faulty_items_are_named(item: Any, param: str) -> None:
    with pytest.raises(RequestRefused) as raised:
        drafts_of([{"role": "user", "content": "Hi"}, item], "items")
    assert (raised.value.status, raised.value.extra["param"]) == (400, f"items[1]{param}")


def test_lists_that_are_none_or_too_long() -> None:
    for sent, most in (({"role": "user"}, None), ([call_sent()] * 21, 20)):
        with pytest.raises(RequestRefused) as raised:
            drafts_of(sent, "items", most=most)
        assert raised.value.extra["param"] == "items"


# -- out ------------------------------------------------------------------------------------------------------


def test_messages_of_others() -> None:
    for role in ("user", "system", "developer"):
        [item] = message_items(message(role))
        assert item == {
            "id": f"msg_{HEX}",
            "type": "message",
            "status": "completed",
            "role": role,
            "content": [{"type": "input_text", "text": "Hi"}],
        }


def test_a_result_of_a_tool() -> None:
    [item] = message_items(message("tool", "28", tool_call_id="call_1"))
    assert item == {
        "id": f"fco_{HEX}",
        "type": "function_call_output",
        "status": "completed",
        "call_id": "call_1",
        "output": "28",
    }


def test_text_before_calls_where_nothing_says_otherwise() -> None:
    text, call = message_items(message("assistant", tool_calls=[CALL]))
    assert (text["id"], text["role"]) == (f"msg_{HEX}", "assistant")
    assert text["content"] == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]
    assert call == {
        "id": f"fc_{HEX}_1",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "get_weather",
        "arguments": CALL["arguments"],
    }
    assert [item["id"] for item in message_items(message("assistant", "", tool_calls=[CALL]))] == [
        f"fc_{HEX}_0"
    ]
    [empty] = message_items(message("assistant", ""))
    assert empty["content"][0]["text"] == ""


def test_a_reply_in_the_order_of_its_log() -> None:
    chunks = [
        Chunk("reasoning", "Hm"),
        Chunk("text", "See "),
        Chunk("source", "{}"),
        Chunk("text", "this."),
        Chunk("tool_call", orjson.dumps(CALL).decode()),
        Chunk("tool_call", orjson.dumps(CALL).decode()),
        Chunk("reasoning", "Hm again"),
        Chunk("text", "Well."),
    ]
    items = reply_items(MESSAGE_ID, chunks, status="cancelled")
    assert [item["id"] for item in items] == [
        f"rs_{HEX}", f"msg_{HEX}", f"fc_{HEX}_2", f"fc_{HEX}_3", f"rs_{HEX}_4", f"msg_{HEX}_5"
    ]  # fmt: skip
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert items[0]["summary"] == []
    assert items[1]["content"][0]["text"] == "See this."
    assert [item["status"] for item in items] == ["completed"] * 5 + ["incomplete"]
    assert items == message_items(message("assistant", status="cancelled"), chunks)


def test_attachments_stand_where_they_were_put() -> None:
    parts = [{"type": "attachment", "attachment_id": "1"}, {"type": "text", "text": "What is it?"}]
    shown = {"1": {"type": "input_image", "detail": "auto", "image_url": "https://i.example"}}
    [item] = message_items(message("user", "What is it?", parts=parts), shown=shown)
    assert [part["type"] for part in item["content"]] == ["input_image", "input_text"]
    [item] = message_items(message("user"), shown=shown)
    assert [part["type"] for part in item["content"]] == ["input_text", "input_image"]
    [item] = message_items(message("user", "What is it?", parts=parts))
    assert [part["type"] for part in item["content"]] == ["input_text"]


def test_items_are_read_back_as_the_message() -> None:
    for sent in (message("assistant", tool_calls=[CALL]), message("user"), message("tool", tool_call_id="1")):
        [draft] = drafts_of(message_items(sent))
        assert (draft.role, draft.content) == (sent["role"], "Hi")
        assert [*draft.tool_calls] == sent.get("tool_calls", [])
        assert draft.tool_call_id == sent.get("tool_call_id")


@pytest.mark.parametrize(
    ("named", "index"),
    [
        (f"msg_{HEX}", 0),
        (f"msg_{MESSAGE_ID}".replace("-", "").upper().replace("MSG_", "msg_"), 0),
        (f"msg_{MESSAGE_ID}", 0),
        (HEX, 0),
        (f"fc_{HEX}_1", 1),
        (f"{HEX}_1", 1),
        (f"fc_{HEX}", None),
        (f"fc_{HEX}_2", None),
        (f"rs_{HEX}", None),
        ("msg_019ab2c45d6e7f809a1b2c3d4e5f6099", None),
        ("msg_", None),
    ],
)
def test_items_are_found_by_what_clients_write(named: str, index: int | None) -> None:
    items = message_items(message("assistant", tool_calls=[CALL]))
    assert find_item(items, named) == (None if index is None else items[index])


def test_ids_are_read_liberally() -> None:
    for text in (HEX, MESSAGE_ID, f"resp_{HEX}", f"chatcmpl-{HEX.upper()}", f"conv_{MESSAGE_ID}"):
        assert ids.read(text) == MESSAGE_ID
    for text in ("", "resp_", f"resp_{HEX}0", f"msg_{HEX}", "resp_" + "g" * 32):
        assert ids.read(text) is None
