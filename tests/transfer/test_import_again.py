"""Conversations that are imported again when they have grown: nothing is lost, of the file or of what is here."""

import copy
import io
import json
from typing import Any

import hypothesis
import pytest
from flask import Flask
from hypothesis import strategies as st

from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.messages import active_path
from chat_api.transfer import conversation_importer, service
from tests.support.api import Api
from tests.support.tables import path_in_tables
from tests.transfer.exports import (
    attachment,
    chain,
    completion,
    conversation,
    exported,
    file_of,
    imported,
    message,
    restorable,
    rows_of,
)
from tests.transfer.test_chatgpt import BEGAN, JSON, Node, node
from tests.transfer.test_chatgpt import conversation as of_chatgpt
from tests.transfer.test_odd_exports import an_account


@pytest.fixture(scope="module")
def account(app: Flask) -> str:
    return an_account(app)


def import_into(app: Flask, user_id: str, source: Any) -> dict[str, Any]:
    with app.app_context():
        report, steps = service.import_file(user_id=user_id, file=io.BytesIO(json.dumps(source).encode()))
        for _ in steps:
            db.session.commit()
        return report.to_json()


def export_of(parents: list[int], size: int, name: str) -> Node:
    """What a conversation was when it had so many messages, each of which answers an earlier one, or none."""
    nodes = [
        node(str(index), str(parent) if parent >= 0 else None, f"text {index}", at=BEGAN + index)
        for index, parent in enumerate(parents[:size])
    ]
    return of_chatgpt(*nodes, conversation_id=name, id=name, title=f"Title {size}", is_archived=size % 2 == 0,
                      update_time=BEGAN + size)  # fmt: skip


def state_of(app: Flask, user_id: str, title_of: str) -> tuple[Any, ...]:
    """What is here of the newest conversation: title, flags, path, and the tree by its texts."""
    rows = rows_of(app, user_id)
    [found] = [row for row in rows["conversations"] if row["id"] == title_of]
    said = {row["id"]: row for row in rows["messages"] if row["conversation_id"] == title_of}
    indexed = {row["message_id"] for row in rows["message_terms"]}
    assert set(said) <= indexed
    assert found["message_count"] == len(said)
    assert found["content_bytes"] == sum(row["size_bytes"] for row in said.values())
    assert found["last_position"] == max(row["position"] for row in said.values())
    tree = {
        (row["content"], said[row["parent_id"]]["content"] if row["parent_id"] else None)
        for row in said.values()
    }
    path = [said[id_]["content"] for id_ in path_in_tables(app, user_id, title_of)]
    assert found["path_length"] == len(path)
    return found["title"], found["archived"], found["updated_at"], path, tree


TREES = st.integers(1, 9).flatmap(
    lambda size: st.tuples(
        st.tuples(
            *(st.integers(-1 if index == 0 else max(-1, index - 4), index - 1) for index in range(size))
        ),
        st.lists(st.integers(1, size), min_size=1, max_size=5),
    )
)


@hypothesis.settings(
    deadline=None, max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(drawn=TREES)
def test_any_exports_in_any_order_give_the_union(
    app: Flask, account: str, monkeypatch: pytest.MonkeyPatch, drawn: tuple[tuple[int, ...], list[int]]
) -> None:
    monkeypatch.setattr(conversation_importer, "BATCH_ROWS", 2)
    parents, sizes = list(drawn[0]), drawn[1]
    name = new_id()
    for size in sizes:
        report = import_into(app, account, export_of(parents, size, name))
        assert not report["errors"]
    [found] = [
        row
        for row in rows_of(app, account)["conversations"]
        if row["id"] == id_of(export_of(parents, 1, name))
    ]
    last = export_of(parents, max(sizes), name)
    at_once = {**last, "conversation_id": new_id()}
    import_into(app, account, at_once)
    assert state_of(app, account, found["id"]) == state_of(app, account, id_of(at_once))
    before = rows_of(app, account)
    report = import_into(app, account, [last, at_once])
    assert (report["conversations"]["unchanged"], report["updates"]) == (2, [])
    assert rows_of(app, account) == before


def id_of(source: Node) -> str:
    from chat_api.transfer.formats.chatgpt import read_conversation

    first = next(iter(read_conversation(copy.deepcopy(source), 1)))
    found: str = first.fields["id"]  # type: ignore[union-attr]
    return found


def test_answer_says_what_was_updated_and_what_differs(ada: Api) -> None:
    parents = [-1, 0, 1, 0]
    imported(ada, json.dumps(export_of(parents, 2, "c")).encode(), JSON)
    grown = export_of(parents, 4, "c")
    report = imported(ada, json.dumps([grown]).encode(), JSON)
    assert report["conversations"] == {"imported": 0, "updated": 1, "unchanged": 0, "failed": 0}
    assert report["messages"]["imported"] == 2
    [listed] = ada.get("/chat/conversations?archived=true").get_json()
    assert report["updates"] == [
        {"conversation_id": listed["id"], "messages_added": 2, "attachments_added": 0, "completions_added": 0,
         "files_added": 0, "changed": ["active_leaf_id", "title", "updated_at"], "kept": [], "messages_kept": 0}
    ]  # fmt: skip
    assert listed["title"] == "Title 4"
    edited = copy.deepcopy(grown)
    edited["mapping"]["1"]["message"]["content"]["parts"] = ["another text"]
    edited["title"] = "Another title"
    report = imported(ada, json.dumps([edited]).encode(), JSON)
    assert report["conversations"]["unchanged"] == 1
    [update] = report["updates"]
    assert (update["kept"], update["messages_kept"]) == (["title"], 1)
    page = ada.get(f"/chat/conversations/{listed['id']}/messages?branch=all").get_json()
    assert [said["content"] for said in page] == ["text 0", "text 1", "text 2", "text 3"]


def test_what_was_changed_here_stays(ada: Api) -> None:
    """Who has gone on here keeps the path, and a newer title."""
    parents = [-1, 0, 1, 0]
    imported(ada, json.dumps(export_of(parents, 1, "c")).encode(), JSON)
    [listed] = ada.get("/chat/conversations").get_json()
    own = ada.message(listed["id"], "said here")
    ada.patch(f"/chat/conversations/{listed['id']}", {"title": "Mine", "pinned": True})
    report = imported(ada, json.dumps(export_of(parents, 4, "c")).encode(), JSON)
    [update] = report["updates"]
    assert update["messages_added"] == 3
    assert update["changed"] == ["archived"]  # nobody has done so here
    assert update["kept"] == ["title"]
    [found] = ada.get("/chat/conversations?archived=true").get_json()
    assert (found["title"], found["pinned"], found["active_leaf_id"]) == ("Mine", True, own["id"])
    every = ada.get(f"/chat/conversations/{listed['id']}/messages?branch=all").get_json()
    assert {said["content"] for said in every} == {"said here", "text 0", "text 1", "text 2", "text 3"}
    assert [said["position"] for said in every] == [1, 2, 3, 4, 5]
    after = ada.message(listed["id"], "and now?")
    assert (after["parent_id"], after["position"]) == (own["id"], 6)


def test_a_title_and_flags_of_ones_own_survive_newer_and_older_files(ada: Api) -> None:
    """Also if the file is newer than the change, as it is of somebody who still uses the other product."""
    first = conversation(title="Theirs")
    said = chain(first, 1)
    path = f"/chat/conversations/{first['id']}"

    def import_at(year: int, **changes: Any) -> dict[str, Any]:
        report = imported(ada, file_of(first | {"updated_at": f"{year}-01-01T00:00:00Z"} | changes, *said))
        found = ada.get(path).get_json()
        return {name: found[name] for name in ("title", "archived", "pinned")} | {
            "updates": [(update["changed"], update["kept"]) for update in report["updates"]]
        }

    import_at(2027)
    ada.patch(path, {"title": "Mine", "pinned": True})
    mine = {"title": "Mine", "archived": False, "pinned": True}
    assert import_at(2029) == {**mine, "updates": [(["updated_at"], ["title", "pinned"])]}
    assert import_at(2028, title="Older") == {**mine, "updates": [([], ["title", "pinned"])]}
    newest = {"title": "Renamed there", "archived": True}
    mine["archived"] = True  # what nobody has changed here follows the file
    assert import_at(2030, **newest) == {
        **mine,
        "updates": [(["archived", "updated_at"], ["title", "pinned"])],
    }
    ada.patch(path, {"title": "Renamed there", "pinned": False})
    followed = {"title": "Once more", "archived": False, "pinned": False}
    assert import_at(2031, title="Once more") == {
        **followed, "updates": [(["title", "archived", "updated_at"], [])],
    }  # fmt: skip


def test_what_a_file_does_not_have_stays(ada: Api) -> None:
    """An export of one conversation may have no title, and most products have no pinned ones."""
    source = export_of([-1, 0], 1, "c") | {"is_starred": True}
    imported(ada, json.dumps([source]).encode(), JSON)
    grown = export_of([-1, 0], 2, "c")
    for name in ("title", "is_archived", "is_starred"):
        grown.pop(name, None)
    imported(ada, json.dumps([grown]).encode(), JSON)
    [found] = ada.get("/chat/conversations").get_json()
    assert (found["title"], found["pinned"], found["message_count"]) == ("Title 1", True, 2)


def test_own_export_brings_attachments_and_completions(app: Flask, ada: Api) -> None:
    first = conversation()
    one, two, three = chain(first, 3)
    old = [first, one, attachment(one)]
    imported(ada, file_of(*old))
    late, reply = attachment(one, file_path="uploads/b.png"), completion(one)
    new = [
        first | {"updated_at": "2026-11-24T00:00:00Z", "title": "Later"},
        one,
        late,
        reply,
        two,
        three,
        attachment(three),
    ]
    report = imported(ada, file_of(*new))
    assert (report["attachments"]["imported"], report["completions"]["imported"]) == (2, 1)
    assert report["messages"]["imported"] == 2
    lines = restorable(exported(ada))
    assert [line["id"] for line in lines if line["type"] == "attachment"] == [
        old[2]["id"],
        late["id"],
        new[6]["id"],
    ]
    assert [line["id"] for line in lines if line["type"] == "completion"] == [reply["id"]]
    before = rows_of(app, ada.user_id)
    for again in (new, old):
        assert imported(ada, file_of(*again))["conversations"]["unchanged"] == 1
    assert rows_of(app, ada.user_id) == before


def test_broken_lines_and_foreign_ids_add_nothing(ada: Api) -> None:
    first, other = conversation(), conversation()
    one, two = chain(first, 2)
    theirs = message(other, 1)
    imported(ada, file_of(first, one, other, theirs))
    for broken in (
        b'{"type":"message", oops',
        message(first, 2, None, id=theirs["id"]),
        message(first, 2, theirs),
    ):
        report = imported(ada, file_of(first, one, broken, two))
        assert report["conversations"]["failed"] == 1, broken
        assert report["errors"]
    assert len(ada.get(f"/chat/conversations/{first['id']}/messages?branch=all").get_json()) == 1


def test_long_path_is_moved_in_steps(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_path, "LONGEST_MOVE", 3)
    first = conversation()
    said = chain(first, 30)
    imported(ada, file_of(first, *said[:5]))
    later = first | {"updated_at": "2026-11-24T00:00:00Z"}
    assert imported(ada, file_of(later, *said))["conversations"]["updated"] == 1
    assert path_in_tables(app, ada.user_id, first["id"]) == [line["id"] for line in said]
