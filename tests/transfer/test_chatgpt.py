"""Exports of ChatGPT: their trees become branches, whatever is odd about them."""

import copy
import hashlib
import io
import json
import time
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from chat_api.transfer.formats.chatgpt import read_conversation
from chat_api.transfer.formats.ids import id_at
from chat_api.transfer.formats.known import format_of, unknown
from chat_api.transfer.records import Record
from chat_api.web.fields import is_uuid
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.tables import owned_rows
from tests.transfer.exports import imported, rows_of, send

JSON, ZIP = "application/json", "application/zip"
BEGAN = 1_763_890_200.12
Node = dict[str, Any]


def node(
    key: str,
    parent: str | None,
    text: Any = None,
    role: str = "user",
    at: float | None = None,
    **message: Any,
) -> tuple[str, Node]:
    """A node of the tree; without a text it has no message."""
    content = {"content_type": "text", "parts": [text]} if isinstance(text, str) else text
    said = {
        "id": f"message-{key}",
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": at,
        "update_time": None,
        "content": content,
        "status": "finished_successfully",
        "end_turn": True,
        "weight": 1.0,
        "metadata": {"model_slug": "gpt-5"},
        "recipient": "all",
        "channel": None,
        **message,
    }
    return key, {"id": key, "message": said if text is not None else None, "parent": parent, "children": []}


def conversation(*nodes: tuple[str, Node], current: str | None = None, **fields: Any) -> Node:
    """A conversation as ChatGPT exports it."""
    mapping = dict(nodes)
    for key, value in mapping.items():
        if value["parent"] in mapping:
            mapping[value["parent"]]["children"].append(key)
    return {
        "title": "Trip to Lisbon",
        "create_time": BEGAN,
        "update_time": BEGAN + 100,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": current or list(mapping)[-1],
        "plugin_ids": None,
        "conversation_id": "6922d0a8-1234-8000-8000-0123456789ab",
        "gizmo_id": None,
        "is_archived": False,
        "default_model_slug": "gpt-5",
        "id": "6922d0a8-1234-8000-8000-0123456789ab",
        **fields,
    }


HIDDEN = {"is_visually_hidden_from_conversation": True}
REALISTIC = conversation(
    node("root", None),
    node("system", "root", "", role="system"),
    node("profile", "system", {"content_type": "user_editable_context", "user_profile": "likes fish"}, metadata=HIDDEN),
    node("ask", "profile", "Where should I eat?", at=BEGAN + 1),
    node("answer", "ask", "At the market.", role="assistant", at=BEGAN + 2),
    node("again", "ask", "By the river.", role="assistant", at=BEGAN + 9),
    node("edited", "profile", "Where should I sleep?", at=BEGAN + 20),
    node("thinks", "edited", {"content_type": "thoughts", "thoughts": []}, role="assistant", at=BEGAN + 21),
    node("code", "thinks", {"content_type": "code", "text": "print(1)"}, role="assistant", at=BEGAN + 22),
    node("result", "code", {"content_type": "execution_output", "text": "1"}, role="tool", at=BEGAN + 23),
    node(
        "picture",
        "result",
        {
            "content_type": "multimodal_text",
            "parts": [
                {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-abc", "size_bytes": 1},
                "This one.",
                {"content_type": "audio_transcription", "text": "Listen."},
                {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_0f"},
            ],
        },
        role="assistant",
        at=BEGAN + 24,
    ),
    current="picture",
)  # fmt: skip


def records(source: Any) -> tuple[Record, list[Record]]:
    """The conversation and its messages."""
    first, *others = read_conversation(copy.deepcopy(source), 1)  # which does not keep what it has read
    assert isinstance(first, Record), first
    assert all(isinstance(other, Record) for other in others)
    return first, others  # type: ignore[return-value]


def tree(source: Any) -> list[tuple[int | None, str, str]]:
    """Of each message the position of its parent, its role and its text."""
    _, messages = records(source)
    places = {message.fields["id"]: message.fields["position"] for message in messages}
    assert [message.fields["position"] for message in messages] == list(range(1, len(messages) + 1))
    found = []
    for message in messages:
        fields = message.fields
        assert is_uuid(fields["id"])
        parent = places.get(fields["parent_id"]) if fields["parent_id"] else None
        assert parent is None or parent < fields["position"]
        found.append((parent, fields["role"], fields["content"]))
    return found


def test_branches_hidden_nodes_and_files() -> None:
    assert tree(REALISTIC) == [
        (None, "user", "Where should I eat?"),
        (1, "assistant", "At the market."),
        (1, "assistant", "By the river."),
        (None, "user", "Where should I sleep?"),
        (4, "assistant", "print(1)"),
        (5, "tool", "1"),
        (6, "assistant", "[image: file-abc]\nThis one.\nListen.\n[audio: file_0f]"),
    ]
    first, messages = records(REALISTIC)
    assert first.fields["active_leaf_id"] == messages[-1].fields["id"]
    assert (first.fields["title"], first.fields["archived"]) == ("Trip to Lisbon", False)
    assert first.fields["created_at"].timestamp() == BEGAN
    assert messages[1].fields["created_at"].timestamp() == BEGAN + 2


def test_import_of_conversations_json(app: Flask, ada: Api) -> None:
    other = conversation(node("a", None, "Hi"), conversation_id="other", title=None, is_archived=True)
    content = json.dumps([REALISTIC, other]).encode()
    report = imported(ada, content, JSON)
    assert (report["format"], report["conversations"]["imported"], report["messages"]["imported"]) == (
        "chatgpt",
        2,
        8,
    )
    [listed] = ada.get("/chat/conversations").get_json()
    path = f"/chat/conversations/{listed['id']}/messages"
    assert [said["content"] for said in ada.get(path).get_json()][:2] == ["Where should I sleep?", "print(1)"]
    assert len(ada.get(path + "?branch=all").get_json()) == 7
    [archived] = ada.get("/chat/conversations?archived=true").get_json()
    assert archived["title"] == "Untitled"
    before = rows_of(app, ada.user_id)
    for again in (content, json.dumps([other, REALISTIC], indent=2).encode()):
        assert imported(ada, again, JSON)["conversations"] == {
            "imported": 0,
            "updated": 0,
            "unchanged": 2,
            "failed": 0,
        }
    assert rows_of(app, ada.user_id) == before


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def numbered(number: int) -> bytes:
    source = conversation(
        node("a", None, f"Number {number}"), conversation_id=f"c{number}", title=str(number)
    )
    return json.dumps([source]).encode()


def test_import_of_a_zip_with_several_files(ada: Api) -> None:
    members = {f"export/conversations-{number:03}.json": numbered(number) for number in (2, 0, 1)}
    members |= {
        "export/chat.html": b"<html>",
        "../../conversations.json.exe": b"x",
        "file-abc.png": b"PNG",
        "__MACOSX/export/._conversations-000.json": b"\0",
        "export/shared_conversations.json": b"[]",
    }
    report = imported(ada, zipped(members), ZIP)
    assert report["conversations"] == {"imported": 3, "updated": 0, "unchanged": 0, "failed": 0}
    assert not report["errors"]
    for name in ("conversations.json", "../../../tmp/conversations.json", "C:\\x\\Conversations.JSON"):
        assert (
            imported(ada, zipped({name: numbered(0)}, zipfile.ZIP_STORED), ZIP)["conversations"]["unchanged"]
            == 1
        )


def test_broken_member_does_not_keep_the_others_from_being_read(ada: Api) -> None:
    cut = numbered(1)[:-20]
    report = imported(ada, zipped({"conversations-0.json": cut, "conversations-1.json": numbered(2)}), ZIP)
    assert report["conversations"]["imported"] == 1
    assert [error["line"] for error in report["errors"]] == [1]


def test_zip_bomb_is_stopped(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MAX_IMPORT_BYTES", 1_000_000)
    bomb = zipped({"conversations.json": b"[" + b" " * 50_000_000 + b"]"})
    assert len(bomb) < 100_000
    assert "unpacks" in assert_problem(send(ada, bomb, ZIP), 400)["detail"]
    late = zipped(
        {"conversations-0.json": numbered(1), "conversations-1.json": b"[" + b" " * 50_000_000 + b"]"}
    )
    report = imported(ada, late, ZIP)
    assert report["conversations"]["imported"] == 1
    assert "unpacks" in report["errors"][0]["detail"]


def test_zip_with_a_huge_directory_is_refused(ada: Api) -> None:
    many = zipped({f"{number:0120}": b"" for number in range(60_000)}, zipfile.ZIP_STORED)
    assert "directory" in assert_problem(send(ada, many, ZIP), 400)["detail"]


def test_odd_zips_are_refused(ada: Api) -> None:
    good = zipped({"conversations.json": numbered(1)})
    stored = zipped({"conversations.json": numbered(1)}, zipfile.ZIP_STORED)
    encrypted = bytearray(good)
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    cases = [good[:-10], good[:20], zipped({}), zipped({"a.json": b"[]"}), bytes(encrypted),
             zipped({"conversations.json": numbered(1)}, zipfile.ZIP_BZIP2), stored.replace(b"Number", b"Nombre"),
             zipped({"conversations.json": b"{}"}), zipped({"conversations.json": b""})]  # fmt: skip
    for content in cases:
        assert_problem(send(ada, content, ZIP), 400)


# -- what is odd about trees ---------------------------------------------------------------------------------------


def test_unknown_parents_circles_and_several_roots() -> None:
    source = conversation(
        node("a", "nowhere", "a", at=BEGAN + 1),
        node("b", None, "b", at=BEGAN + 2),
        node("x", "z", "x", at=BEGAN + 3),
        node("y", "x", "y", at=BEGAN + 4),
        node("z", "y", "z", at=BEGAN + 5),
        node("self", "self", "self", at=BEGAN + 6),
        node("h1", "h2"),
        node("h2", "h1"),
        node("below", "h1", "below", at=BEGAN + 7),
    )
    found = tree(source)
    assert sorted(text for _, _, text in found) == sorted(["a", "b", "x", "y", "z", "self", "below"])
    assert (None, "user", "a") in found
    assert (None, "user", "below") in found


def test_very_deep_tree_needs_no_recursion() -> None:
    depth = 50_000
    nodes = [node(str(i), str(i - 1) if i else None, "x" if i % 2 else None) for i in range(depth)]
    found = tree(conversation(*nodes))
    assert len(found) == depth // 2
    assert [parent for parent, _, _ in found[1:]] == list(range(1, depth // 2))


def test_children_stand_in_for_a_missing_parent() -> None:
    source = conversation(node("a", None, "a"), node("b", "a", "b"))
    del source["mapping"]["b"]["parent"]
    assert tree(source) == [(None, "user", "a"), (1, "user", "b")]


def test_missing_times_are_those_of_what_is_answered() -> None:
    source = conversation(
        node("a", None, "a", at=BEGAN + 5),
        node("b", "a", "b"),
        node("c", "b", "c", at=BEGAN + 1),
        create_time=None,
        update_time=None,
    )
    first, messages = records(source)
    assert first.fields["created_at"].timestamp() == BEGAN + 1
    assert [said.fields["created_at"].timestamp() for said in messages] == [BEGAN + 5, BEGAN + 5, BEGAN + 1]
    assert first.fields["updated_at"].timestamp() == BEGAN + 5
    timeless = conversation(node("a", None, "a"), create_time="yesterday", update_time=float("1e300"))
    assert records(timeless)[0].fields["created_at"].year == 1970


def test_current_node_that_is_hidden_or_gone() -> None:
    for current, leaf in (("hidden", "a"), ("nowhere", None), ("root", None)):
        source = conversation(
            node("root", None),
            node("a", "root", "a"),
            node("hidden", "a", "h", metadata=HIDDEN),
            current=current,
        )
        first, messages = records(source)
        assert first.fields["active_leaf_id"] == (messages[0].fields["id"] if leaf else None)


def test_text_that_can_not_be_stored_is_mended(ada: Api) -> None:
    raw = json.dumps(
        [conversation(node("a", None, "a\x00b\ud83d\ude00c\ud83dd"), title="\ud800" + "t" * 300)]
    ).encode()
    assert not imported(ada, raw, JSON)["errors"]
    [listed] = ada.get("/chat/conversations").get_json()
    assert listed["title"] == "\ufffd" + "t" * 254
    [said] = ada.get(f"/chat/conversations/{listed['id']}/messages").get_json()
    assert said["content"] == "ab😀c\ufffdd"


def test_unknown_roles_and_odd_contents() -> None:
    source = conversation(
        node("a", None, "a", role="critic"),
        node("b", None, {"content_type": "text", "parts": [None, 7, ["x"], {"x": 1}, {"content_type": "hologram"}]}),
        node("c", None, {"content_type": "text"}),
        node("d", None, {"content_type": "tether_browsing_display", "result": "found"}, role="tool"),
        node("e", None, {"content_type": "multimodal_text", "parts": [
            {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": {"asset_pointer": "sediment://f"}}]}),
        node("f", None, "  \n "),
        node("g", None, "g", author="nobody"),
    )  # fmt: skip
    assert tree(source) == [
        (None, "assistant", "a"),
        (
            None,
            "user",
            "[not imported: int]\n[not imported: list]\n[not imported: part]\n[not imported: hologram]",
        ),
        (None, "tool", "found"),
        (None, "user", "[audio: f]"),
        (None, "assistant", "g"),
    ]


def test_what_is_no_conversation_is_a_fault() -> None:
    sources: list[Any] = [None, 1, [], {}, {"mapping": []}, {"mapping": None}]
    for source in sources:
        assert format_of(source) is None
    fault = unknown(3)
    assert (fault.number, fault.kind) == (3, "conversation")
    for mapping in ({"a": None}, {"a": {"message": {"content": 1}}}, {"a": {"children": 1, "parent": 7}}):
        assert tree({"mapping": mapping}) == []


def test_message_that_is_too_long_fails_its_conversation_only(app: Flask, ada: Api) -> None:
    long = conversation(node("a", None, "x" * (1024 * 1024 + 1)), conversation_id="long")
    report = imported(ada, json.dumps([long, REALISTIC, 7, REALISTIC["mapping"]]).encode(), JSON)
    assert report["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 3}
    assert [error["line"] for error in report["errors"]] == [1, 3, 4]
    assert owned_rows(app, ada.user_id)["messages"] == 7


def test_broken_conversations_do_not_keep_the_others_from_being_read(ada: Api) -> None:
    good = [json.dumps(conversation(node("a", None, "a"), conversation_id=str(n))).encode() for n in range(3)]
    broken = b'[%b, {"title": oops}, %b, %b, %b]' % (good[0], b"[" * 3000 + b"]" * 3000, good[1], good[2])
    report = imported(ada, broken, JSON)
    assert report["conversations"] == {"imported": 3, "updated": 0, "unchanged": 0, "failed": 2}
    cut = b"[" + good[0] + b"," + good[1][:-5]
    assert "cut off" in imported(ada, cut, JSON)["errors"][0]["detail"]


def test_ids_sort_by_time_and_depend_on_nothing_else() -> None:
    first, _ = records(REALISTIC)
    again, _ = records(json.loads(json.dumps(REALISTIC)))
    assert first.fields["id"] == again.fields["id"]
    moment = first.fields["created_at"]
    made = id_at(moment, "a", "b")
    assert made[14] == "7"
    assert made[19] in "89ab"
    assert int(made.replace("-", "")[:12], 16) == int(moment.timestamp() * 1000)
    # as it has always been, so that what was imported once is found again
    assert made.replace("-", "").endswith(_hashed("a\x1fb"))
    assert len({made, id_at(moment, "a", "c"), id_at(moment, "ab"), id_at(moment, "b", "a")}) == 4


def _hashed(names: str) -> str:
    """The last 60 bits of the id with these names."""
    number = int.from_bytes(hashlib.sha256(names.encode()).digest()[:10])
    return f"{number & (2**60 - 1):015x}"


# -- citations, files, tools -----------------------------------------------------------------------------------------


def cited(text: str, **metadata: Any) -> str:
    [(_, _, content)] = tree(conversation(node("a", None, text, role="assistant", metadata=metadata)))
    return content


def test_marks_of_citations_become_links() -> None:
    mark, other = "\ue200cite\ue202turn0search3\ue201", "\ue200cite\ue202turn0search4\ue202turn0search5\ue201"
    entity = '\ue200entity\ue202["city","Lisbon","x"]\ue201'
    text = f"Rain in {entity} today {mark}, sun later {other}. \ue200video\ue202x\ue201\ue202 \ue200"
    references = [
        {"matched_text": mark, "type": "grouped_webpages", "alt": "([News](https://news.example/x))"},
        {"matched_text": other, "items": [{"title": "A [1]", "url": "https://a.example/(x)"}, {"title": "A name"}]},
        {"matched_text": " ", "type": "sources_footnote", "alt": "x"},
    ]  # fmt: skip
    assert cited(text, content_references=references) == (
        "Rain in Lisbon today ([News](https://news.example/x)), sun later "
        "([A (1)](https://a.example/%28x%29)) [A name].  "
    )


def test_old_marks_of_citations_become_links() -> None:
    listed = {"metadata_list": [{"title": "Zero", "url": "https://z.example"}, {"title": "plan.pdf"}]}
    assert cited("a【0†source】 b【1:3†plan.pdf】 c【7†source】 d【brackets】", _cite_metadata=listed) == (
        "a([Zero](https://z.example)) b[plan.pdf] c d【brackets】"
    )
    extra = {"cited_message_idx": 4}
    citations = [
        {
            "start_ix": 1,
            "end_ix": 12,
            "metadata": {"title": "Four", "url": "https://f.example", "extra": extra},
        }
    ]
    assert cited("x【4†source】", citations=citations) == "x([Four](https://f.example))"


@pytest.mark.parametrize("text", ["\ue200" * 500_000, "【" * 300_000 + "†", "\ue200\ue202" * 200_000])
def test_marks_cost_one_pass(text: str) -> None:
    began = time.thread_time()
    cited("begin" + text, content_references=[{"matched_text": "\ue200", "alt": "x"}] * 1000)
    assert time.thread_time() - began < 5


def test_uploaded_files_are_noted_once() -> None:
    attachments = [
        {"id": "file-1", "name": "report.pdf", "mimeType": "application/pdf"},
        {"id": "file-abc", "name": "sea.png"},
        {"id": "file-2"},
    ]
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-abc"}
    content = {"content_type": "multimodal_text", "parts": [picture, "Sum this up"]}
    source = conversation(node("a", None, content, metadata={"attachments": attachments}))
    assert tree(source) == [
        (None, "user", "[image: sea.png]\nSum this up\n[file: report.pdf]\n[file: file-2]")
    ]


def test_parts_that_are_not_understood_are_noted_and_counted(ada: Api) -> None:
    parts = {"content_type": "multimodal_text", "parts": ["Look", {"content_type": "hologram", "x": 1}]}
    source = conversation(
        node("a", None, parts), node("b", "a", {"content_type": "computer_output", "state": {}})
    )
    assert [text for _, _, text in tree(source)] == [
        "Look\n[not imported: hologram]",
        "[not imported: computer_output]",
    ]
    report = imported(ada, json.dumps(source).encode(), JSON)
    assert report["parts_omitted"] == 2
    assert report["notes"]


def test_tools_of_chatgpt_can_be_continued(ada: Api) -> None:
    imported(ada, json.dumps(REALISTIC).encode(), JSON)
    [listed] = ada.get("/chat/conversations").get_json()
    provider = ada.provider(api_endpoint="https://p.example/v1")["id"]
    ada.config(provider)
    body = {"conversation_id": listed["id"], "provider_id": provider, "model": "m", "content": "And now?"}
    sent = ada.post("/chat/completions/preview", body).get_json()["request"]["body"]["messages"]
    assert not [message for message in sent if message["role"] == "tool" or "tool_calls" in message]
    assert any(message["content"].endswith("Result of a tool call:\n1") for message in sent)


@pytest.mark.parametrize("value", ["2024-03-01T10:00:00Z", 1709287200, "1709287200.0", 1709287200000])
def test_times_in_every_notation(value: Any) -> None:
    source = conversation(node("a", None, "Hi", at=value), create_time=value, update_time=value)
    first, [said] = records(source)
    moment = datetime(2024, 3, 1, 10, tzinfo=UTC)
    assert first.fields["created_at"] == first.fields["updated_at"] == said.fields["created_at"] == moment
