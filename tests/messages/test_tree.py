"""Branches: a model of the tree of messages that the service has to agree with, step by step."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from flask import Flask
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.api import Api
from tests.support.tables import path_in_tables

pytestmark = pytest.mark.slow

SETTINGS = hypothesis.settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
ANY_ONE = st.integers(0, 1000)  # one of the messages, whatever their number
ANY_ONE_OR_NONE = st.none() | ANY_ONE


class Conversation(RuleBasedStateMachine):
    """One conversation that grows, forks and is cut. The model knows each message's parent, in order of position."""

    user: Api

    def __init__(self) -> None:
        super().__init__()
        self.id = self.user.conversation()["id"]
        self.place = f"/chat/conversations/{self.id}"
        self.parents: dict[str, str | None] = {}
        self.positions: dict[str, int] = {}
        self.deleted: list[str] = []
        self.leaf: str | None = None
        self.last_position = 0

    # -- the model ----------------------------------------------------------------------------------------------

    def chosen(self, number: int | None) -> str | None:
        return None if number is None else list(self.parents)[number % len(self.parents)]

    def path_to(self, leaf: str | None) -> list[str]:
        return [] if leaf is None else [*self.path_to(self.parents[leaf]), leaf]

    def grown(self, message: dict[str, Any], parent: str | None) -> None:
        self.last_position += 1
        assert (message["parent_id"], message["position"]) == (parent, self.last_position)
        self.leaf = message["id"]
        self.parents[message["id"]], self.positions[message["id"]] = parent, self.last_position

    # -- steps --------------------------------------------------------------------------------------------------

    @rule()
    def append(self) -> None:
        self.grown(self.user.message(self.id), self.leaf)

    @rule(role=st.sampled_from(["assistant", "system"]))
    def append_another_role(self, role: str) -> None:
        self.grown(self.user.message(self.id, role=role), self.leaf)

    @rule()
    def append_a_call(self) -> None:
        self.grown(self.user.calling(self.id, "call_1"), self.leaf)

    @precondition(lambda self: self.parents)
    @rule(number=ANY_ONE_OR_NONE)
    def answer(self, number: int | None) -> None:
        parent = self.chosen(number)
        self.grown(self.user.message(self.id, parent_id=parent), parent)

    @precondition(lambda self: self.parents)
    @rule(number=ANY_ONE_OR_NONE)
    def move_leaf(self, number: int | None) -> None:
        self.leaf = self.chosen(number)
        before = self.user.get(self.place).get_json()
        moved = self.user.patch(self.place, {"active_leaf_id": self.leaf})
        assert moved.status_code == 200
        assert moved.get_json() == {**before, "active_leaf_id": self.leaf}

    @precondition(lambda self: self.parents)
    @rule(number=ANY_ONE)
    def delete(self, number: int) -> None:
        message = self.chosen(number)
        assert message is not None
        gone = [one for one in self.parents if message in self.path_to(one)]
        if self.leaf in gone:
            self.leaf = self.parents[message]
        for one in gone:
            del self.parents[one], self.positions[one]
        self.deleted += gone
        assert self.user.delete(f"/chat/messages/{message}").status_code == 204

    @precondition(lambda self: self.deleted)
    @rule(number=ANY_ONE)
    def name_one_that_is_gone(self, number: int) -> None:
        gone = self.deleted[number % len(self.deleted)]
        body = {"conversation_id": self.id, "role": "user", "content": "x", "parent_id": gone}
        for refused in (
            self.user.post("/chat/messages", body),
            self.user.patch(self.place, {"active_leaf_id": gone}),
            self.user.get(f"/chat/messages/{gone}"),
            self.user.delete(f"/chat/messages/{gone}"),
            self.user.get(f"{self.place}/messages?branch=all&around={gone}"),
        ):
            assert refused.status_code == 404

    @precondition(lambda self: self.parents)
    @rule(number=ANY_ONE, limit=st.integers(1, 5))
    def look_around(self, number: int, limit: int) -> None:
        message = self.chosen(number)
        assert message is not None
        for query, ids in (("", self.path_to(self.leaf)), ("&branch=all", list(self.parents))):
            answer = self.user.get(f"{self.place}/messages?limit={limit}&around={message}{query}")
            if message not in ids:
                assert (answer.status_code, list(answer.get_json()["errors"])) == (400, ["around"])
                continue
            found, at = [one["id"] for one in answer.get_json()], ids.index(message)
            begin = max(0, at + 1 - (limit + 1) // 2)
            assert found == ids[begin : begin + limit]

    # -- what holds after each step -----------------------------------------------------------------------------

    @invariant()
    def active_path_agrees(self) -> None:
        messages = self.user.get(f"{self.place}/messages").get_json()
        assert [one["id"] for one in messages] == self.path_to(self.leaf)
        assert path_in_tables(self.user.app, self.user.user_id, self.id) == self.path_to(self.leaf)

    @invariant()
    def all_branches_agree(self) -> None:
        messages = self.user.get(f"{self.place}/messages?branch=all").get_json()
        told = {one["id"]: (one["parent_id"], one["position"]) for one in messages}
        assert list(told) == list(self.parents)
        assert told == {id_: (parent, self.positions[id_]) for id_, parent in self.parents.items()}

    @invariant()
    def conversation_agrees(self) -> None:
        conversation = self.user.get(self.place).get_json()
        told = conversation["message_count"], conversation["active_leaf_id"]
        assert told == (len(self.parents), self.leaf)


def test_service_agrees_with_the_model_of_the_tree(app: Flask, ada: Api) -> None:
    class OfAda(Conversation):
        user = ada

    run_state_machine_as_test(OfAda, settings=SETTINGS)
