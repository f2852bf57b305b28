"""Entity tags: ETag and If-None-Match on the single GETs."""

from collections.abc import Callable

import pytest
from flask import Flask

from chat_api.completions.models import CompletionPiece
from chat_api.extensions import db
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import begin_elsewhere


def config_path(user: Api, provider: ScriptedProvider) -> str:
    config = user.config(user.provider()["id"])
    return f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}"


def completion_path(user: Api, provider: ScriptedProvider) -> str:
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    return f"/chat/completions/{user.completion(user.conversation()['id'], provider_id)['id']}"


OBJECTS: dict[str, Callable[[Api, ScriptedProvider], str]] = {
    "/auth/me": lambda user, _: "/auth/me",
    "/chat/conversations/{conversation_id}": lambda user, _: (
        f"/chat/conversations/{user.conversation()['id']}"
    ),
    "/chat/llm-providers/{provider_id}": lambda user, _: f"/chat/llm-providers/{user.provider()['id']}",
    "/chat/user-llm-configs/{user_id}/{provider_id}": config_path,
    "/chat/completions/{completion_id}": completion_path,
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
        more = CompletionPiece(
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
