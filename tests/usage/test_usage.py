"""GET /chat/usage: what is used of each quota agrees with what is stored, is the caller's own, and names the limits."""

from typing import Any

import pytest
from flask import Flask

from chat_api.usage import service
from chat_api.users import quotas
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import owned_rows
from tests.support.uploads import PNG, uploaded
from tests.transfer.exports import file_of, imported, whole

TABLES = {
    "conversations": "conversations",
    "messages": "messages",
    "attachments": "attachments",
    "attachment_drafts": "attachment_drafts",
    "completions": "completions",
    "providers": "llm_providers",
    "configs": "user_llm_configs",
    "stored_responses": "idempotency_keys",
    "tokens": "personal_access_tokens",
}


@pytest.fixture(autouse=True)
def _always_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is older than its request, or tests would wait for a second."""
    monkeypatch.setattr(quotas, "REFUSES_WITHIN_S", 0)


def used(user: Api, **options: Any) -> dict[str, int]:
    answer = user.get("/chat/usage", **options)
    assert answer.status_code == 200
    return {name: use["used"] for name, use in answer.get_json().items()}


def store_something_of_each(user: Api, provider: ScriptedProvider) -> None:
    message = user.message(user.conversation()["id"], "\N{EURO SIGN}uro")
    user.attachment(message["id"])
    uploaded(user)
    uploaded(user)  # the same content, which counts once
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    user.completion(message["conversation_id"], provider_id)
    user.made("/auth/tokens", {"name": "script"}, headers={"Idempotency-Key": "one"})


@pytest.mark.happy_path("get_usage")
def test_it_agrees_with_what_is_stored(
    app: Flask, ada: Api, bob: Api, admin: Api, provider: ScriptedProvider
) -> None:
    assert not any(used(ada).values())
    store_something_of_each(ada, provider)
    admin.provider(shared=True)  # nobody's
    rows = owned_rows(app, ada.user_id)
    usage = used(ada)
    assert usage.pop("file_bytes") == len(PNG)
    contents = [
        message["content"]
        for conversation in ada.get("/chat/conversations").get_json()
        for message in ada.get(f"/chat/conversations/{conversation['id']}/messages").get_json()
    ]
    assert usage.pop("message_bytes") == sum(len(content.encode()) for content in contents)
    assert usage == {name: rows[table] for name, table in TABLES.items()}
    assert all(usage.values())
    assert not any(used(bob).values()), "It is the caller's own."
    assert used(admin, headers={"X-Act-As": ada.user_id})["messages"] == usage["messages"]


def test_every_quota_is_listed(app: Flask, ada: Api) -> None:
    settings = {name for name in app.config if name.startswith("MAX_") and name.endswith("_PER_USER")}
    settings.remove("MAX_STREAMS_PER_USER")  # of what runs, not of what is stored
    with app.app_context():
        listed = service.get_usage(user_id=ada.user_id)
    assert set(ada.get("/chat/usage").get_json()) == set(listed)
    assert len(listed) == len(settings) + 1, "Each setting, and the tokens, whose number is fixed."


def test_it_names_the_limits_of_the_errors(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MAX_CONVERSATIONS_PER_USER", 1)
    ada.conversation()
    problem = ada.post("/chat/conversations", {"title": "T", "user_id": ada.user_id}).get_json()
    usage = ada.get("/chat/usage").get_json()
    assert usage[problem["quota"]] == {"used": 1, "limit": problem["limit"]}
    assert usage["tokens"]["limit"] == 50
    assert usage["message_bytes"]["limit"] == app.config["MAX_MESSAGE_BYTES_PER_USER"]


def test_what_is_imported_counts_and_what_is_deleted_does_not(ada: Api) -> None:
    imported(ada, file_of(*whole(3)))
    usage = used(ada)
    assert (usage["conversations"], usage["messages"]) == (1, 3)
    [conversation] = ada.get("/chat/conversations").get_json()
    ada.delete(f"/chat/conversations/{conversation['id']}")
    assert not any(used(ada).values())


def test_reading_it_again_and_again_reads_little(ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting what somebody has stored costs more than the request brings, so it is done once a second."""
    monkeypatch.setattr(quotas, "REFUSES_WITHIN_S", 60)
    monkeypatch.setattr(quotas, "REMEMBERED_S", 60)
    ada.conversation()
    assert used(ada)["conversations"] == 1
    ada.conversation()  # is added to what is remembered
    assert used(ada)["conversations"] == 2


def test_it_needs_a_token_and_a_user(ada: Api, stranger: Api) -> None:
    assert stranger.get("/chat/usage").status_code == 401
    ada.delete("/auth/me")
    assert ada.get("/chat/usage").status_code in (401, 404)
