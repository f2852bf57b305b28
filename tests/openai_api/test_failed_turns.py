"""A reply that fails before its first word leaves no turn on the active path; its messages stay in the tree."""

import pytest

from tests.openai_api.asking import Asking, text_of
from tests.openai_api.door import assistant, refused, user
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Asking:
    door = Asking.open(ada, provider)
    door.script(openai_stream("First."), error_answer(429, "Slow down."), openai_stream("Second."))
    return door


def texts_of(door: Asking, branch: str = "active") -> list[str]:
    [conversation] = door.conversations()
    return [text for _, text in door.said(conversation["id"], branch)]


def test_a_follow_up_that_fails_and_is_sent_again(door: Asking) -> None:
    first = door.response("One")
    for name, named in (
        ("previous_response_id", first["id"]),
        ("conversation", door.conversations()[0]["id"]),
    ):
        door.script(error_answer(429, "Slow down."), openai_stream("Second."))
        before = texts_of(door)
        refused(door.create("Two", **{name: named}), 429, "provider_rate_limited")
        assert texts_of(door) == before
        assert text_of(door.response("Two", **{name: named})) == "Second."
        assert texts_of(door)[-2:] == ["Two", "Second."]
    assert len(texts_of(door, "all")) == 8


def test_a_chat_that_fails_and_is_sent_again(door: Asking) -> None:
    _, text = door.talk(user("One"))
    history = [user("One"), assistant(text), user("Two")]
    refused(door.ask(*history), 429, "provider_rate_limited")
    assert texts_of(door) == ["One", "First."]
    door.talk(*history)
    assert texts_of(door) == ["One", "First.", "Two", "Second."]


def test_another_reply_that_fails_leaves_the_one_before(door: Asking) -> None:
    door.talk(user("One"))
    conversation_id = door.conversations()[0]["id"]
    refused(door.ask(user("One"), conversation=conversation_id), 429, "provider_rate_limited")
    assert texts_of(door) == ["One", "First."]


def test_a_first_question_stays(door: Asking) -> None:
    door.script(error_answer(429, "Slow down."))
    refused(door.create("One"), 429, "provider_rate_limited")
    assert texts_of(door) == ["One"]
