"""Exports of Claude, Open WebUI and LibreChat: told apart by content, with branches, files and calls of tools."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from chat_api.transfer.formats import claude, librechat, open_webui
from chat_api.transfer.formats.assets import NO_ASSETS
from chat_api.transfer.formats.known import format_of
from chat_api.transfer.formats.open_webui import without_reasoning
from chat_api.transfer.formats.texts import time_of
from chat_api.transfer.records import Fault, Record
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.transfer.exports import imported, send
from tests.transfer.test_chatgpt import JSON, REALISTIC, ZIP, zipped

Value = dict[str, Any]
NO_PARENT = "00000000-0000-4000-8000-000000000000"


def said(uuid: str, sender: str, text: str, parent: str | None = None, **more: Any) -> Value:
    fields = {
        "uuid": uuid,
        "sender": sender,
        "text": text,
        "content": [{"type": "text", "text": text}],
        "created_at": "2025-05-01T10:00:00.5Z",
        "attachments": [],
        "files": [],
        **more,
    }
    return fields if parent is None else {**fields, "parent_message_uuid": parent}


def of_claude(*messages: Value, **more: Any) -> Value:
    return {
        "uuid": "c-1",
        "name": "Trip",
        "summary": "",
        "created_at": "2025-05-01T10:00:00Z",
        "updated_at": "2025-05-02T10:00:00Z",
        "account": {"uuid": "a"},
        "chat_messages": list(messages),
        **more,
    }


def of_open_webui(messages: dict[str, Value], current: str, **more: Any) -> Value:
    chat = {"title": "Trip", "models": ["m"], "history": {"messages": messages, "currentId": current}}
    return {
        "id": "w-1",
        "user_id": "u",
        "title": "Trip",
        "chat": chat,
        "created_at": 1746093600,
        "updated_at": 1746093700,
        "archived": False,
        "pinned": True,
        **more,
    }


def of_librechat(*messages: Value, **more: Any) -> Value:
    return {
        "conversationId": "l-1",
        "endpoint": "openAI",
        "title": "Trip",
        "exportAt": "10:00:00 GMT",
        "branches": True,
        "recursive": False,
        "options": {"model": "m"},
        "messages": list(messages),
        **more,
    }


CLAUDE = of_claude(
    said("1", "human", "Hello", NO_PARENT),
    said("2", "assistant", "Hi", "1"),
    said("3", "assistant", "Good day", "1"),
    said("4", "human", "And now?", "2"),
)
OPEN_WEBUI = of_open_webui(
    {
        "1": {
            "id": "1",
            "parentId": None,
            "childrenIds": ["2", "3"],
            "role": "user",
            "content": "Hello",
            "files": [{"type": "file", "name": "plan.pdf"}, {"type": "image", "url": "data:"}],
            "timestamp": 1746093600,
        },
        "2": {
            "id": "2",
            "parentId": "1",
            "childrenIds": [],
            "role": "assistant",
            "timestamp": 1746093601,
            "content": '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n</details>\nHi',
        },
        "3": {"id": "3", "parentId": "1", "childrenIds": [], "role": "assistant", "content": "Good day"},
    },
    "2",
)
LIBRECHAT = of_librechat(
    {
        "messageId": "1",
        "parentMessageId": "00000000-0000-0000-0000-000000000000",
        "isCreatedByUser": True,
        "text": "Weather?",
        "createdAt": "2025-05-01T10:00:00.000Z",
        "files": [{"filename": "map.png", "type": "image/png"}],
    },
    {
        "messageId": "2",
        "parentMessageId": "1",
        "isCreatedByUser": False,
        "text": "",
        "createdAt": "2025-05-01T10:00:01Z",
        "content": [
            {"type": "think", "think": "hm"},
            {"type": "text", "text": {"value": "Looking."}},
            {
                "type": "tool_call",
                "tool_call": {"id": "c1", "name": "weather", "args": '{"at":"Lisbon"}', "output": "sun"},
            },
            {"type": "text", "text": "It is sunny."},
        ],
    },
    {
        "messageId": "3",
        "parentMessageId": "2",
        "isCreatedByUser": True,
        "text": "Thanks",
        "createdAt": "2025-05-01T10:00:02Z",
    },
)


def read(source: Value) -> tuple[Value, list[Value]]:
    """The fields of the conversation and of its messages."""
    found = format_of(source)
    assert found is not None
    first, *others = found.read(copy.deepcopy(source), 1, NO_ASSETS)
    assert isinstance(first, Record), first
    return first.fields, [other.fields for other in others if isinstance(other, Record)]


def tree(source: Value) -> list[tuple[int | None, str, str]]:
    """Of each message the position of its parent, its role and its text."""
    _, messages = read(source)
    positions = {fields["id"]: fields["position"] for fields in messages}
    return [(positions.get(fields["parent_id"]), fields["role"], fields["content"]) for fields in messages]


@pytest.mark.parametrize(
    ("source", "name"),
    [(REALISTIC, "chatgpt"), (CLAUDE, "claude"), (OPEN_WEBUI, "open-webui"), (LIBRECHAT, "librechat")],
)
def test_formats_are_told_apart_by_content(ada: Api, source: Value, name: str) -> None:
    """Alone, in an array, in a member, in an object with others before it, and in a zip."""
    texts = {
        "alone": json.dumps(source, indent=1),
        "alone with a byte order mark": "\ufeff" + json.dumps(source),
        "array": json.dumps([source]),
        "member": json.dumps({"conversations": [source], "user": {"id": 1}}),
        "member after others": json.dumps({"user": {"id": 1}, "version": 2, "conversations": [source]}),
    }
    counts = []
    for text in texts.values():
        report = imported(ada, text.encode(), JSON)
        assert (report["format"], report["errors"]) == (name, []), report
        counts.append(report["conversations"]["imported"])
    assert counts == [1, 0, 0, 0, 0]
    content = zipped({"export/conversations.json": json.dumps([source]).encode(), "users.json": b"[]"})
    assert imported(ada, content, ZIP)["format"] == name
    [listed] = ada.get("/chat/conversations").get_json()
    assert listed["title"] in ("Trip", "Trip to Lisbon")


def test_unknown_format_is_answered_with_the_known_ones(ada: Api) -> None:
    for source in ([{"prompt": "Hi"}], {"prompt": "Hi", "nodes": [1]}, [], [[CLAUDE]]):
        response = send(ada, json.dumps(source).encode(), JSON)
        if not source:
            assert response.get_json()["format"] is None
            continue
        detail = assert_problem(response, 400)["detail"]
        for product in ("ChatGPT", "Claude", "Open WebUI", "LibreChat"):
            assert product in detail
    detail = assert_problem(send(ada, b"Hello", JSON), 400)["detail"]
    assert "Claude" in detail
    report = imported(ada, json.dumps([CLAUDE, {"prompt": "Hi"}, OPEN_WEBUI]).encode(), JSON)
    assert report["conversations"]["imported"] == 2
    assert "LibreChat" in report["errors"][0]["detail"]
    assert report["errors"][0]["line"] == 2


def test_many_conversations_in_a_member_are_read_one_by_one(ada: Api) -> None:
    """The object as a whole may be larger than a conversation may be."""
    sources = [of_claude(said("1", "human", "x" * 900_000), uuid=f"c-{number}") for number in range(20)]
    report = imported(ada, json.dumps({"version": 1, "conversations": sources, "more": []}).encode(), JSON)
    assert (report["conversations"]["imported"], report["errors"]) == (20, [])


# -- Claude ------------------------------------------------------------------------------------------------------


def test_claude_with_branches_and_without() -> None:
    assert tree(CLAUDE) == [
        (None, "user", "Hello"),
        (1, "assistant", "Hi"),
        (1, "assistant", "Good day"),
        (2, "user", "And now?"),
    ]
    first, messages = read(CLAUDE)
    assert first["active_leaf_id"] == messages[3]["id"]
    assert first["created_at"] == datetime(2025, 5, 1, 10, tzinfo=UTC)
    assert messages[0]["created_at"] == datetime(2025, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC)
    other, messages = read(CLAUDE | {"current_leaf_message_uuid": "3"})
    assert (other["active_leaf_id"], other["id"]) == (messages[2]["id"], first["id"])
    linear = of_claude(said("1", "human", "a"), said("2", "assistant", "b"), said("3", "human", "c"))
    assert tree(linear) == [(None, "user", "a"), (1, "assistant", "b"), (2, "user", "c")]


def test_files_of_claude_are_in_the_text() -> None:
    attached = [{"file_name": "plan.txt", "file_type": "txt", "extracted_content": "Day 1: the sea"}]
    source = of_claude(
        said("1", "human", "Sum this up", attachments=attached, files=[{"file_name": "sea.png"}]),
        said("2", "human", "", content=[], attachments=attached),
    )
    assert tree(source) == [
        (None, "user", "[file: plan.txt]\nDay 1: the sea\n\n[file: sea.png]\n\nSum this up"),
        (1, "user", "[file: plan.txt]\nDay 1: the sea"),
    ]


def test_long_attachment_is_cut_and_counted(ada: Api) -> None:
    long = [{"file_name": f"{n}.txt", "extracted_content": "ä" * 400_000} for n in range(3)]
    source = of_claude(said("1", "human", "Sum this up", attachments=long))
    report = imported(ada, json.dumps([source]).encode(), JSON)
    assert (report["messages"]["imported"], report["parts_omitted"]) == (1, 2)
    assert "not understood, or were too long" in report["notes"][0]
    [listed] = ada.get("/chat/conversations").get_json()
    [message] = ada.get(f"/chat/conversations/{listed['id']}/messages").get_json()
    assert message["content"].endswith("Sum this up")
    assert "[cut off here" in message["content"]


def test_tools_of_claude_can_be_continued(ada: Api) -> None:
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "name": "web_search", "input": {"query": "weather"}},
        {
            "type": "tool_result",
            "name": "web_search",
            "content": [
                {"type": "knowledge", "title": "Weather", "url": "https://w.example"},
                {"type": "text", "text": "sun"},
            ],
        },
        {"type": "text", "text": "It is sunny."},
        {"type": "hologram", "x": 1},
    ]
    source = of_claude(
        said("1", "human", "Weather?", NO_PARENT),
        said("2", "assistant", "It is sunny.", "1", content=content),
        said("3", "human", "Thanks", "2"),
    )
    assert tree(source) == [
        (None, "user", "Weather?"),
        (1, "assistant", "Looking."),
        (2, "tool", "Weather https://w.example\nsun"),
        (3, "assistant", "It is sunny.\n\n[not imported: hologram]"),
        (4, "user", "Thanks"),
    ]
    _, messages = read(source)
    [call] = messages[1]["tool_calls"]
    assert (call["name"], json.loads(call["arguments"])) == ("web_search", {"query": "weather"})
    assert messages[2]["tool_call_id"] == call["id"]
    report = imported(ada, json.dumps([source]).encode(), JSON)
    assert (report["parts_omitted"], report["messages"]["imported"]) == (1, 5)
    sent = preview(ada)
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]


def preview(user: Api) -> list[Value]:
    """The messages that a provider would get of the only conversation."""
    [listed] = user.get("/chat/conversations").get_json()
    provider = user.provider(api_endpoint="https://p.example/v1")["id"]
    user.config(provider)
    body = {"conversation_id": listed["id"], "provider_id": provider, "model": "m"}
    answer = user.post("/chat/completions/preview", body).get_json()
    messages: list[Value] = answer["request"]["body"]["messages"]
    return messages


def test_what_an_artifact_of_claude_holds_is_kept() -> None:
    content = [{"type": "tool_use", "id": "t", "name": "artifacts", "input": {"content": "# The plan"}}]
    _, messages = read(of_claude(said("1", "assistant", "", content=content)))
    assert "# The plan" in messages[0]["tool_calls"][0]["arguments"]


# -- Open WebUI and LibreChat ----------------------------------------------------------------------------------------


def test_open_webui() -> None:
    assert tree(OPEN_WEBUI) == [
        (None, "user", "Hello\n[file: plan.pdf]\n[image]"),
        (1, "assistant", "Good day"),
        (1, "assistant", "Hi"),
    ]
    first, messages = read(OPEN_WEBUI)
    assert (first["pinned"], first["active_leaf_id"]) == (True, messages[2]["id"])
    alone = OPEN_WEBUI["chat"] | {"timestamp": 1746093600000}
    first, messages = read(alone)
    assert first["created_at"] == datetime(2025, 5, 1, 10, tzinfo=UTC)
    del alone["history"]["messages"]["3"]["parentId"]
    assert (1, "assistant", "Good day") in tree(alone)


def test_librechat_as_a_list_and_nested() -> None:
    expected = [
        (None, "user", "Weather?\n\n[image: map.png]"),
        (1, "assistant", "Looking."),
        (2, "tool", "sun"),
        (3, "assistant", "It is sunny."),
        (4, "user", "Thanks"),
    ]
    assert tree(LIBRECHAT) == expected
    one, two, three = copy.deepcopy(LIBRECHAT["messages"])
    for each in (one, two, three):
        del each["parentMessageId"]
    nested = of_librechat({**one, "children": [{**two, "children": [three]}]}, recursive=True)
    assert tree(nested) == expected
    assert tree({**nested, "messages": None} | {"messages": nested["messages"]}) == expected
    first, messages = read(nested)
    assert [first["id"], *(fields["id"] for fields in messages)] == [
        fields["id"] for fields in (read(LIBRECHAT)[0], *read(LIBRECHAT)[1])
    ]
    assert first["active_leaf_id"] == messages[4]["id"]


# -- whatever stands in them ---------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 2**70)
    | st.floats()
    | st.sampled_from(["", "1", "2", "text", "\ud800\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "content",
                    "uuid",
                    "sender",
                    "id",
                    "name",
                    "files",
                    "attachments",
                    "children",
                    "value",
                    "messageId",
                    "parentMessageId",
                    "parentId",
                    "role",
                    "tool_call",
                    "args",
                    "output",
                    "input",
                    "timestamp",
                    "parent_message_uuid",
                    "created_at",
                    "createdAt",
                    "file_name",
                    "extracted_content",
                    "currentId",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
TYPED = st.sampled_from(["text", "tool_use", "tool_result", "tool_call", "think", "image_file", "knowledge"])
PART = st.builds(
    lambda kind, value: {**value, "type": kind} if isinstance(value, dict) else value, TYPED, JSON_VALUES
)
MESSAGE = st.builds(
    lambda value, parts: {**value, "content": parts} if isinstance(value, dict) else value,
    JSON_VALUES,
    st.lists(PART, max_size=3),
)


# conversations as they stand in the file of a product
PRODUCTS: dict[str, Callable[[list[Any], Any], Value]] = {
    "claude": lambda messages, value: {
        "uuid": value,
        "name": value,
        "created_at": value,
        "chat_messages": messages,
    },
    "open_webui": lambda messages, value: {
        "chat": {"history": {"messages": dict(zip("1234", messages, strict=False)), "currentId": value}},
        "title": value,
    },
    "librechat": lambda messages, value: {"conversationId": "1", "title": value, "messages": messages},
}


@hypothesis.settings(deadline=None)
@hypothesis.given(messages=st.lists(MESSAGE, max_size=4), value=JSON_VALUES)
def test_whatever_stands_in_them_can_be_read(messages: list[Any], value: Any) -> None:
    for module in (claude, open_webui, librechat):
        source = PRODUCTS[module.__name__.rpartition(".")[2]](messages, value)
        assert module.is_conversation(source)
        first, *others = module.read_conversation(copy.deepcopy(source), 1)
        if isinstance(first, Fault):
            continue
        seen: set[str] = set()
        for record in others:
            fields = record.fields
            assert fields["parent_id"] is None or fields["parent_id"] in seen
            assert fields["id"] not in seen
            seen.add(fields["id"])
            assert "\x00" not in fields["content"]
            json.dumps(fields["content"]).encode()
            fields["content"].encode()
            assert fields["content"].strip() or "tool_calls" in fields or "tool_call_id" in fields
        again = module.read_conversation(copy.deepcopy(source), 1)
        assert [record.fields["id"] for record in again] == [
            record.fields["id"] for record in (first, *others)
        ]


def test_very_deep_and_circular_trees_need_no_recursion() -> None:
    deep = [said(str(n), "human", "x", str(n - 1)) for n in range(20_000)]
    assert len(tree(of_claude(*deep))) == 20_000
    circle = [said("1", "human", "x", "2"), said("2", "human", "y", "1")]
    assert len(tree(of_claude(*circle))) == 2
    [fault] = librechat.read_conversation(of_librechat(*({"messageId": str(n)} for n in range(50_001))), 1)
    assert isinstance(fault, Fault)


def test_reasoning_is_found_in_one_pass() -> None:
    begin = '<details type="reasoning" done="true">'
    assert without_reasoning(f"a {begin}x</details> b {begin}y</details>") == "a  b"
    assert without_reasoning(begin + "x") == begin + "x"
    assert without_reasoning("<details>x</details>") == "<details>x</details>"
    assert without_reasoning(begin * 100_000).startswith(begin)


@pytest.mark.parametrize(
    "value",
    [
        "2025-05-01T10:00:00Z",
        "2025-05-01T12:00:00.000+02:00",
        "2025-05-01 10:00:00",
        1746093600,
        1746093600.0,
        "1746093600",
        1746093600000,
        "1746093600000.0",
        1746093600000000,
    ],
)
def test_times_in_every_notation(value: Any) -> None:
    assert time_of(value) == datetime(2025, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        float("nan"),
        float("inf"),
        pytest.param(10**400, id="huge"),
        "1e999",
        "nan",
        "",
        "x",
        "0001-01-01T00:00:00+14:00",
        [],
        pytest.param("9" * 50, id="long"),
    ],
)
def test_what_is_no_time(value: Any) -> None:
    assert time_of(value) is None
