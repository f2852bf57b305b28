"""What one user may store: the limit is exact in one worker, the error says what to do, and deleting makes room."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from chat_api.conversations.service import QUOTAS
from chat_api.messages import service
from chat_api.users import quotas
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider, error_answer
from tests.transfer.exports import (
    attachment,
    completion,
    conversation,
    file_of,
    imported,
    message,
    whole,
)
from tests.transfer.exports import provider as provider_line

Limit = Callable[..., None]


@pytest.fixture
def limit(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets quotas; a refusal is never older than the request, or tests would wait."""
    monkeypatch.setattr(quotas, "REFUSES_WITHIN_S", 0)

    def set_to(**settings: int) -> None:
        for name, value in settings.items():
            monkeypatch.setitem(app.config, name, value)

    return set_to


def assert_exceeded(response: Any, quota: str, limit: int) -> None:
    problem = assert_problem(response, 409)
    assert (problem["code"], problem["quota"], problem["limit"]) == ("quota_exceeded", quota, limit)
    assert f"{limit} " in problem["detail"]


def test_conversations(ada: Api, bob: Api, limit: Limit) -> None:
    limit(MAX_CONVERSATIONS_PER_USER=3)
    made = [ada.conversation()["id"] for _ in range(3)]
    refused = ada.post("/chat/conversations", {"title": "One too many", "user_id": ada.user_id})
    assert_exceeded(refused, "conversations", 3)
    assert "MAX_CONVERSATIONS_PER_USER" in refused.get_json()["detail"]
    bob.conversation()  # has quotas of his own
    assert ada.delete(f"/chat/conversations/{made[0]}").status_code == 204
    ada.conversation()


@pytest.mark.parametrize("key", [None, "a key"])
def test_messages(ada: Api, limit: Limit, key: str | None) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    limit(MAX_MESSAGES_PER_USER=3)
    here, there = ada.conversation()["id"], ada.conversation()["id"]
    ids = [ada.message(at)["id"] for at in (here, here, there)]
    body = {"conversation_id": there, "role": "user", "content": "One too many"}
    assert_exceeded(ada.post("/chat/messages", body, headers=headers), "messages", 3)
    assert ada.delete(f"/chat/messages/{ids[1]}").status_code == 204
    assert ada.post("/chat/messages", body, headers=headers).status_code == 201


def test_bytes_of_messages(ada: Api, limit: Limit) -> None:
    limit(MAX_MESSAGE_BYTES_PER_USER=1000)
    here = ada.conversation()["id"]
    first = ada.message(here, "\N{EURO SIGN}" * 300)  # 900 bytes
    body = {"conversation_id": here, "role": "user", "content": "x" * 101}
    assert_exceeded(ada.post("/chat/messages", body), "message_bytes", 1000)
    ada.message(here, "x" * 100)
    assert_exceeded(ada.post("/chat/messages", {**body, "content": "x"}), "message_bytes", 1000)
    ada.delete(f"/chat/messages/{first['id']}")  # with what answers it
    ada.message(here, "x" * 1000)


def test_a_reply_needs_room_before_it_begins(ada: Api, limit: Limit) -> None:
    here, provider_id = ada.conversation()["id"], ada.provider()["id"]
    ada.config(provider_id)
    ada.message(here)
    limit(MAX_MESSAGES_PER_USER=2)  # room for one of two
    body = {"conversation_id": here, "provider_id": provider_id, "model": "m", "content": "Well?"}
    assert_exceeded(ada.post("/chat/completions", body), "messages", 2)


def test_completions(ada: Api, provider: ScriptedProvider, limit: Limit) -> None:
    """Also of those that fail, and store no message."""
    provider.script(error_answer(400, "No."), model="refuses")
    here, provider_id = ada.conversation()["id"], ada.provider(api_endpoint=provider.url)["id"]
    ada.config(provider_id)
    message_id = ada.message(here)["id"]
    limit(MAX_COMPLETIONS_PER_USER=2)
    body = {"conversation_id": here, "provider_id": provider_id, "model": "refuses", "parent_id": message_id}
    for _ in range(2):
        assert ada.post("/chat/completions", body).status_code == 502
    for headers in ({}, {"Idempotency-Key": "k"}):
        refused = ada.post("/chat/completions", body, headers=headers)
        assert_exceeded(refused, "completions", 2)
        assert "delete some of the messages" in refused.get_json()["detail"]
    assert ada.delete(f"/chat/messages/{message_id}").status_code == 204
    body["parent_id"] = ada.message(here)["id"]
    assert ada.post("/chat/completions", body).status_code == 502


def test_attachments_providers_and_keys(ada: Api, admin: Api, limit: Limit) -> None:
    limit(MAX_ATTACHMENTS_PER_USER=1, MAX_PROVIDERS_PER_USER=2, MAX_CONFIGS_PER_USER=1)
    message_id = ada.message(ada.conversation()["id"])["id"]
    ada.attachment(message_id)
    body = {"message_id": message_id, "file_type": "image/png", "file_path": "b.png"}
    assert_exceeded(ada.post("/chat/attachments", body), "attachments", 1)

    first, second = ada.provider()["id"], ada.provider()["id"]
    body = {"name": "P", "api_endpoint": "https://p.example/v1"}
    assert_exceeded(ada.post("/chat/llm-providers", body), "providers", 2)
    for _ in range(3):
        admin.provider(shared=True)  # nobody's

    ada.config(first)
    path = f"/chat/user-llm-configs/{ada.user_id}/{second}"
    assert_exceeded(ada.put(path, {"api_key": "sk-0123456789abcdef"}), "configs", 1)
    assert ada.delete(f"/chat/llm-providers/{first}").status_code == 204
    assert ada.put(path, {"api_key": "sk-0123456789abcdef"}).status_code == 201
    assert ada.put(path, {"api_key": "sk-fedcba9876543210"}).status_code == 200  # one that is there


def test_stored_responses(ada: Api, limit: Limit) -> None:
    limit(MAX_STORED_RESPONSES_PER_USER=2)
    titled = {"title": "T", "user_id": ada.user_id}
    for key in "ab":
        assert ada.post("/chat/conversations", titled, headers={"Idempotency-Key": key}).status_code == 201
    refused = ada.post("/chat/conversations", titled, headers={"Idempotency-Key": "c"})
    assert_exceeded(refused, "stored_responses", 2)
    assert len(ada.get("/chat/conversations").get_json()) == 2  # nothing was stored
    again = ada.post("/chat/conversations", titled, headers={"Idempotency-Key": "a"})
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    ada.conversation()


def test_an_import_obeys_them(ada: Api, limit: Limit) -> None:
    limit(MAX_CONVERSATIONS_PER_USER=3, MAX_MESSAGES_PER_USER=7)
    report = imported(ada, file_of(*whole(2), *whole(2), *whole(2), *whole(2)))
    assert report["conversations"] == {"imported": 3, "updated": 0, "unchanged": 0, "failed": 1}
    assert "3 conversations" in report["errors"][0]["detail"]
    limit(MAX_CONVERSATIONS_PER_USER=10)
    report = imported(ada, file_of(*whole(5), *whole(1)))
    assert report["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 1}
    assert "7 messages" in report["errors"][0]["detail"]
    limit(MAX_PROVIDERS_PER_USER=1)
    report = imported(ada, file_of(provider_line(name="A"), provider_line(name="B"), *whole(0)))
    assert report["providers"]["imported"] == 1
    assert "1 LLM providers" in report["errors"][0]["detail"]


def with_parts(ada: Api, attachments: int, completions: int) -> bytes:
    """An export of one conversation with so many of each."""
    first = conversation()
    said = message(first, 1)
    parts = [attachment(said) for _ in range(attachments)]
    return file_of(first, said, *parts, *(completion(said) for _ in range(completions)))


def test_what_belongs_to_messages_of_an_import_counts_like_any_other(ada: Api, limit: Limit) -> None:
    limit(MAX_ATTACHMENTS_PER_USER=5, MAX_COMPLETIONS_PER_USER=5)
    report = imported(ada, with_parts(ada, 3, 3))
    assert report["conversations"]["imported"] == 1
    for parts, what in (((3, 0), "5 attachments"), ((0, 3), "5 completions")):
        report = imported(ada, with_parts(ada, *parts))
        assert report["conversations"] == {"imported": 0, "updated": 0, "unchanged": 0, "failed": 1}
        assert what in report["errors"][0]["detail"]
    assert imported(ada, with_parts(ada, 2, 2))["conversations"]["imported"] == 1
    body = {"message_id": ada.message(ada.conversation()["id"])["id"], "file_type": "a/b", "file_path": "b"}
    assert_exceeded(ada.post("/chat/attachments", body), "attachments", 5)


def test_while_one_request_reads_what_is_stored_the_others_go_on(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it takes long where there is much: sixteen requests at once had all read it."""
    here = ada.conversation()["id"]
    ada.message(here)
    reads, goes_on = threading.Event(), threading.Event()
    read, times = QUOTAS._read, []

    def read_slowly(user_id: str) -> Any:
        times.append(user_id)
        reads.set()
        assert goes_on.wait(10)
        return read(user_id)

    monkeypatch.setattr(QUOTAS, "_read", read_slowly)
    monkeypatch.setattr(quotas, "REMEMBERED_FAR_OFF_S", 0)
    monkeypatch.setattr(quotas, "REMEMBERED_S", 0)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ada.message, here, "the one that reads")
        assert reads.wait(10)
        ada.message(here, "another")
        goes_on.set()
        assert first.result()["content"] == "the one that reads"
    assert times == [ada.user_id]


def test_what_is_far_from_its_limit_is_seldom_read(
    ada: Api, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ada.conversation()["id"]
    times: list[str] = []
    read = QUOTAS._read

    def noted(user_id: str) -> Any:
        times.append(user_id)
        return read(user_id)

    monkeypatch.setattr(QUOTAS, "_read", noted)
    monkeypatch.setattr(quotas, "REMEMBERED_S", 0)
    for _ in range(4):
        ada.message(here)
    assert len(times) <= 1
    limit(MAX_MESSAGES_PER_USER=8)
    ada.message(here)
    ada.message(here)
    assert len(times) >= 2


def test_what_other_workers_store_counts_after_a_while(
    app: Flask, ada: Api, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overshoot is what they store within REMEMBERED_S."""
    here = ada.conversation()["id"]
    ada.message(here)
    limit(MAX_MESSAGES_PER_USER=3)
    with app.app_context():
        for _ in range(4):  # past the quota, as another worker does
            service.append_message_and_commit(
                user_id=ada.user_id, conversation_id=here, role="user", content="x"
            )
    ada.message(here)  # this one knows of two
    monkeypatch.setattr(quotas, "REMEMBERED_S", 0)
    body = {"conversation_id": here, "role": "user", "content": "x"}
    assert_exceeded(ada.post("/chat/messages", body), "messages", 3)
