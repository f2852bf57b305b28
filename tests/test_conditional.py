"""Entity tags: ETag and If-None-Match on the single GETs."""

from collections.abc import Callable

import pytest

from tests.support.api import Api


def config_path(user: Api) -> str:
    config = user.config(user.provider()["id"])
    return f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}"


OBJECTS: dict[str, Callable[[Api], str]] = {
    "/auth/me": lambda user: "/auth/me",
    "/chat/conversations/{conversation_id}": lambda user: f"/chat/conversations/{user.conversation()['id']}",
    "/chat/llm-providers/{provider_id}": lambda user: f"/chat/llm-providers/{user.provider()['id']}",
    "/chat/user-llm-configs/{user_id}/{provider_id}": config_path,
}


@pytest.fixture(params=list(OBJECTS))
def path(request: pytest.FixtureRequest, ada: Api) -> str:
    return OBJECTS[request.param](ada)


def test_every_object_is_tried_here(stranger: Api) -> None:
    paths = stranger.get("/openapi.json").get_json()["paths"]
    single = {
        path
        for path, item in paths.items()
        if path.startswith(("/chat", "/auth")) and "get" in item
        if not any(parameter.get("name") == "limit" for parameter in item["get"].get("parameters", []))
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


def test_a_tag_opens_nothing_to_others(ada: Api, bob: Api, stranger: Api) -> None:
    path = OBJECTS["/chat/conversations/{conversation_id}"](ada)
    for tag in (ada.get(path).headers["ETag"], "*"):
        assert bob.get(path, headers={"If-None-Match": tag}).status_code == 404
        assert stranger.get(path, headers={"If-None-Match": tag}).status_code == 401
