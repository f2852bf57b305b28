"""Completions in the background, previews of their own, and titles from the first words."""

import threading
from typing import Any

import pytest

from tests.completions.chat import Chat, joined
from tests.support.api import Api
from tests.support.provider import openai_stream


@pytest.mark.happy_path("create_completion")
def test_a_completion_in_the_background_is_answered_before_it_is_written(chat: Chat) -> None:
    may_begin = threading.Event()
    chat.script(openai_stream(may_begin, "By ", "the ", "river."))
    answer = chat.ask(background=True)
    may_begin.set()
    begun = answer.get_json()
    assert (answer.status_code, begun["status"]) == (202, "in_progress")
    assert answer.headers["Location"] == f"/chat/completions/{begun['id']}"
    assert joined(chat.events(begun["id"]).rest()) == "By the river."
    ended = chat.ended(begun["id"])
    assert (ended["status"], ended["message"]["content"]) == ("completed", "By the river.")
    assert [role for role, _, _ in chat.said] == ["user", "assistant"]


def test_a_repeated_request_finds_the_same_completion(chat: Chat) -> None:
    first, again = (chat.ask(background=True, headers={"Idempotency-Key": chat.model}) for _ in range(2))
    assert first.get_json()["id"] == again.get_json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    chat.ended(first.get_json()["id"])
    later = chat.ask(background=True, headers={"Idempotency-Key": chat.model})
    assert (later.status_code, later.get_json()["status"]) == (202, "completed")
    assert len(chat.sent) == 1


def test_a_failure_in_the_background_is_found_in_the_completion(chat: Chat) -> None:
    answer = chat.ask(background=True, content=None)
    assert answer.status_code == 400  # what can be refused at once is
    missing = chat.ask(background=True, provider_id=chat.conversation_id)
    assert missing.status_code == 404


@pytest.mark.happy_path("preview_completion")
def test_a_preview_is_what_a_dry_run_was(chat: Chat) -> None:
    old = chat.ask(query="?dry_run=true")
    new = chat.api.post("/chat/completions/preview", chat.asked())
    assert new.status_code == 200
    assert new.get_json() == old.get_json()
    assert chat.sent == []
    assert chat.messages == []


LONG = (
    "Which of the restaurants near the old harbour would you recommend for a family with two small children?"
)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Where should I eat?", "Where should I eat?"),
        ("  Where\n\tshould I   eat? ", "Where should I eat?"),
        (LONG, "Which of the restaurants near the old harbour would you…"),
        ("啊" * 200, "啊" * 59 + "…"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
    ],
)
def test_a_conversation_without_a_title_gets_the_first_words(chat: Chat, content: str, title: str) -> None:
    conversation = chat.api.made("/chat/conversations", {})
    assert (conversation["title"], conversation["user_id"]) == ("", chat.api.user_id)
    path = f"/chat/conversations/{conversation['id']}"
    chat.reply(conversation_id=conversation["id"], content=content)
    assert chat.api.get(path).get_json()["title"] == title
    chat.reply(conversation_id=conversation["id"], content="Something else")
    assert chat.api.get(path).get_json()["title"] == title


def test_a_title_that_was_given_stays(chat: Chat) -> None:
    conversation = chat.api.made("/chat/conversations", {"title": None, "user_id": None})
    path = f"/chat/conversations/{conversation['id']}"
    assert chat.api.patch(path, {"title": "Mine"}).status_code == 200
    chat.reply(conversation_id=conversation["id"])
    assert chat.api.get(path).get_json()["title"] == "Mine"


def test_a_failed_reply_gives_no_title(chat: Chat) -> None:
    conversation = chat.api.made("/chat/conversations", {"title": ""})
    refused: Any = chat.ask(conversation_id=conversation["id"], parameters={"temperature": 9})
    assert refused.status_code == 400
    assert chat.api.get(f"/chat/conversations/{conversation['id']}").get_json()["title"] == ""


def test_conversations_without_titles_are_exported_and_imported(ada: Api, bob: Api) -> None:
    ada.made("/chat/conversations", {})
    exported = ada.get("/chat/export", buffered=True).get_data()
    report = bob.post("/chat/import", data=exported, content_type="application/x-ndjson")
    assert report.status_code == 200
    assert [item["title"] for item in bob.get("/chat/conversations").get_json()] == [""]
