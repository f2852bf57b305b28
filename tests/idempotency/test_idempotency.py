"""Idempotency-Key: one effect and one answer, for every operation that creates something."""

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.auth import service as auth
from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.idempotency import service
from chat_api.idempotency.decorator import MAX_STORED_BYTES
from chat_api.idempotency.models import IdempotencyKey
from chat_api.keyring import keyring
from tests.completions.chat import run_sql
from tests.conftest import serving
from tests.support.api import PASSWORD, POSTS, Api, new_email
from tests.support.bodies import Body
from tests.support.problems import assert_problem
from tests.support.provider import ScriptedProvider, error_answer
from tests.support.tables import everything_stored, owned_rows, promote

REPLAYED = "Idempotency-Replayed"
ENDPOINT: dict[str, str] = {}  # of the provider that replies to these tests


@pytest.fixture(autouse=True)
def _endpoint(provider: ScriptedProvider) -> None:
    ENDPOINT["url"] = provider.url


def register_body(user: Api) -> dict[str, Any]:
    return {"email": new_email(), "password": PASSWORD}


def token_body(user: Api) -> dict[str, Any]:
    return {"name": "script", "expires_in_days": 3}


def invitation_body(user: Api) -> dict[str, Any]:
    promote(user)
    return {"email": new_email()}


def conversation_body(user: Api) -> dict[str, Any]:
    return {"user_id": user.user_id, "title": "Trip to Lisbon"}


def message_body(user: Api) -> dict[str, Any]:
    return {"conversation_id": user.conversation()["id"], "role": "user", "content": "Where should I eat?"}


def attachment_body(user: Api) -> dict[str, Any]:
    message = user.message(user.conversation()["id"])
    return {"message_id": message["id"], "file_type": "image/png", "file_path": "uploads/a.png"}


def provider_body(user: Api) -> dict[str, Any]:
    return {"name": "P", "api_endpoint": "https://p.example/v1"}


def config_body(user: Api) -> dict[str, Any]:
    return {"user_id": user.user_id, "provider_id": user.provider()["id"], "api_key": "sk-0123456789abcdef"}


def completion_body(user: Api) -> dict[str, Any]:
    provider_id = user.provider(api_endpoint=ENDPOINT["url"])["id"]
    user.config(provider_id)
    conversation = user.conversation()["id"]
    return {"conversation_id": conversation, "provider_id": provider_id, "model": "m", "content": "Where to?"}


@dataclass(frozen=True)
class Creation:
    """One creating operation, and the field of its body that may be changed to another valid value."""

    path: str
    body: Callable[[Api], dict[str, Any]]
    field: str
    other: str

    def post(self, user: Api, body: Any, key: str = "k", **headers: str) -> TestResponse:
        return user.post(self.path, body, headers={"Idempotency-Key": key, **headers})


CREATIONS = [
    Creation("/auth/register", register_body, "password", "nine lives of a tabby cat"),
    Creation("/auth/tokens", token_body, "name", "another"),
    Creation("/chat/conversations", conversation_body, "title", "Another"),
    Creation("/chat/messages", message_body, "content", "Something else"),
    Creation("/chat/attachments", attachment_body, "file_path", "uploads/b.png"),
    Creation("/chat/llm-providers", provider_body, "name", "Another"),
    Creation("/chat/user-llm-configs", config_body, "api_key", "sk-another-0123456789"),
    Creation("/chat/completions", completion_body, "content", "Where else?"),
    Creation("/auth/invitations", invitation_body, "email", "someone.else@example.org"),
]
CONVERSATIONS, TOKENS, MESSAGES, CONFIGS = CREATIONS[2], CREATIONS[1], CREATIONS[3], CREATIONS[6]
COMPLETIONS, INVITATIONS = CREATIONS[7], CREATIONS[8]
SECRETS = {TOKENS.path: ("token",), INVITATIONS.path: ("invitation", "url")}  # sent once, and kept nowhere
every_creation = pytest.mark.parametrize("creation", CREATIONS, ids=lambda creation: creation.path)


def rows(app: Flask, user: Api, body: dict[str, Any]) -> dict[str, int]:
    """What the user has, and how many accounts the address of the body has."""
    with app.app_context():
        users = db.metadata.tables["users"]
        query = sa.select(sa.func.count()).where(users.c.email == body.get("email"))
        return {**owned_rows(app, user.user_id), "accounts": db.session.scalar(query) or 0}


def test_every_creating_operation_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    creating = {path for path, item in paths.items() if "201" in item.get("post", {}).get("responses", {})}
    assert creating == {creation.path for creation in CREATIONS}


# what release 0.1.0 adds to these bodies before it takes their fingerprint; it can't invite
DEFAULTS_OF_0_1_0: dict[str, dict[str, Any]] = {
    "/auth/register": {},
    "/auth/tokens": {},
    "/chat/conversations": {},
    "/chat/messages": {},
    "/chat/attachments": {},
    "/chat/llm-providers": {"api_format": "openai", "context_window": None, "shared": False},
    "/chat/user-llm-configs": {"context_window": None, "default_model": None},
    "/chat/completions": {
        "on_disconnect": "continue",
        "parameters": {},
        "parent_id": None,
        "stream": False,
    },
}


@every_creation
def test_fingerprint_is_that_of_the_release_before(
    ada: Api, creation: Creation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may be repeated at either, during an upgrade: a field that was added since must not change it."""
    if creation is INVITATIONS:
        assert creation.path not in DEFAULTS_OF_0_1_0
        return
    contents: list[Any] = []
    fingerprint_of = service.fingerprint_of

    def watched(*, content: Any) -> str:
        contents.append(content)
        return fingerprint_of(content=content)

    monkeypatch.setattr(service, "fingerprint_of", watched)
    body = creation.body(ada)
    assert creation.post(ada, body).status_code == 201
    assert contents == [[[body | DEFAULTS_OF_0_1_0[creation.path]], {}]]


@every_creation
def test_the_same_request_has_one_effect_and_one_answer(app: Flask, ada: Api, creation: Creation) -> None:
    body = creation.body(ada)
    first = creation.post(ada, body)
    assert first.status_code == 201, first.get_data(as_text=True)
    assert REPLAYED not in first.headers
    there = rows(app, ada, body)
    for again in (creation.post(ada, body), creation.post(ada, dict(reversed(body.items())))):
        assert (again.status_code, again.headers[REPLAYED]) == (201, "true")
        assert again.get_json() == first.get_json() | dict.fromkeys(SECRETS.get(creation.path, ()))
        assert again.headers.get("Location") == first.headers.get("Location")
        assert again.mimetype == "application/json"
    assert rows(app, ada, body) == there


@every_creation
def test_the_same_key_with_another_body_is_refused(app: Flask, ada: Api, creation: Creation) -> None:
    body = creation.body(ada)
    assert creation.post(ada, body).status_code == 201
    there = rows(app, ada, body)
    refused = creation.post(ada, {**body, creation.field: creation.other})
    assert (refused.status_code, refused.get_json()["code"]) == (422, "idempotency_key_reused")
    assert rows(app, ada, body) == there
    assert creation.post(ada, body).headers[REPLAYED] == "true"


@every_creation
def test_a_refused_request_does_not_burn_its_key(ada: Api, creation: Creation) -> None:
    body = creation.body(ada)
    assert creation.post(ada, {**body, creation.field: []}).status_code == 400
    created = creation.post(ada, body)
    assert created.status_code == 201
    assert REPLAYED not in created.headers


def test_a_request_for_something_missing_does_not_burn_its_key(app: Flask, ada: Api) -> None:
    provider = ada.provider()["id"]
    body = {"user_id": ada.user_id, "provider_id": provider, "api_key": "sk-0123456789"}
    missing = {**body, "provider_id": ada.conversation()["id"]}
    post = CONFIGS.post
    assert post(ada, missing).status_code == 404
    assert post(ada, body).status_code == 201
    assert post(ada, body, key="another").status_code == 409
    assert ada.made(CONVERSATIONS.path, conversation_body(ada), headers={"Idempotency-Key": "another"})


def test_a_taken_address_does_not_burn_its_key(app: Flask, ada: Api, stranger: Api) -> None:
    post, body = CREATIONS[0].post, {"email": ada.user["email"], "password": PASSWORD}
    assert post(stranger, body).status_code == 409
    assert ada.delete("/auth/me").status_code == 204
    assert post(stranger, body).status_code == 201


def test_a_key_of_another_user_is_another_key(ada: Api, bob: Api) -> None:
    made = [CONVERSATIONS.post(user, conversation_body(user)) for user in (ada, bob)]
    body = provider_body(ada)
    made += [CREATIONS[5].post(user, body) for user in (ada, bob)]
    assert [answer.status_code for answer in made] == [201] * 4
    assert len({answer.get_json()["id"] for answer in made}) == 4
    assert not [answer for answer in made if REPLAYED in answer.headers]


def test_a_key_on_another_route_is_another_key(ada: Api) -> None:
    for creation in CREATIONS[1:]:
        answer = creation.post(ada, creation.body(ada))
        assert answer.status_code == 201
        assert REPLAYED not in answer.headers


def test_a_trusted_back_end_uses_keys_for_each_of_its_users(trusted: Api, ada: Api, bob: Api) -> None:
    answers = [
        CREATIONS[5].post(trusted, provider_body(ada), **{"X-Act-As": user.user_id})
        for user in (ada, bob, ada)
    ]
    owners = [answer.get_json()["owner_id"] for answer in answers]
    assert owners == [ada.user_id, bob.user_id, ada.user_id]
    assert [REPLAYED in answer.headers for answer in answers] == [False, False, True]


# -- to whom a response is replayed -----------------------------------------------------------------------


def assert_like_a_first_request(creation: Creation, user: Api, body: Any, **headers: str) -> int:
    """Whoever did not send the first request gets what one of their own would get, and nobody's response.

    The status, which is that of a request with a key that nobody used.
    """
    response = creation.post(user, body, **headers)
    fresh = creation.post(user, body, key=f"fresh {uuid.uuid4()}", **headers)
    assert REPLAYED not in response.headers
    assert response.status_code == fresh.status_code, response.get_data(as_text=True)
    return response.status_code


def script_of(user: Api) -> Api:
    return Api(user.app, user.made("/auth/tokens", {"name": "script"})["token"], user.user)


def set_role(user: Api, role: str) -> Api:
    """The user with another role, and the login that the change makes necessary."""
    with user.app.app_context():
        auth.set_role(email=user.user["email"], role=role)
        db.session.commit()
    return user.log_in()


@pytest.mark.parametrize("creation", CREATIONS[1:], ids=lambda creation: creation.path)
def test_another_kind_of_token_gets_no_response_of_the_first(ada: Api, creation: Creation) -> None:
    body, script = creation.body(ada), script_of(ada)
    first = creation.post(ada, body)
    assert first.status_code == 201
    expected = {TOKENS.path: 403, INVITATIONS.path: 403, CONFIGS.path: 409}.get(creation.path, 201)
    assert assert_like_a_first_request(creation, script, body) == expected
    assert creation.post(ada, body).headers[REPLAYED] == "true"
    assert creation.post(ada.log_in(), body).headers[REPLAYED] == "true"


@pytest.mark.parametrize("creation", CREATIONS[1:], ids=lambda creation: creation.path)
def test_who_acts_for_a_user_and_the_user_have_keys_of_their_own(
    trusted: Api, admin: Api, ada: Api, creation: Creation
) -> None:
    body, act_as = creation.body(ada), {"X-Act-As": ada.user_id}
    first = creation.post(trusted, body, **act_as)
    assert first.status_code == (403 if creation.path in SECRETS else 201)
    assert_like_a_first_request(creation, ada, body)
    assert_like_a_first_request(creation, admin, body, **act_as)
    assert_like_a_first_request(creation, script_of(trusted), body, **act_as)
    if creation.path not in SECRETS:
        assert creation.post(trusted, body, **act_as).headers[REPLAYED] == "true"


@pytest.mark.parametrize("creation", [CONVERSATIONS, COMPLETIONS], ids=lambda creation: creation.path)
def test_a_response_that_an_older_release_stored_is_replayed(
    app: Flask, ada: Api, trusted: Api, creation: Creation
) -> None:
    """It knew no senders: at the upgrade a request that is repeated must not have a second effect."""
    body, act_as = creation.body(ada), {"X-Act-As": ada.user_id}
    first = creation.post(trusted, body, **act_as)
    assert REPLAYED not in first.headers
    run_sql(app, "UPDATE idempotency_keys SET sender = NULL WHERE user_id = :id", id=ada.user_id)
    for again in (creation.post(trusted, body, **act_as), creation.post(ada, body)):
        assert (again.headers[REPLAYED], again.get_json()["id"]) == ("true", first.get_json()["id"])


@pytest.mark.parametrize("creation", CREATIONS[1:-1], ids=lambda creation: creation.path)
@pytest.mark.parametrize("role", ["service", "admin"])
def test_after_a_change_of_role_no_response_is_replayed(
    app: Flask, make_user: Callable[..., Api], creation: Creation, role: str
) -> None:
    user = make_user(role)
    body = creation.body(user)
    assert creation.post(user, body).status_code == 201
    there = rows(app, user, body)
    demoted = set_role(user, "user")
    refused = creation.post(demoted, body)
    assert (refused.status_code, refused.get_json()["code"]) == (422, "idempotency_key_reused")
    assert {**rows(app, user, body), "logins": 0} == {**there, "logins": 0}
    assert creation.post(set_role(user, role), body).headers[REPLAYED] == "true"


def test_what_a_role_allowed_is_refused_without_it(make_user: Callable[..., Api], ada: Api) -> None:
    """The refusal of a first request comes before any response of an earlier one."""
    provider_id = make_user("admin").provider(shared=True)["id"]
    bodies: list[tuple[Creation, dict[str, Any]]] = [
        (CREATIONS[5], {**provider_body(ada), "shared": True}),
        (CONVERSATIONS, conversation_body(ada)),
        (CONFIGS, {"user_id": ada.user_id, "provider_id": provider_id, "api_key": "sk-0123456789abcdef"}),
    ]
    for creation, body in bodies:
        admin = make_user("admin")
        assert creation.post(admin, body).status_code == 201
        assert creation.post(set_role(admin, "user"), body).status_code == 403


def test_an_admins_response_does_not_go_to_the_user_acted_for(admin: Api, ada: Api) -> None:
    body = {**provider_body(ada), "shared": True}
    assert CREATIONS[5].post(admin, body, **{"X-Act-As": ada.user_id}).status_code == 201
    assert CREATIONS[5].post(ada, body).status_code == 403


def test_a_replay_needs_what_the_first_request_needed(ada: Api) -> None:
    """A token takes a recent login, and so does the response that names it."""
    assert TOKENS.post(ada, token_body(ada)).status_code == 201
    with time_machine.travel(now() + timedelta(minutes=6)):
        assert TOKENS.post(ada, token_body(ada)).get_json()["code"] == "recent_login_required"


def test_a_registration_is_not_replayed_where_there_are_no_accounts(
    database_url: str, tmp_path: Path, stranger: Api
) -> None:
    body = register_body(stranger)
    assert CREATIONS[0].post(stranger, body).status_code == 201
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key_file = tmp_path / "provider.pem"
    key_file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    provider = {"OIDC_ISSUER": "https://id.example/", "OIDC_AUDIENCE": "chat", "OIDC_KEYS": str(key_file)}
    settings = {"JWT_SECRET_KEY": stranger.app.config["JWT_SECRET_KEY"], "LOCAL_ACCOUNTS": False}
    with serving(database_url, tmp_path, **settings, **provider) as app:
        assert CREATIONS[0].post(Api(app), body).status_code == 403


def test_no_response_goes_to_a_stranger(ada: Api, stranger: Api) -> None:
    body = conversation_body(ada)
    assert CONVERSATIONS.post(ada, body).status_code == 201
    assert CONVERSATIONS.post(stranger, body).status_code == 401


@pytest.mark.parametrize(
    "key", ["", "x" * 256, "é", "a\tb", "\x7f"], ids=["empty", "long", "accent", "tab", "delete"]
)
def test_a_key_of_other_characters_or_length_is_refused(ada: Api, key: str) -> None:
    response = CONVERSATIONS.post(ada, conversation_body(ada), key=key)
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == ["Idempotency-Key"]


@pytest.mark.parametrize(
    "key", ["x" * 255, "'; DROP TABLE users; --", "0", "a b"], ids=["255", "sql", "one", "space"]
)
def test_a_key_may_be_any_printable_text(ada: Api, key: str) -> None:
    body = conversation_body(ada)
    assert CONVERSATIONS.post(ada, body, key=key).status_code == 201
    assert CONVERSATIONS.post(ada, body, key=key).headers[REPLAYED] == "true"
    assert REPLAYED not in CONVERSATIONS.post(ada, body, key=key[:-1] + "!").headers


@pytest.mark.parametrize(
    "age", [timedelta(hours=23, minutes=59), timedelta(hours=24)], ids=["before", "after"]
)
def test_a_key_is_free_after_24_hours(app: Flask, ada: Api, age: timedelta) -> None:
    body = conversation_body(ada)
    first = CONVERSATIONS.post(ada, body)
    with app.app_context():
        own = IdempotencyKey.user_id == ada.user_id
        db.session.execute(sa.update(IdempotencyKey).where(own).values(created_at=now() - age))
        db.session.commit()
    if age < timedelta(hours=24):
        assert CONVERSATIONS.post(ada, body).get_json() == first.get_json()
        return
    changed = CONVERSATIONS.post(ada, {**body, "title": "Another day"})
    assert (changed.status_code, changed.get_json()["title"]) == (201, "Another day")
    assert CONVERSATIONS.post(ada, {**body, "title": "Another day"}).get_json() == changed.get_json()


@pytest.mark.parametrize(
    "creation", [CREATIONS[0], MESSAGES, CONVERSATIONS, COMPLETIONS], ids=lambda creation: creation.path
)
def test_of_the_same_requests_at_once_one_has_an_effect(app: Flask, ada: Api, creation: Creation) -> None:
    body, start = creation.body(ada), threading.Barrier(8)
    before = rows(app, ada, body)

    def post(_: int) -> TestResponse:
        start.wait()
        return creation.post(ada, body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    made = [answer for answer in answers if answer.status_code == 201]
    still_running = [answer for answer in answers if answer.status_code == 409]
    assert len(made) + len(still_running) == 8
    assert len([answer for answer in made if REPLAYED not in answer.headers]) == 1
    assert len({answer.get_data() for answer in made}) == 1
    assert all((answer.get_json()["code"], answer.headers["Retry-After"]) == ("still_running", "1")
               for answer in still_running)  # fmt: skip
    assert creation.post(ada, body).get_data() == made[0].get_data()
    after = rows(app, ada, body)
    table = {"/auth/register": "accounts", MESSAGES.path: "messages", CONVERSATIONS.path: "conversations",
             COMPLETIONS.path: "completions"}  # fmt: skip
    assert after[table[creation.path]] == before[table[creation.path]] + 1


def test_a_streamed_reply_and_its_key_belong_together(ada: Api, provider: ScriptedProvider) -> None:
    """Whoever lost the stream asks again and gets the same one, from its beginning."""
    body = {**completion_body(ada), "stream": True}
    first, again = COMPLETIONS.post(ada, body), COMPLETIONS.post(ada, body)
    with first, again:
        texts = [first.get_data(as_text=True), again.get_data(as_text=True)]
    assert [answer.mimetype for answer in (first, again)] == ["text/event-stream"] * 2
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    started, ended = texts[0].split("\n\n")[0], texts[0].rstrip().split("\n\n")[-1]
    assert (started, ended) == (texts[1].split("\n\n")[0], texts[1].rstrip().split("\n\n")[-1])
    assert "completion.completed" in ended


def test_a_failed_reply_is_replayed_and_not_requested_again(ada: Api, provider: ScriptedProvider) -> None:
    model = ada.user_id
    provider.script(error_answer(401, "Who are you?"), model=model)
    body = {**completion_body(ada), "model": model}
    first, again = COMPLETIONS.post(ada, body), COMPLETIONS.post(ada, body)
    assert [answer.status_code for answer in (first, again)] == [502, 502]
    assert first.get_json()["code"] == again.get_json()["code"] == "provider_refused_key"
    assert len(provider.of_model(model)) == 1


def test_a_preview_takes_no_key(ada: Api) -> None:
    body = completion_body(ada)
    key = {"Idempotency-Key": "k"}
    assert ada.post("/chat/completions?dry_run=true", body, headers=key).status_code == 200
    assert REPLAYED not in COMPLETIONS.post(ada, body).headers


def lock_id_of(user: Api) -> str:
    """What a request of this user with the key "k" claims."""
    key_id = service.key_id_of(route="POST /chat/conversations", key="k")
    return service.lock_id_of(scope=user.user_id, key_id=key_id)


def assert_still_running(response: TestResponse) -> None:
    assert (response.status_code, response.get_json()["code"]) == (409, "still_running")
    assert response.headers["Retry-After"] == "1"


def test_while_the_first_request_runs_the_second_is_refused(app: Flask, ada: Api) -> None:
    body = conversation_body(ada)
    # the pool: in this thread a request would share the context, and with it the session that holds the lock
    with ThreadPoolExecutor(1) as pool, app.app_context(), service.lock_key(lock_id=lock_id_of(ada)):
        assert_still_running(pool.submit(CONVERSATIONS.post, ada, body).result())
        assert pool.submit(CONVERSATIONS.post, ada, body, key="another").result().status_code == 201
    assert CONVERSATIONS.post(ada, body).status_code == 201


@pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")
def test_a_request_that_runs_in_another_process_is_seen_too(app: Flask, ada: Api, database_url: str) -> None:
    number = int.from_bytes(bytes.fromhex(lock_id_of(ada)[:16]), signed=True)
    body = conversation_body(ada)
    with psycopg.connect(database_url.replace("+psycopg", "")) as another:
        another.execute("SELECT pg_advisory_xact_lock(%s)", [number])
        assert_still_running(CONVERSATIONS.post(ada, body))
    assert CONVERSATIONS.post(ada, body).status_code == 201


@pytest.mark.parametrize("creation", CREATIONS[1:], ids=lambda creation: creation.path)
def test_an_effect_that_fails_stores_no_key(app: Flask, ada: Api, creation: Creation) -> None:
    body = creation.body(ada)
    before = owned_rows(app, ada.user_id)

    def fail(session: Any) -> None:
        raise RuntimeError("the commit fails")

    sa.event.listen(db.session, "before_commit", fail)
    try:
        assert creation.post(ada, body).status_code == 500
    finally:
        sa.event.remove(db.session, "before_commit", fail)
    assert owned_rows(app, ada.user_id) == before
    created = creation.post(ada, body)
    assert created.status_code == 201
    assert REPLAYED not in created.headers


def test_the_stored_answer_cannot_be_read_in_the_database(app: Flask, ada: Api) -> None:
    created = TOKENS.post(ada, token_body(ada), key="a-key-of-the-client")
    token = created.get_json()["token"]
    stored = everything_stored(app)
    assert token.split("_", 3)[3] not in stored
    assert "a-key-of-the-client" not in stored
    with app.app_context():
        own = sa.select(IdempotencyKey).where(IdempotencyKey.user_id == ada.user_id)
        [row] = db.session.scalars(own)
        context = ("idempotency_keys", ada.user_id, row.id)
        kept = keyring().decrypt(row.answer, encryption_context=context).decode()
    assert created.get_json()["id"] in kept
    assert token.split("_", 3)[3] not in kept, "Whoever has the database and the keys must not find a secret."


@pytest.mark.parametrize("size", [100, MAX_STORED_BYTES * 4])
def test_of_a_large_response_a_reference_is_stored(app: Flask, ada: Api, size: int) -> None:
    """A copy would double what a user stores, past the quota of bytes."""
    body = {**message_body(ada), "content": 'An "escape", \N{EURO SIGN}, \u2028 and ' + "x" * size}
    first, again = (MESSAGES.post(ada, body, key="k") for _ in range(2))
    assert (again.headers[REPLAYED], again.status_code) == ("true", 201)
    assert again.get_data() == first.get_data()
    assert again.headers["Location"] == first.headers["Location"]
    with app.app_context():
        own = sa.select(sa.func.length(IdempotencyKey.answer)).where(IdempotencyKey.user_id == ada.user_id)
        assert 0 < (db.session.scalar(own) or 0) < 2 * MAX_STORED_BYTES
    assert ada.delete(f"/chat/messages/{first.get_json()['id']}").status_code == 204
    gone = MESSAGES.post(ada, body, key="k")
    if size > MAX_STORED_BYTES:
        assert_problem(gone, 409)
        assert gone.get_json()["code"] == "response_gone"
    else:
        assert gone.get_data() == first.get_data()
    scope = body["conversation_id"]
    assert ada.get(f"/chat/conversations/{scope}/messages").get_json() == [], "Nothing is done twice."


def test_the_largest_response_of_every_other_operation_is_small(ada: Api) -> None:
    """Those have no field that is read again, so they are stored whole."""
    wide = "\U0001f600"
    conversation = {"user_id": ada.user_id, "title": wide * 255}
    provider = {"name": wide * 255, "api_endpoint": "https://p.example/" + "p" * 2030}
    label = {"message_id": ada.message(ada.conversation()["id"])["id"], "file_type": "image/png"}
    for path, body in (
        ("/chat/conversations", conversation),
        ("/chat/llm-providers", provider),
        ("/chat/attachments", {**label, "file_path": wide * 1024}),
    ):
        created = ada.post(path, body, headers={"Idempotency-Key": "k"})
        assert created.status_code == 201, created.get_json()
        assert len(created.get_data()) < MAX_STORED_BYTES


def test_the_order_of_names_and_the_spacing_do_not_count(ada: Api) -> None:
    body = conversation_body(ada)
    texts = [
        json.dumps(body),
        json.dumps(dict(reversed(body.items())), indent=3),
        json.dumps(body, ensure_ascii=True),
    ]
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    answers = [ada.post(CONVERSATIONS.path, data=text, headers=headers) for text in texts]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.get_data() for answer in answers}) == 1


def test_keys_of_an_erased_account_are_free_for_its_successor(ada: Api, stranger: Api) -> None:
    post, body = CREATIONS[0].post, {"email": new_email(), "password": PASSWORD}
    first = post(stranger, body)
    user = Api(ada.app, user=first.get_json()).log_in()
    assert user.delete("/auth/me").status_code == 204
    second = post(stranger, body)
    assert second.status_code == 201
    assert second.get_json()["id"] != first.get_json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "\x7f"])
def test_bad_idempotency_key_is_refused(user: Api, body_for: Body, key: str) -> None:
    for path in POSTS:
        if path != "/auth/login":  # it creates nothing that a second request could create again
            assert_problem(
                user.post(path, body_for(path), headers={"Idempotency-Key": key}), 400, "Idempotency-Key"
            )
    preview = user.post(
        "/chat/completions?dry_run=true", body_for("/chat/completions"), headers={"Idempotency-Key": key}
    )
    assert_problem(preview, 400, "Idempotency-Key")
