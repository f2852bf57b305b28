"""Lost or changed ENCRYPTION_KEYS: an answer that says what to do, never a 500, and a count for the operator."""

import logging
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask

from chat_api import keyring
from chat_api.database.session import db
from chat_api.keyring import Keyring
from chat_api.operations import key_check, maintenance
from chat_api.operations.key_check import KeyCheck
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.provider import ScriptedProvider


@pytest.fixture
def provider_id(ada: Api, provider: ScriptedProvider) -> str:
    """A provider for which Ada has stored a key."""
    made = ada.post("/chat/llm-providers", {"name": "Keys", "api_endpoint": provider.url})
    provider_id: str = made.get_json()["id"]
    config = {"user_id": ada.user["id"], "provider_id": provider_id, "api_key": "sk-1", "default_model": "m"}
    assert ada.post("/chat/user-llm-configs", config).status_code == 201
    return provider_id


@pytest.fixture
def conversation(ada: Api) -> dict[str, str]:
    created: dict[str, str] = ada.post(
        "/chat/conversations", {"user_id": ada.user["id"], "title": "Keys"}
    ).get_json()
    return created


@pytest.fixture
def lost_keys(app: Flask) -> Iterator[None]:
    """The operator starts the service with another key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((Fernet.generate_key().decode(),)))
        yield


def test_everything_that_needs_a_lost_key_says_to_store_it_again(
    app: Flask, ada: Api, provider_id: str, conversation: dict[str, str], lost_keys: None
) -> None:
    body = {"conversation_id": conversation["id"], "provider_id": provider_id, "content": "Hello?"}
    config = f"/chat/user-llm-configs/{ada.user['id']}/{provider_id}"
    for refused in (
        ada.post("/chat/completions", body),
        ada.post("/chat/completions", body, headers={"Idempotency-Key": uuid.uuid4().hex}),
        ada.post("/chat/completions?dry_run=true", body),
        ada.get(f"/chat/llm-providers/{provider_id}/models"),
    ):
        assert (refused.status_code, refused.get_json()["code"]) == (409, "key_unreadable")
        assert "store the key again" in refused.get_json()["detail"]
    assert not ada.get(f"/chat/conversations/{conversation['id']}/messages").get_json()
    assert ada.get(config).status_code == 200  # what is not encrypted is still there
    again = {"api_key": "sk-2", "default_model": "m", "context_window": None}
    assert ada.put(config, again).status_code == 200
    assert ada.post("/chat/completions?dry_run=true", body).status_code == 200


def test_a_response_that_can_not_be_replayed_is_not_done_again(app: Flask, ada: Api) -> None:
    body = {"user_id": ada.user["id"], "title": "Once"}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = ada.post("/chat/conversations", body, headers=headers)
    assert first.status_code == 201
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((Fernet.generate_key().decode(),)))
        second = ada.post("/chat/conversations", body, headers=headers)
    assert (second.status_code, second.get_json()["code"]) == (409, "response_unreadable")
    assert second.headers["Location"] == first.headers["Location"]
    assert len(ada.get("/chat/conversations").get_json()) == 1


def test_another_jwt_secret_is_no_500(app: Flask, ada: Api) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"user_id": ada.user["id"], "title": "Once"}
    assert ada.post("/chat/conversations", body, headers=headers).status_code == 201
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.config, "JWT_SECRET_KEY", "another-secret-" + uuid.uuid4().hex * 2)
        assert ada.get("/auth/me").status_code == 401
        again = ada.log_in()
        assert again.post("/chat/conversations", body, headers=headers).status_code in (201, 422)
        assert again.get("/chat/conversations").status_code == 200


def test_keys_check_counts_what_can_not_be_opened(app: Flask, ada: Api, provider_id: str) -> None:
    sound = run_flask(lambda: app, "keys", "check")
    assert "Stored secrets: " in sound.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((Fernet.generate_key().decode(),)))
        broken = run_flask(lambda: app, "keys", "check")
    assert broken.exit_code == 1
    total = int(broken.stdout.split("Stored secrets: ")[1].split(",")[0])
    assert total > 0
    assert f"can't be opened {total}." in broken.stdout
    assert broken.stderr.startswith("Error: Some stored secrets can't be opened with any of ENCRYPTION_KEYS")


def test_secrets_are_counted_in_batches_while_another_writes(
    app: Flask, ada: Api, bob: Api, provider_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes no lock: on SQLite it would wait for the writer, and writers for it."""
    for key in ("one", "two"):
        headers = {"Idempotency-Key": f"{key} {uuid.uuid4().hex}"}
        assert (
            bob.post("/chat/conversations", {"user_id": bob.user["id"]}, headers=headers).status_code == 201
        )
    with app.app_context():
        [*batches] = maintenance.count_secrets()
        total = sum(found for found, _ in batches)
        monkeypatch.setattr(maintenance, "BATCH", 1)
        with db.engine.connect() as writer:
            writer.execute(sa.text("UPDATE users SET role = role WHERE id = :id"), {"id": bob.user["id"]})
            ones = list(maintenance.count_secrets())
            writer.rollback()
    assert total > 2
    assert sum(found for found, _ in ones) == total
    assert len(ones) > len(batches)


def test_a_starting_server_logs_what_can_not_be_opened(
    app: Flask, ada: Api, provider_id: str, lost_keys: None
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    key_check.log.addHandler(handler)
    try:
        check = KeyCheck(app)
        check.start_serving()
        assert check._thread is not None
        check._thread.join(60)
        check.finish_shutdown()
    finally:
        key_check.log.removeHandler(handler)
    [record] = records
    assert record.levelname == "WARNING"
    assert record.__dict__["unreadable"] == record.__dict__["secrets"] > 0
