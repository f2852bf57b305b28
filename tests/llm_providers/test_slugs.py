"""Slugs of providers: made of the name, unique for each owner, changed by PATCH."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.columns import now
from chat_api.database.session import db
from chat_api.llm_providers.models import LLMProvider
from tests.support.api import Api
from tests.support.problems import assert_problem
from tests.transfer.exports import file_of, imported, provider

PATH = "/chat/llm-providers"
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True, scope="session")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("OpenRouter", "openrouter"),
        ("  My own, llama.cpp! ", "my-own-llama.cpp"),
        ("a__b--c", "a__b--c"),
        ("...", "provider"),
        ("你好", "provider"),
        ("x" * 200, "x" * 63),
    ],
)
def test_a_name_makes_a_slug(ada: Api, name: str, slug: str) -> None:
    assert ada.provider(name=name)["slug"] == slug


def test_equal_names_get_numbers(ada: Api, bob: Api) -> None:
    assert [ada.provider(name="Open AI")["slug"] for _ in range(3)] == ["open-ai", "open-ai-2", "open-ai-3"]
    assert [ada.provider(name="x" * 70)["slug"] for _ in range(2)] == ["x" * 63, "x" * 61 + "-2"]
    assert bob.provider(name="Open AI")["slug"] == "open-ai"


def test_shared_ones_are_among_themselves(ada: Api, admin: Api) -> None:
    name = f"Shared {admin.user_id}"
    slugs = [admin.provider(name=name, shared=True)["slug"] for _ in range(2)]
    assert slugs == [f"shared-{admin.user_id}", f"shared-{admin.user_id}-2"]
    assert ada.provider(name=name)["slug"] == slugs[0]


def test_a_slug_is_given_and_changed(ada: Api) -> None:
    made = ada.provider(slug="mine")
    other = ada.provider(slug="other")
    assert made["slug"] == "mine"
    path = f"{PATH}/{made['id']}"
    assert ada.patch(path, {"slug": "my.own_1"}).get_json()["slug"] == "my.own_1"
    assert ada.patch(path, {"name": "Renamed"}).get_json()["slug"] == "my.own_1"
    assert_problem(ada.patch(path, {"slug": "other"}), 409)
    assert ada.get(path).get_json()["slug"] == "my.own_1"
    assert_problem(
        ada.post(PATH, {"name": "P", "api_endpoint": "https://p.example/v1", "slug": "other"}), 409
    )
    assert ada.get(f"{PATH}/{other['id']}").get_json()["slug"] == "other"


@pytest.mark.parametrize("slug", ["", "-a", ".a", "A", "a/b", "a b", "ü", "a" * 64, "a\n", 1])
def test_other_slugs_are_refused(ada: Api, slug: Any) -> None:
    body = {"name": "P", "api_endpoint": "https://p.example/v1", "slug": slug}
    assert_problem(ada.post(PATH, body), 400, "slug")
    path = f"{PATH}/{ada.provider()['id']}"
    assert_problem(ada.patch(path, {"slug": slug}), 400, "slug")


def test_a_provider_of_an_older_release_gets_one_when_it_is_changed(app: Flask, ada: Api) -> None:
    made = ada.provider(name="Old")
    with app.app_context():
        db.session.execute(sa.update(LLMProvider).where(LLMProvider.id == made["id"]).values(slug=None))
        db.session.commit()
    path = f"{PATH}/{made['id']}"
    assert ada.get(path).get_json()["slug"] is None
    assert ada.patch(path, {"context_window": 4096}).get_json()["slug"] == "old"


def test_equal_names_at_the_same_time(ada: Api) -> None:
    slugs: list[str] = []
    threads = [
        threading.Thread(target=lambda: slugs.append(ada.provider(name="Same")["slug"])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(slugs)) == 4
    assert {"same", "same-2", "same-3"} < set(slugs)  # the last one may give up on numbers


@contextmanager
def taking_slug(app: Flask, user: Api, slug: str) -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that want the slug, which another transaction of the user's takes: it commits when one of
    them waits for it."""
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    with app.app_context(), ThreadPoolExecutor(1) as pool, db.engine.connect() as other:
        taken = provider(slug=slug, owner_id=user.user_id)
        del taken["type"]
        other.execute(sa.insert(LLMProvider).values({**taken, "created_at": now()}))
        yield pool
        with db.engine.connect() as watching:
            deadline = time.monotonic() + 20
            while not watching.scalar(sa.text(blocked)):
                assert time.monotonic() < deadline, "Nobody waits."
                watching.rollback()
        other.commit()


@on_postgres
def test_a_slug_that_is_taken_while_an_older_provider_gets_it(app: Flask, ada: Api) -> None:
    made = ada.provider(name="Old")
    with app.app_context():
        db.session.execute(sa.update(LLMProvider).where(LLMProvider.id == made["id"]).values(slug=None))
        db.session.commit()
    with taking_slug(app, ada, "old") as pool:
        changing = pool.submit(ada.patch, f"{PATH}/{made['id']}", {"context_window": 4096})
    changed = changing.result()
    assert changed.status_code == 200
    assert changed.get_json()["slug"] == f"old-{made['id'][-8:]}"
    assert changed.get_json()["context_window"] == 4096


@on_postgres
def test_a_slug_that_is_taken_while_it_is_imported(app: Flask, ada: Api) -> None:
    with taking_slug(app, ada, "of-the-file") as pool:
        importing = pool.submit(imported, ada, file_of(provider(name="F", slug="of-the-file")))
    assert importing.result()["providers"] == {"imported": 1, "unchanged": 0}
    [slug] = [one["slug"] for one in ada.get(PATH).get_json() if one["name"] == "F"]
    assert slug.startswith("of-the-file-")


def test_imports_keep_a_slug_that_is_free(ada: Api, bob: Api) -> None:
    bob.provider(slug="taken")
    free, taken = provider(name="F", slug="of-the-file"), provider(name="T", slug="taken")
    imported(bob, file_of(free, taken, provider(name="From before")))
    slugs = {one["name"]: one["slug"] for one in bob.get(PATH).get_json() if not one["shared"]}
    assert slugs == {"P": "taken", "F": "of-the-file", "T": "taken-2", "From before": "from-before"}
