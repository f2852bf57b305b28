"""PATCH of a conversation: each field, the leaf of its active path, and what it leaves alone."""

from typing import Any

import pytest
from flask import Flask

from chat_api.database.columns import new_id
from tests.support.api import Api
from tests.support.tables import owned_rows, path_in_tables


def place_of(conversation: dict[str, Any]) -> str:
    return f"/chat/conversations/{conversation['id']}"


@pytest.mark.happy_path("update_conversation")
@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Porto"},
        {"archived": True},
        {"pinned": True},
        {"archived": True, "pinned": True, "title": "x" * 255},
        {"archived": False},
    ],
    ids=str,
)
def test_a_change_is_made_and_nothing_else_changes(ada: Api, changes: dict[str, Any]) -> None:
    conversation = ada.conversation()
    ada.message(conversation["id"])
    other = ada.conversation()
    before = ada.get(place_of(conversation)).get_json()
    changed = ada.patch(place_of(conversation), changes)
    assert (changed.status_code, changed.get_json()) == (200, {**before, **changes})
    shown = ada.get(place_of(conversation))
    assert (shown.get_json(), shown.headers["ETag"]) == (changed.get_json(), changed.headers["ETag"])
    assert ada.get(place_of(other)).get_json() == other


def test_flags_are_taken_back(ada: Api) -> None:
    conversation = ada.conversation()
    for name in ("archived", "pinned"):
        for value in (True, True, False):
            assert ada.patch(place_of(conversation), {name: value}).get_json()[name] is value


def test_a_stale_tag_changes_nothing(app: Flask, ada: Api) -> None:
    conversation = ada.conversation()
    first = ada.message(conversation["id"])
    stale = ada.get(place_of(conversation)).headers["ETag"]
    second = ada.message(conversation["id"])
    before = ada.get(place_of(conversation)).get_json()
    headers = {"If-Match": stale}
    for changes in (
        {"title": "X"},
        {"active_leaf_id": first["id"]},
        {"active_leaf_id": None, "pinned": True},
    ):
        refused = ada.patch(place_of(conversation), changes, headers=headers)
        assert (refused.status_code, refused.get_json()["code"]) == (412, "precondition_failed")
    assert ada.delete(place_of(conversation), headers=headers).status_code == 412
    assert ada.get(place_of(conversation)).get_json() == before
    assert path_in_tables(app, ada.user_id, conversation["id"]) == [first["id"], second["id"]]


def test_a_refused_leaf_keeps_the_other_changes_out(app: Flask, ada: Api, bob: Api) -> None:
    conversation, other = ada.conversation(), ada.conversation()
    message = ada.message(conversation["id"])
    before = ada.get(place_of(conversation)).get_json()
    strangers = [ada.message(other["id"])["id"], bob.message(bob.conversation()["id"])["id"], new_id()]
    answers = []
    for leaf in strangers:
        refused = ada.patch(place_of(conversation), {"title": "X", "active_leaf_id": leaf})
        answers.append({**refused.get_json(), "request_id": ""})
        assert refused.status_code == 404
    assert answers[0] == answers[1] == answers[2]
    assert ada.get(place_of(conversation)).get_json() == before
    assert path_in_tables(app, ada.user_id, conversation["id"]) == [message["id"]]


def test_the_leaf_moves_to_any_message(app: Flask, ada: Api) -> None:
    conversation = ada.conversation()
    here, place = conversation["id"], place_of(conversation)
    root = ada.message(here, "root")
    a1, a2 = ada.message(here, "a1"), ada.message(here, "a2")
    b1, b2 = ada.message(here, "b1", parent_id=root["id"]), ada.message(here, "b2")
    other_root = ada.message(here, "another root", parent_id=None)
    before = ada.get(place).get_json()
    for path in ([root, a1, a2], [root, b1, b2], [root, a1], [other_root], [root], [], [root, b1, b2]):
        leaf = path[-1]["id"] if path else None
        moved = ada.patch(place, {"active_leaf_id": leaf and leaf.upper()}).get_json()
        assert moved == {**before, "active_leaf_id": leaf}
        assert ada.get(f"{place}/messages").get_json() == path
        assert path_in_tables(app, ada.user_id, here) == [one["id"] for one in path]
    following = ada.message(here, "goes on")
    assert (following["parent_id"], following["position"]) == (b2["id"], 7)


def test_an_empty_path_begins_anew(ada: Api) -> None:
    conversation = ada.conversation()
    ada.message(conversation["id"])
    ada.patch(place_of(conversation), {"active_leaf_id": None})
    assert ada.get(f"{place_of(conversation)}/messages").get_json() == []
    begun = ada.message(conversation["id"])
    assert (begun["parent_id"], begun["position"]) == (None, 2)
    assert len(ada.get(f"{place_of(conversation)}/messages?branch=all").get_json()) == 2


def test_a_conversation_of_somebody_else_is_neither_changed_nor_deleted(
    app: Flask, ada: Api, bob: Api
) -> None:
    conversation = ada.conversation()
    before = owned_rows(app, ada.user_id)
    assert bob.patch(place_of(conversation), {"title": "Mine"}).status_code == 404
    assert bob.delete(place_of(conversation)).status_code == 404
    assert (ada.get(place_of(conversation)).get_json(), owned_rows(app, ada.user_id)) == (
        conversation,
        before,
    )


@pytest.mark.happy_path("delete_conversation")
def test_deleting_asks_for_nothing_and_is_done_once(ada: Api) -> None:
    conversation = ada.conversation()
    assert ada.delete(place_of(conversation)).status_code == 204
    assert ada.delete(place_of(conversation)).status_code == 404
