"""Reading branches: the path, all of them, the page around a message, and what that costs beside many others."""

from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.columns import new_id
from chat_api.database.session import db
from tests.support.api import Api
from tests.support.pages import ids, links
from tests.support.plans import analyze, plan_of
from tests.support.problems import assert_problem

Message = dict[str, Any]
ANY_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


@pytest.fixture
def forked(ada: Api) -> tuple[str, list[Message], list[Message]]:
    """A conversation of 9 messages on the path among 4 beside it: its path for reading, all on the path, all."""
    conversation = ada.conversation()["id"]
    path = [ada.message(conversation, "0")]
    every = [*path]
    for number in range(1, 9):
        if number % 2:
            every.append(ada.message(conversation, "beside", parent_id=path[-1]["id"]))
        path.append(ada.message(conversation, f"{number}", parent_id=path[-1]["id"]))
        every.append(path[-1])
    return f"/chat/conversations/{conversation}/messages", path, every


def of(messages: list[Message]) -> list[str]:
    return [one["id"] for one in messages]


@pytest.mark.parametrize("query", ["", "&branch=all"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 20])
def test_a_page_around_leads_on_to_everything(
    ada: Api, forked: tuple[str, list[Message], list[Message]], limit: int, query: str
) -> None:
    place, path, every = forked
    messages = of(every if query else path)
    for at, id_ in enumerate(messages):
        page = ada.get(f"{place}?limit={limit}&around={id_}{query}")
        found = ids(page)
        assert id_ in found
        assert len(found) <= limit
        begin = messages.index(found[0])
        assert found == messages[begin : begin + len(found)]
        assert at - begin <= (limit - 1) // 2
        for relation in ("prev", "next"):
            response = page
            while relation in links(response):
                response = ada.get(links(response)[relation])
                more = ids(response)
                assert more, "A link to nothing."
                found = more + found if relation == "prev" else found + more
        assert found == messages
        expected = {"prev"} if begin > 0 else set()
        expected |= {"next"} if begin + len(ids(page)) < len(messages) else set()
        assert set(links(page)) == expected
        assert all(("branch=all" in link) == bool(query) for link in links(page).values())
        assert all("around" not in link for link in links(page).values())


def test_around_a_message_beside_the_path(ada: Api, forked: tuple[str, list[Message], list[Message]]) -> None:
    place, path, every = forked
    beside = next(one for one in every if one not in path)
    refused = ada.get(f"{place}?around={beside['id']}")
    assert refused.status_code == 400
    [message] = refused.get_json()["errors"]["around"]
    assert "branch=all" in message
    assert "active_leaf_id" in message
    assert beside["id"] in ids(ada.get(f"{place}?around={beside['id']}&branch=all&limit=1"))


def test_around_a_message_of_elsewhere(
    ada: Api, bob: Api, forked: tuple[str, list[Message], list[Message]]
) -> None:
    place, path, _ = forked
    own, his = ada.message(ada.conversation()["id"]), bob.message(bob.conversation()["id"])
    for branch in ("", "&branch=all"):
        for id_ in (own["id"], his["id"], new_id()):
            assert ada.get(f"{place}?around={id_}{branch}").status_code == 404
        assert bob.get(f"{place}?around={path[0]['id']}{branch}").status_code == 404


def test_around_large_messages(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    place = f"/chat/conversations/{conversation}/messages"
    made = [ada.message(conversation, f"{number}" + "x" * 1_000_000)["id"] for number in range(12)]
    page = ada.get(f"{place}?around={made[6]}")
    found = ids(page)
    assert len(found) < 12
    while "prev" in links(page):
        page = ada.get(links(page)["prev"])
        found = ids(page) + found
    page = ada.get(f"{place}?around={made[6]}")
    while "next" in links(page):
        page = ada.get(links(page)["next"])
        found += ids(page)
    assert found == made


@pytest.mark.happy_path("list_messages")
def test_a_message_is_shown_as_in_the_list(
    ada: Api, forked: tuple[str, list[Message], list[Message]]
) -> None:
    place, path, every = forked
    assert ada.get(f"{place}?branch=all").get_json() == every
    assert ada.get(place).get_json() == ada.get(f"{place}?branch=active").get_json() == path
    for message in every:
        assert ada.get(f"/chat/messages/{message['id']}").get_json() == message


def test_siblings_can_be_counted(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    question = ada.message(conversation)
    tries = [ada.message(conversation, f"{n}", "assistant", parent_id=question["id"]) for n in range(3)]
    every = ada.get(f"/chat/conversations/{conversation}/messages?branch=all").get_json()
    shown = ada.get(f"/chat/conversations/{conversation}/messages").get_json()[-1]
    siblings = [one for one in every if one["parent_id"] == question["id"]]
    assert (siblings.index(shown) + 1, len(siblings)) == (3, 3)
    assert shown == tries[2]


def test_refused_parents_leave_nothing(ada: Api, bob: Api) -> None:
    conversation = ada.conversation()
    place = f"/chat/conversations/{conversation['id']}"
    ada.message(conversation["id"])
    before = ada.get(place).get_json(), ada.get(f"{place}/messages").get_json()
    elsewhere = ada.message(ada.conversation()["id"])["id"]
    for parent in (elsewhere, bob.message(bob.conversation()["id"])["id"], new_id(), conversation["id"]):
        body = {"conversation_id": conversation["id"], "role": "user", "content": "x", "parent_id": parent}
        for headers in ({}, {"Idempotency-Key": new_id()}):
            assert ada.post("/chat/messages", body, headers=headers).status_code == 404
    assert (ada.get(place).get_json(), ada.get(f"{place}/messages").get_json()) == before


def test_a_branch_with_a_key_is_made_once(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    first = ada.message(conversation)
    ada.message(conversation, "old")
    body = {"conversation_id": conversation, "role": "user", "content": "new", "parent_id": first["id"]}
    headers = {"Idempotency-Key": new_id()}
    made = ada.made("/chat/messages", body, headers=headers)
    following = ada.message(conversation, "following")
    again = ada.post("/chat/messages", body, headers=headers)
    assert (again.get_json(), again.headers["Idempotency-Replayed"]) == (made, "true")
    shown = ada.get(f"/chat/conversations/{conversation}/messages").get_json()
    assert shown == [first, made, following]


# -- what it costs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overgrown(app: Flask) -> tuple[Api, str, list[str]]:
    """A path of 1,000 messages, and 10,000 beside it that were written in between."""
    from chat_api.auth import service as auth
    from tests.support.api import PASSWORD, new_email

    address = new_email()
    with app.app_context():
        auth.register_with_role(email=address, password=PASSWORD, role="user")
        db.session.commit()
    user = Api(app, user={"email": address}).log_in()
    conversation, path, rows, parent = user.conversation()["id"], [], [], None
    for position in range(1, 11_001):
        id_, on_path = new_id(), position % 11 == 1
        rows.append(
            {"user_id": user.user_id, "id": id_, "conversation_id": conversation, "position": position,
             "parent_id": parent, "on_path": on_path, "role": "user", "content": "x", "size_bytes": 1,
             "attachment_count": 0}
        )  # fmt: skip
        if on_path:
            parent = id_
            path.append(id_)
    tables = db.metadata.tables
    with app.app_context():
        db.session.execute(sa.insert(tables["messages"]), rows)
        here = tables["conversations"].c.id == conversation
        values = {
            "message_count": 11_000,
            "last_position": 11_000,
            "active_leaf_id": path[-1],
            "path_length": len(path),
        }
        db.session.execute(sa.update(tables["conversations"]).where(here).values(values))
        db.session.commit()
    analyze(app)
    return user, f"/chat/conversations/{conversation}", path


@pytest.mark.parametrize(
    "query", ["", "?limit=50", "?limit=50&after=5500", "?limit=50&before=5500", f"?before={2**53 - 1}"]
)
def test_the_path_is_one_read_of_its_index(
    app: Flask, overgrown: tuple[Api, str, list[str]], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    user, place, path = overgrown
    plan = plan_of(app, monkeypatch, lambda: user.get(f"{place}/messages{query}"))
    assert plan.count("ix_messages_path") == plan.count("Limit") + ("SEARCH" in plan), plan
    assert "Sort" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    assert "position" in plan, plan
    assert set(ids(user.get(f"{place}/messages{query}"))) <= set(path)


def test_a_path_is_left_and_entered_among_many(app: Flask, overgrown: tuple[Api, str, list[str]]) -> None:
    user, place, path = overgrown
    for index in (10, 999, 0, 500, 999):
        assert user.patch(place, {"active_leaf_id": path[index]}).status_code == 200
        assert ids(user.get(f"{place}/messages?limit=1000")) == path[: index + 1]


@pytest.mark.parametrize("query", [
    "branch=", "branch=none", "branch=All", "branch=all&branch=all", "branch=%FF", "around=", "around=1",
    "around=x", f"around={ANY_ID}0", "around=%00",
])  # fmt: skip
def test_bad_branch_or_around_is_refused(user: Api, own_ids: dict[str, str], query: str) -> None:
    assert_problem(
        user.get(f"/chat/conversations/{own_ids['conversation']}/messages?{query}"),
        400,
        query.partition("=")[0],
    )


@pytest.mark.parametrize("direction", ["after", "before"])
def test_a_page_around_a_message_has_no_direction(user: Api, direction: str) -> None:
    message = user.message(user.conversation()["id"])
    path = f"/chat/conversations/{message['conversation_id']}/messages?around={message['id']}"
    assert user.get(path).status_code == 200
    assert_problem(user.get(f"{path}&{direction}=1"), 400, "around")
