"""Entity tags: ETag and If-None-Match on the single GETs, If-Match on what changes them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.completions.models import CompletionCheckpoint
from chat_api.database.session import db
from tests.support.api import PASSWORD, Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import begin_elsewhere, invite


def config_path(user: Api, provider: ScriptedProvider) -> str:
    config = user.config(user.provider()["id"])
    return f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}"


def completion_path(user: Api, provider: ScriptedProvider) -> str:
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    return f"/chat/completions/{user.completion(user.conversation()['id'], provider_id)['id']}"


def attachment_path(user: Api, provider: ScriptedProvider) -> str:
    return f"/chat/attachments/{user.attachment(user.message(user.conversation()['id'])['id'])['id']}"


OBJECTS: dict[str, Callable[[Api, ScriptedProvider], str]] = {
    "/auth/me": lambda user, _: "/auth/me",
    "/chat/conversations/{conversation_id}": lambda user, _: (
        f"/chat/conversations/{user.conversation()['id']}"
    ),
    "/chat/messages/{message_id}": lambda user, _: (
        f"/chat/messages/{user.message(user.conversation()['id'])['id']}"
    ),
    "/chat/llm-providers/{provider_id}": lambda user, _: f"/chat/llm-providers/{user.provider()['id']}",
    "/chat/user-llm-configs/{user_id}/{provider_id}": config_path,
    "/chat/completions/{completion_id}": completion_path,
    "/chat/attachments/{attachment_id}": attachment_path,
    "/chat/usage": lambda user, _: "/chat/usage",
    "/auth/invitations/{invitation_id}": lambda user, _: f"/auth/invitations/{invite(user)}",
    "/auth/tokens/{token_id}": lambda user, _: (
        f"/auth/tokens/{user.made('/auth/tokens', {'name': 'script'})['id']}"
    ),
}


@pytest.fixture(params=list(OBJECTS))
def path(request: pytest.FixtureRequest, ada: Api, provider: ScriptedProvider) -> str:
    return OBJECTS[request.param](ada, provider)


def test_every_object_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    single = {
        path
        for path, item in paths.items()
        if path.startswith(("/chat", "/auth")) and "get" in item
        for media_type, media in item["get"]["responses"]["200"]["content"].items()
        if media_type == "application/json" and media["schema"].get("type") != "array"
    }
    assert single == set(OBJECTS)
    assert all("304" in paths[path]["get"]["responses"] for path in single)


def test_the_tag_of_an_object_stays_while_the_object_does(ada: Api, path: str) -> None:
    first, second = ada.get(path), ada.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    assert tag.endswith('"')
    assert second.headers["ETag"] == tag
    assert second.get_data() == first.get_data()
    assert first.headers["Cache-Control"] == "private, no-cache"


def test_the_object_is_not_sent_again_to_whoever_has_it(ada: Api, path: str) -> None:
    tag = ada.get(path).headers["ETag"]
    for condition in (tag, f"W/{tag}", f'"x", {tag}', f'{tag} , W/"y"', "*"):
        for method in ("GET", "HEAD"):
            response = ada.request(method, path, headers={"If-None-Match": condition})
            assert (response.status_code, response.get_data()) == (304, b""), condition
            assert response.headers["ETag"] == tag
            assert response.headers["X-Request-ID"]


def test_the_object_is_sent_to_whoever_has_another_version(ada: Api, path: str) -> None:
    content = ada.get(path).get_json()
    for condition in ('"another"', 'W/"another"', '"x", "y"', "", "nonsense", '"'):
        response = ada.get(path, headers={"If-None-Match": condition})
        assert (response.status_code, response.get_json()) == (200, content), condition


def test_head_is_get_without_its_content(ada: Api, path: str) -> None:
    head, get = ada.request("HEAD", path), ada.get(path)
    assert (head.status_code, head.get_data()) == (200, b"")
    for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control"):
        assert head.headers[name] == get.headers[name]


def test_a_change_makes_a_new_tag(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    path = f"/chat/conversations/{conversation}"
    before = {"If-None-Match": ada.get(path).headers["ETag"]}
    ada.message(conversation)
    response = ada.get(path, headers=before)
    assert (response.status_code, response.get_json()["message_count"]) == (200, 1)


def test_a_reply_in_progress_has_a_new_tag_when_more_of_it_is_there(
    app: Flask, ada: Api, provider: ScriptedProvider
) -> None:
    provider_id = ada.provider(api_endpoint=provider.url)["id"]
    message = ada.message(ada.conversation()["id"])
    completion_id = begin_elsewhere(app, ada.user_id, message, provider_id)
    path = f"/chat/completions/{completion_id}"
    first = ada.get(path)
    assert first.get_json()["message"]["content"] == "By the river"
    before = {"If-None-Match": first.headers["ETag"]}
    assert ada.get(path, headers=before).status_code == 304
    with app.app_context():
        more = CompletionCheckpoint(
            user_id=ada.user_id, completion_id=completion_id, position=12, chunks='[["text","."]]'
        )
        db.session.add(more)
        db.session.commit()
    assert ada.get(path, headers=before).get_json()["message"]["content"] == "By the river."


def test_a_tag_opens_nothing_to_others(ada: Api, bob: Api, stranger: Api) -> None:
    path = f"/chat/conversations/{ada.conversation()['id']}"
    for tag in (ada.get(path).headers["ETag"], "*"):
        assert bob.get(path, headers={"If-None-Match": tag}).status_code == 404
        assert stranger.get(path, headers={"If-None-Match": tag}).status_code == 401


# -- changing only what one has seen ------------------------------------------------------------------------

CONVERSATION, MESSAGE = "/chat/conversations/{conversation_id}", "/chat/messages/{message_id}"
PROVIDER, CONFIG = "/chat/llm-providers/{provider_id}", "/chat/user-llm-configs/{user_id}/{provider_id}"
# every operation that changes an object which can be got, with a body that changes it
CHANGES: dict[tuple[str, str], Any] = {
    ("PATCH", "/auth/me"): {"current_password": PASSWORD, "password": "nine lives of a tabby cat"},
    ("DELETE", "/auth/me"): None,
    ("PATCH", CONVERSATION): {"title": "Another"},
    ("DELETE", CONVERSATION): None,
    ("DELETE", MESSAGE): None,
    ("PATCH", PROVIDER): {"name": "Another"},
    ("DELETE", PROVIDER): None,
    ("PUT", CONFIG): {"api_key": "sk-another-0123456789"},
    ("DELETE", CONFIG): None,
    ("DELETE", "/chat/attachments/{attachment_id}"): None,
    ("DELETE", "/auth/tokens/{token_id}"): None,
    ("DELETE", "/auth/invitations/{invitation_id}"): None,
}
each_change = pytest.mark.parametrize(("method", "kind"), CHANGES)
STALE = ('"another"', 'W/"another"', '"x", "y"', "nonsense", '"', "")


def test_every_change_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    changing = {
        (method.upper(), path)
        for path, item in paths.items()
        for method in {"put", "patch", "delete"} & set(item)
        if "get" in item
    }
    assert changing == set(CHANGES)


@each_change
def test_a_change_of_another_version_is_refused_and_one_of_this_version_is_made(
    ada: Api, provider: ScriptedProvider, method: str, kind: str
) -> None:
    path, body = OBJECTS[kind](ada, provider), CHANGES[method, kind]
    before = ada.get(path)
    tag = before.headers["ETag"]
    for condition in STALE:
        refused = ada.request(method, path, json=body, headers={"If-Match": condition})
        assert (refused.status_code, refused.get_json()["code"]) == (412, "precondition_failed"), condition
    assert ada.get(path).get_data() == before.get_data()
    changed = ada.request(method, path, json=body, headers={"If-Match": f'"x", {tag}'})
    assert changed.status_code == (204 if method == "DELETE" else 200)
    if method != "DELETE" and kind != "/auth/me":
        again = ada.request(method, path, json=body, headers={"If-Match": tag})
        assert again.status_code == 412


@each_change
def test_a_tag_that_a_proxy_has_made_weak_names_its_version(
    ada: Api, provider: ScriptedProvider, method: str, kind: str
) -> None:
    """One that compresses does so; the tag is a hash of the whole object all the same."""
    path = OBJECTS[kind](ada, provider)
    tag = ada.get(path).headers["ETag"]
    assert ada.get(path, headers={"If-None-Match": f"W/{tag}"}).status_code == 304
    changed = ada.request(method, path, json=CHANGES[method, kind], headers={"If-Match": f"W/{tag}"})
    assert changed.status_code == (204 if method == "DELETE" else 200)


@each_change
def test_a_change_of_any_version_is_made(
    ada: Api, provider: ScriptedProvider, method: str, kind: str
) -> None:
    path = OBJECTS[kind](ada, provider)
    changed = ada.request(method, path, json=CHANGES[method, kind], headers={"If-Match": "*"})
    assert changed.status_code == (204 if method == "DELETE" else 200)


def test_the_answer_of_a_patch_has_the_new_tag(ada: Api) -> None:
    path = f"/chat/llm-providers/{ada.provider()['id']}"
    before = ada.get(path).headers["ETag"]
    first = ada.patch(path, {"name": "Q"}, headers={"If-Match": before})
    assert (first.status_code, first.headers["ETag"] != before) == (200, True)
    assert first.headers["ETag"] == ada.get(path).headers["ETag"]
    second = ada.patch(path, {"name": "R"}, headers={"If-Match": first.headers["ETag"]})
    assert (second.status_code, second.get_json()["name"]) == (200, "R")


@pytest.mark.parametrize(("method", "kind"), [change for change in CHANGES if change[1] != "/auth/me"])
def test_of_changes_of_one_version_at_once_one_is_made(
    ada: Api, provider: ScriptedProvider, method: str, kind: str
) -> None:
    path, start = OBJECTS[kind](ada, provider), threading.Barrier(6)
    headers = {"If-Match": ada.get(path).headers["ETag"]}

    def send(number: int) -> TestResponse:
        body = {name: f"{value}{number}" for name, value in (CHANGES[method, kind] or {}).items()}
        start.wait()
        return ada.request(method, path, json=body or None, headers=headers)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    made = [answer for answer in answers if answer.status_code < 300]
    assert len(made) == 1
    assert {answer.status_code for answer in answers if answer not in made} == {
        404 if method == "DELETE" else 412
    }
    if method != "DELETE":
        assert ada.get(path).get_json() == made[0].get_json()


def test_what_is_not_there_matches_nothing(app: Flask, ada: Api) -> None:
    path = f"/chat/user-llm-configs/{ada.user_id}/{ada.provider()['id']}"
    for condition in ("*", '"another"'):
        refused = ada.put(path, {"api_key": "sk-1"}, headers={"If-Match": condition})
        assert refused.status_code == 412
    assert ada.get(path).status_code == 404


def test_a_first_key_can_be_kept_without_replacing_another(ada: Api) -> None:
    path, headers = f"/chat/user-llm-configs/{ada.user_id}/{ada.provider()['id']}", {"If-None-Match": "*"}
    assert ada.put(path, {"api_key": "sk-first-0123456789"}, headers=headers).status_code == 201
    before = ada.get(path).get_json()
    assert ada.put(path, {"api_key": "sk-other-0123456789"}, headers=headers).status_code == 412
    assert ada.get(path).get_json() == before
