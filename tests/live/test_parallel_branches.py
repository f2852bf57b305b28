"""Many at once in one conversation, and in many: the path stays whole whoever forks, moves, cuts and deletes."""

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from chat_api.database.session import db
from tests.completions.chat import run_sql
from tests.live.client import Answer, Person, at_once
from tests.support.provider import Pause, ScriptedProvider, openai_chunk, openai_stream
from tests.support.server import GunicornServer
from tests.support.tables import owned_rows, path_in_tables

POSTS = 40


@pytest.fixture
def person(three_workers: GunicornServer) -> Person:
    return Person(three_workers)


@pytest.fixture
def conversation_id(person: Person) -> str:
    return person.conversation()


def statuses(answers: list[Answer]) -> list[int]:
    return sorted({answer.status for answer in answers})


def branches(person: Person, conversation_id: str) -> list[dict[str, Any]]:
    return person.get(f"/chat/conversations/{conversation_id}/messages?branch=all&limit=1000").body


def test_posts_at_once_make_one_unbroken_path(app: Flask, person: Person, conversation_id: str) -> None:
    answers = at_once([partial(person.say, conversation_id, f"{number}") for number in range(POSTS)])
    assert statuses(answers) == [201]
    path = person.messages(conversation_id)
    assert [one["parent_id"] for one in path] == [None, *(one["id"] for one in path[:-1])]
    assert [one["position"] for one in path] == list(range(1, POSTS + 1))
    assert path_in_tables(app, person.user["id"], conversation_id) == [one["id"] for one in path]
    told = {answer.body["id"]: answer.body for answer in answers}
    assert [told[one["id"]] for one in path] == path


def test_answers_at_once_to_one_message_are_siblings(
    app: Flask, person: Person, conversation_id: str
) -> None:
    first = person.say(conversation_id, "first").body["id"]
    say = partial(person.say, conversation_id, parent_id=first)
    answers = at_once([partial(say, f"{number}") for number in range(POSTS)])
    assert statuses(answers) == [201]
    assert {one["parent_id"] for one in branches(person, conversation_id)[1:]} == {first}
    path = path_in_tables(app, person.user["id"], conversation_id)
    last = max(answers, key=lambda answer: answer.body["position"])
    assert path == [first, last.body["id"]]


def test_all_that_moves_the_path_at_once_leaves_it_whole(
    app: Flask, person: Person, conversation_id: str
) -> None:
    ids = [person.say(conversation_id, f"{number}").body["id"] for number in range(6)]
    chance = random.Random(4)
    place = f"/chat/conversations/{conversation_id}"

    def answer_one() -> Callable[[], Answer]:
        return partial(person.say, conversation_id, "x", parent_id=chance.choice([None, *ids]))

    def move_leaf() -> Callable[[], Answer]:
        return partial(person.patch, place, {"active_leaf_id": chance.choice([None, *ids])})

    for _ in range(3):
        actions: list[Callable[[], Answer]] = [partial(person.say, conversation_id, "x")] * 8
        actions += [make() for make in (answer_one, move_leaf) for _ in range(8)]
        actions += [partial(person.get, f"{place}/messages?around={chance.choice(ids)}&branch=all")] * 4
        actions += [partial(person.delete, f"/chat/messages/{chance.choice(ids[1:])}") for _ in range(3)]
        chance.shuffle(actions)
        answers = at_once(actions)
        assert set(statuses(answers)) <= {200, 201, 204, 404}
        path = path_in_tables(app, person.user["id"], conversation_id)
        assert [one["id"] for one in person.messages(conversation_id)] == path
        ids = [one["id"] for one in branches(person, conversation_id)]
        ids = [ids[0], *chance.sample(ids[1:], min(5, len(ids) - 1))]


def test_a_reader_never_sees_a_broken_path(person: Person, conversation_id: str) -> None:
    """While others let it lead here and there, and go on with it."""
    first = person.say(conversation_id, "0").body["id"]
    leaves = []
    for _ in range(2):
        parent = first
        for number in range(12):
            parent = person.say(conversation_id, f"{number}", parent_id=parent).body["id"]
        leaves.append(parent)
    place = f"/chat/conversations/{conversation_id}"

    def flip() -> list[Answer]:
        return [person.patch(place, {"active_leaf_id": leaves[number % 2]}) for number in range(12)]

    def grow() -> list[Answer]:
        return [person.say(conversation_id, "x", parent_id=leaves[number % 2]) for number in range(12)]

    def read() -> list[Answer]:
        return [person.get(f"{place}/messages?limit=1000") for _ in range(20)]

    flipped, grown, *seen = at_once([flip, grow, read, read])
    assert statuses(flipped) == [200]
    assert statuses(grown) == [201]
    lengths = set()
    for answer in itertools.chain(*seen):
        ids = [one["id"] for one in answer.body]
        assert [one["parent_id"] for one in answer.body] == [None, *ids[:-1]]
        lengths.add(len(ids))
    assert lengths <= {13, 14}


def test_of_deletions_at_once_each_message_has_one(app: Flask, person: Person, conversation_id: str) -> None:
    ids = [person.say(conversation_id, f"{number}").body["id"] for number in range(8)]
    answers = at_once([partial(person.delete, f"/chat/messages/{id_}") for id_ in ids[2:] * 3])
    assert statuses(answers) == [204, 404]
    assert path_in_tables(app, person.user["id"], conversation_id) == ids[:2]
    again = at_once([partial(person.delete, f"/chat/conversations/{conversation_id}")] * 6)
    assert sorted(answer.status for answer in again) == [204] + [404] * 5


def test_writers_in_a_conversation_that_is_deleted_are_told_that_it_is_gone(
    app: Flask, person: Person
) -> None:
    for _ in range(4):
        conversation_id = person.conversation()
        first = person.say(conversation_id, "first").body["id"]
        place = f"/chat/conversations/{conversation_id}"
        actions: list[Callable[[], Answer]] = [
            partial(person.say, conversation_id, "x"),
            partial(person.say, conversation_id, "x", parent_id=first),
            partial(person.patch, place, {"title": "Mine"}),
            partial(person.patch, place, {"active_leaf_id": None}),
            partial(person.delete, f"/chat/messages/{first}"),
            partial(person.get, f"{place}/messages?around={first}"),
            partial(person.delete, place),
        ]
        assert set(statuses(at_once(actions * 3))) <= {200, 201, 204, 400, 404}
        assert person.get(place).status == 404
    assert owned_rows(app, person.user["id"])["messages"] == 0


@pytest.fixture
def asking(person: Person, provider: ScriptedProvider) -> Callable[..., Answer]:
    return asker(person, provider)


def asker(person: Person, provider: ScriptedProvider) -> Callable[..., Answer]:
    """What asks for a reply in a conversation; it takes a moment, in which others act."""
    made = person.post("/chat/llm-providers", {"name": "P", "api_endpoint": provider.url}).body
    body = {"user_id": person.user["id"], "provider_id": made["id"], "api_key": "k"}
    assert person.post("/chat/user-llm-configs", body).status == 201
    model = person.user["id"]
    provider.script(openai_stream("Hel", openai_chunk({"content": "lo"}), Pause(0.02)), model=model)

    def ask(conversation_id: str, **fields: Any) -> Answer:
        body = {"conversation_id": conversation_id, "provider_id": made["id"], "model": model, **fields}
        return person.post("/chat/completions", body)

    return ask


def deadlocks(app: Flask) -> int:
    """How many Postgres has found in this database, and ended by refusing one of the two."""
    with app.app_context():
        if db.engine.dialect.name != "postgresql":
            return 0
    return run_sql(app, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0]


def test_replies_that_end_while_all_is_deleted_end_without_a_word(
    app: Flask, person: Person, three_workers: GunicornServer, asking: Callable[..., Answer]
) -> None:
    """Neither waits for what the other one holds: no 5xx, and nothing in the log."""
    before, deadlocks_before = len(three_workers.log), deadlocks(app)
    for _ in range(6):
        conversations = [person.conversation() for _ in range(6)]
        firsts = [person.say(conversation_id, "first").body["id"] for conversation_id in conversations]
        actions: list[Callable[[], Answer]] = []
        for conversation_id, first in zip(conversations, firsts, strict=True):
            actions.append(partial(asking, conversation_id, content="Hi", parent_id=first))
            place = f"/chat/conversations/{conversation_id}"
            actions.append(partial(person.delete, place if len(actions) % 3 else f"/chat/messages/{first}"))
        answers = at_once(actions)
        assert set(statuses(answers)) <= {201, 204, 404}, [one for one in answers if one.status >= 500]
        for conversation_id in conversations:
            person.delete(f"/chat/conversations/{conversation_id}")
    assert deadlocks(app) == deadlocks_before
    rows = owned_rows(app, person.user["id"])
    assert (rows["completions"], rows["completion_pieces"], rows["messages"]) == (0, 0, 0)
    assert '"level":"error"' not in three_workers.log[before:].replace(" ", "")


def test_replies_that_end_while_their_owner_is_erased_end_without_a_word(
    app: Flask, three_workers: GunicornServer, provider: ScriptedProvider
) -> None:
    before, deadlocks_before = len(three_workers.log), deadlocks(app)
    for _ in range(3):
        person = Person(three_workers)
        ask = asker(person, provider)
        actions = [partial(ask, person.conversation(), content="Hi") for _ in range(6)]
        erase = partial(person.delete, "/auth/me")
        answers = at_once([*actions, erase])
        assert set(statuses(answers)) <= {201, 204, 401, 404}
        assert not any(owned_rows(app, person.user["id"]).values())
    assert deadlocks(app) == deadlocks_before
    assert '"level":"error"' not in three_workers.log[before:].replace(" ", "")
