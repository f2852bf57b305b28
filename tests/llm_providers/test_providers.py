"""Providers: who sees, changes and deletes which, and what becomes of the keys that users keep for them."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id, now
from chat_api.database.session import db
from chat_api.llm_providers import service
from chat_api.llm_providers.models import LLMProvider
from chat_api.user_llm_configs import service as configs
from chat_api.user_llm_configs.models import UserLLMConfig
from chat_api.users.models import User
from chat_api.web.pagination import Page
from tests.conftest import serving
from tests.support.api import Api, new_email
from tests.support.provider import ScriptedProvider, openai_stream
from tests.support.tables import fresh_database

PROVIDERS = "/chat/llm-providers"


def path_of(provider: dict[str, Any]) -> str:
    return f"{PROVIDERS}/{provider['id']}"


def config_path(user: Api, provider: dict[str, Any]) -> str:
    return f"/chat/user-llm-configs/{user.user_id}/{provider['id']}"


def patched(user: Api, provider: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The provider after a change that is expected to succeed."""
    response = user.patch(path_of(provider), changes)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.get_json() == user.get(path_of(provider)).get_json()
    return response.get_json()


def ask(user: Api, provider: dict[str, Any], **fields: Any) -> TestResponse:
    body = {
        "conversation_id": user.conversation()["id"],
        "provider_id": provider["id"],
        "model": user.user_id,
    }
    return user.post("/chat/completions", {**body, "content": "Hello", **fields})


# -- listing ----------------------------------------------------------------------------------------------


@pytest.mark.happy_path("list_providers")
def test_the_list_has_ones_own_and_the_shared_ones_and_no_others(ada: Api, bob: Api, admin: Api) -> None:
    first = ada.provider()
    made = [first, admin.provider(shared=True), ada.provider(), admin.provider(shared=True)]
    bob.provider()
    admin.provider()
    page = f"{PROVIDERS}?limit=1000&after={first['id']}"
    assert ada.get(page).get_json() == made[1:]
    assert first in ada.get(f"{PROVIDERS}?limit=1000").get_json()
    assert bob.get(page).get_json() != made[1:]


@pytest.fixture
def crowded(backend: str, tmp_path: Path) -> Iterator[Flask]:
    """A database with 100 shared providers, and as many of each of sixty users."""
    with fresh_database(backend, tmp_path) as url, serving(url, tmp_path) as app, app.app_context():
        users = [new_id() for _ in range(60)]
        db.session.add_all([User(id=user, email=f"{user}@example.org", role="user") for user in users])
        db.session.flush()
        providers = [
            {"id": new_id(), "owner_id": owner, "name": "P", "api_endpoint": "https://p.example"}
            for _ in range(100)
            for owner in (*users, None)
        ]
        db.session.execute(sa.insert(LLMProvider), providers)
        db.session.commit()
        db.session.execute(sa.text("ANALYZE"))
        db.session.commit()
        app.config["A_USER"] = users[0]
        yield app


@pytest.mark.parametrize("direction", ["after", "before", None])
def test_a_page_is_read_from_one_range_of_the_index_for_each_owner(
    crowded: Flask, backend: str, direction: str | None
) -> None:
    """And each is read no further than the page."""
    user_id = crowded.config["A_USER"]
    middle = db.session.scalars(sa.select(LLMProvider.id).order_by(LLMProvider.id)).all()[3000]
    page = Page(limit=10, **({direction: middle} if direction else {}))
    plans: list[list[str]] = []

    def explain(connection: Any, cursor: Any, sql: str, parameters: Any, *rest: Any) -> None:
        if sql.startswith("SELECT"):
            prefix = "EXPLAIN (ANALYZE, COSTS OFF) " if backend == "postgres" else "EXPLAIN QUERY PLAN "
            plan = connection.connection.driver_connection.execute(prefix + sql, parameters)
            plans.append([str(row[-1]) for row in plan.fetchall()])

    sa.event.listen(db.engine, "before_cursor_execute", explain)
    try:
        found = service.list_providers(user_id=user_id, page=page)
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", explain)
    assert (len(found.items), found.has_more_after) == (10, True)
    [lines] = plans
    text = "\n".join(lines)
    assert text.count("ix_llm_providers_owner_id_id") == 2, text
    assert "SCAN llm_providers" not in text
    assert "Seq Scan" not in text
    assert "MULTI-INDEX" not in text
    if backend == "postgres":
        read = [int(rows) for rows in re.findall(r"Index.* Scan .*actual.* rows=(\d+)", text)]
        assert len(read) == 2, text
        assert max(read) <= 11, text
        assert "Removed by Filter" not in text


# -- changing ---------------------------------------------------------------------------------------------


@pytest.mark.happy_path("update_provider")
def test_only_what_is_named_changes(ada: Api) -> None:
    provider = ada.provider(context_window=1000)
    for changes in (
        {"name": "Another"},
        {"api_format": "anthropic"},
        {"context_window": 2000},
        {"context_window": None},
        {"api_endpoint": "https://q.example/v1"},
        {"name": "P", "api_endpoint": "https://r.example/v1", "api_format": "openai", "context_window": 3000},
    ):
        provider |= changes
        assert patched(ada, provider, **changes) == provider


def test_an_empty_change_is_refused(ada: Api) -> None:
    refused = ada.patch(path_of(ada.provider()), {})
    assert (refused.status_code, refused.get_json()["code"]) == (400, "invalid_input")
    assert "api_endpoint" in refused.get_json()["detail"]


@pytest.mark.parametrize("field", ["id", "owner_id", "created_at", "shared"])
def test_nothing_else_can_be_changed(ada: Api, field: str) -> None:
    provider = ada.provider()
    refused = ada.patch(path_of(provider), {"name": "Q", field: ada.user_id})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (400, [field])
    assert ada.get(path_of(provider)).get_json() == provider


def test_a_shared_provider_is_changed_and_deleted_by_any_admin_and_nobody_else(
    ada: Api, admin: Api, trusted: Api, make_user: Callable[..., Api]
) -> None:
    shared = admin.provider(shared=True)
    for user in (ada, trusted):
        for refused in (user.patch(path_of(shared), {"name": "Q"}), user.delete(path_of(shared))):
            assert refused.status_code == 403
            assert refused.get_json()["detail"] == "Only an admin may change a shared provider."
    assert ada.get(path_of(shared)).get_json() == shared
    another = make_user("admin")
    assert patched(another, shared, name="Q") == {**shared, "name": "Q"}
    assert another.delete(path_of(shared)).status_code == 204
    assert ada.get(path_of(shared)).status_code == 404


def test_an_admin_does_not_change_a_users_own_provider(ada: Api, admin: Api) -> None:
    own = ada.provider()
    refused = admin.patch(path_of(own), {"api_endpoint": "https://evil.example"}), admin.delete(path_of(own))
    assert [answer.status_code for answer in refused] == [404, 404]
    assert ada.get(path_of(own)).get_json() == own


def test_whoever_may_change_nothing_does_not_learn_whether_a_tag_is_right(ada: Api, admin: Api) -> None:
    shared = admin.provider(shared=True)
    for tag in ('"another"', admin.get(path_of(shared)).headers["ETag"]):
        assert ada.patch(path_of(shared), {"name": "Q"}, headers={"If-Match": tag}).status_code == 403


# -- a new endpoint and the keys for the old one ----------------------------------------------------------


def test_a_stored_key_is_not_sent_to_another_endpoint(ada: Api, provider: ScriptedProvider) -> None:
    own = ada.provider()
    ada.config(own["id"], "key-for-the-old-endpoint")
    patched(ada, own, api_endpoint=provider.url)
    refused = ask(ada, own)
    assert (refused.status_code, "config" in refused.get_json()["detail"]) == (404, True)
    assert ada.get(f"{path_of(own)}/models").status_code == 404
    assert provider.of_model(ada.user_id) == []
    assert ada.get(config_path(ada, own)).status_code == 404
    assert ada.get("/chat/user-llm-configs").get_json() == []
    ada.config(own["id"], "key-for-the-new-endpoint")
    assert ask(ada, own).status_code == 201
    assert provider.of_model(ada.user_id)[0].headers["authorization"] == "Bearer key-for-the-new-endpoint"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://p.example/v2",
        "https://p.example/v1/",
        "https://p.example/v1?a=b",
        "http://p.example/v1",
        "https://p.example:8443/v1",
        "https://p.example.org/v1",
    ],
)
def test_any_other_endpoint_costs_the_keys(ada: Api, endpoint: str) -> None:
    """Also one of the same host: gateways tell their customers apart by the path."""
    own, other = ada.provider(), ada.provider()
    ada.config(own["id"])
    kept = ada.config(other["id"])
    patched(ada, own, api_endpoint=endpoint)
    assert ada.get("/chat/user-llm-configs").get_json() == [kept]


def test_a_change_that_leaves_the_endpoint_leaves_the_keys(ada: Api) -> None:
    own = ada.provider()
    config = ada.config(own["id"])
    patched(ada, own, name="Q", api_endpoint=own["api_endpoint"], api_format="anthropic", context_window=1000)
    assert ada.get(config_path(ada, own)).get_json() == config


def test_a_new_endpoint_of_a_shared_provider_costs_all_users_keys(ada: Api, bob: Api, admin: Api) -> None:
    shared, other = admin.provider(shared=True), admin.provider(shared=True)
    users = (ada, bob, admin)
    for user in users:
        user.config(shared["id"])
        user.config(other["id"])
    patched(admin, shared, api_endpoint="https://q.example/v1")
    assert [user.get(config_path(user, shared)).status_code for user in users] == [404] * 3
    assert [user.get(config_path(user, other)).status_code for user in users] == [200] * 3


def test_a_refused_change_costs_no_keys(ada: Api, bob: Api, admin: Api) -> None:
    shared, changes = admin.provider(shared=True), {"api_endpoint": "https://evil.example/v1"}
    config = ada.config(shared["id"])
    assert bob.patch(path_of(shared), changes).status_code == 403
    stale = admin.patch(path_of(shared), changes, headers={"If-Match": '"another"'})
    assert stale.status_code == 412
    assert ada.get(config_path(ada, shared)).get_json() == config


def test_a_key_that_is_replaced_while_the_endpoint_changes_is_for_the_new_one_or_gone(
    app: Flask, ada: Api
) -> None:
    """Never an older one: whatever was answered before the change began is gone after it."""
    own = ada.provider()
    ada.config(own["id"], "sk-first-0123456789")
    ended, answers = threading.Event(), []

    def write() -> None:
        while not ended.is_set():
            answers.append(ada.put(config_path(ada, own), {"api_key": "sk-during-0123456789"}).status_code)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(10):
        patched(ada, own, api_endpoint=f"https://p.example/{number}")
    ended.set()
    writer.join()
    assert set(answers) <= {200, 201}
    patched(ada, own, api_endpoint="https://p.example/last")
    assert ada.get(config_path(ada, own)).status_code == 404


# -- deleting ---------------------------------------------------------------------------------------------


@pytest.mark.happy_path("delete_provider")
def test_a_deleted_provider_takes_all_keys_along(ada: Api, bob: Api, admin: Api) -> None:
    own, shared = ada.provider(), admin.provider(shared=True)
    kept = ada.config(ada.provider()["id"])
    for user, provider in ((ada, own), (ada, shared), (bob, shared)):
        user.config(provider["id"])
    assert ada.delete(path_of(own)).status_code == 204
    assert admin.delete(path_of(shared)).status_code == 204
    assert ada.get("/chat/user-llm-configs").get_json() == [kept]
    assert bob.get("/chat/user-llm-configs").get_json() == []
    for gone in (own, shared):
        assert ada.get(path_of(gone)).status_code == 404
        assert ada.delete(path_of(gone)).status_code == 404
        assert ada.patch(path_of(gone), {"name": "Q"}).status_code == 404
        assert gone not in ada.get(f"{PROVIDERS}?limit=1000").get_json()
        assert ask(ada, gone).status_code == 404


def test_replies_of_a_deleted_provider_stay(ada: Api, provider: ScriptedProvider) -> None:
    own = ada.provider(api_endpoint=provider.url)
    ada.config(own["id"])
    reply = ask(ada, own).get_json()
    assert ada.delete(path_of(own)).status_code == 204
    assert ada.get(f"/chat/completions/{reply['id']}").get_json() == reply
    listed = ada.get(f"/chat/conversations/{reply['conversation_id']}/completions").get_json()
    assert (listed, reply["provider_id"]) == ([reply], own["id"])


@pytest.mark.parametrize("change", ["delete", "move"])
def test_a_reply_in_progress_goes_on(ada: Api, provider: ScriptedProvider, change: str) -> None:
    own, more = ada.provider(api_endpoint=provider.url), threading.Event()
    ada.config(own["id"])
    provider.script(openai_stream("So ", more, "far"), model=ada.user_id)
    with ask(ada, own, stream=True) as stream:
        provider.wait_for_request(ada.user_id)
        if change == "delete":
            assert ada.delete(path_of(own)).status_code == 204
        else:
            patched(ada, own, api_endpoint="https://q.example/v1")
        more.set()
        events = stream.get_data(as_text=True)
    assert "completion.completed" in events
    assert len(provider.of_model(ada.user_id)) == 1


# -- very many keys ---------------------------------------------------------------------------------------------

MANY = 450  # more than two steps on SQLite


def with_many_keys(app: Flask, provider_id: str, count: int) -> None:
    """Keys of so many users for a provider, past the service."""
    users = [
        {"id": new_id(), "email": new_email(), "role": "user", "created_at": now()} for _ in range(count)
    ]
    keys = [
        {"user_id": user["id"], "id": new_id(), "provider_id": provider_id, "encrypted_api_key": "-",
         "api_key_hint": "-", "created_at": now(), "updated_at": now()}
        for user in users
    ]  # fmt: skip
    with app.app_context():
        db.session.execute(sa.insert(User), users)
        db.session.execute(sa.insert(UserLLMConfig), keys)
        db.session.commit()


def number_of_keys(app: Flask, provider_id: str) -> int:
    with app.app_context():
        query = sa.select(sa.func.count()).where(UserLLMConfig.provider_id == provider_id)
        return db.session.scalar(query) or 0


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("method", ["patch", "delete"])
def test_the_keys_of_very_many_users_are_deleted_in_steps(
    app: Flask, admin: Api, monkeypatch: pytest.MonkeyPatch, method: str, count: int
) -> None:
    monkeypatch.setattr(configs, "rows_at_once", lambda: 200)
    provider, other = admin.provider(shared=True), admin.provider(shared=True)
    with_many_keys(app, provider["id"], count)
    with_many_keys(app, other["id"], 1)
    deleted: list[int] = []

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def count_deleted(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM user_llm_configs"):
            deleted.append(cursor.rowcount)

    try:
        if method == "patch":
            body = {"api_endpoint": "https://elsewhere.example/v1", "name": "Moved"}
            changed = admin.patch(path_of(provider), body).get_json()
            assert (changed["api_endpoint"], changed["name"]) == (body["api_endpoint"], "Moved")
            assert admin.get(path_of(provider)).get_json() == changed
        else:
            assert admin.delete(path_of(provider)).status_code == 204
            assert admin.get(path_of(provider)).status_code == 404
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", count_deleted)
    assert number_of_keys(app, provider["id"]) == 0
    assert number_of_keys(app, other["id"]) == 1
    assert max(deleted, default=0) <= 200


def test_a_refused_change_deletes_no_keys(app: Flask, admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "rows_at_once", lambda: 200)
    provider = admin.provider(shared=True)
    with_many_keys(app, provider["id"], MANY)
    body = {"api_endpoint": "https://elsewhere.example/v1"}
    assert admin.patch(path_of(provider), body, headers={"If-Match": '"another"'}).status_code == 412
    assert admin.patch(path_of(provider), {"name": "Renamed"}).status_code == 200
    assert number_of_keys(app, provider["id"]) == MANY
