"""Every 201 says where the created object is, and it is there."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id
from tests.support.api import PASSWORD, Api, new_email
from tests.support.document import named, operations
from tests.support.provider import ScriptedProvider
from tests.support.tables import promote


def message_body(user: Api, _: ScriptedProvider) -> dict[str, Any]:
    return {"conversation_id": user.conversation()["id"], "role": "user", "content": "Hello"}


def attachment_body(user: Api, _: ScriptedProvider) -> dict[str, Any]:
    message_id = user.message(user.conversation()["id"])["id"]
    return {"message_id": message_id, "file_type": "image/png", "file_path": "a.png"}


def config_body(user: Api, _: ScriptedProvider) -> dict[str, Any]:
    return {"user_id": user.user_id, "provider_id": user.provider()["id"], "api_key": "sk-0123456789"}


def invitation_body(user: Api, _: ScriptedProvider) -> dict[str, Any]:
    promote(user)
    return {"email": new_email()}


def completion_body(user: Api, provider: ScriptedProvider) -> dict[str, Any]:
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    return {
        "conversation_id": user.conversation()["id"],
        "provider_id": provider_id,
        "model": "m",
        "content": "Hello",
    }


# the body of each operation that creates something, by the name of the operation
BODIES: dict[str, Callable[[Api, ScriptedProvider], dict[str, Any]]] = {
    "register": lambda user, _: {"email": new_email(), "password": PASSWORD},
    "create_invitation": invitation_body,
    "create_token": lambda user, _: {"name": "script"},
    "create_conversation": lambda user, _: {"user_id": user.user_id, "title": "A title"},
    "create_message": message_body,
    "create_attachment": attachment_body,
    "create_provider": lambda user, _: {"name": "P", "api_endpoint": "https://p.example/v1"},
    "create_config": config_body,
    "replace_config": lambda user, _: {"api_key": "sk-0123456789"},
    "create_completion": completion_body,
}
each_creation = pytest.mark.parametrize("name", BODIES)
ONLY_WHEN_CREATED = {"token", "invitation", "url"}  # secrets that no other answer has


@pytest.fixture
def create(app: Flask, ada: Api, provider: ScriptedProvider) -> Callable[..., TestResponse]:
    """Send an operation of BODIES; a second call sends the same request."""
    bodies: dict[str, dict[str, Any]] = {}
    paths: dict[str, str] = {}

    def send(name: str, **options: Any) -> TestResponse:
        if name not in bodies:
            bodies[name] = BODIES[name](ada, provider)
            method, path = next(
                (method, path)
                for method, path, operation in operations(app)
                if operation["operationId"] == name
            )
            filled = (
                path.format(user_id=ada.user_id, provider_id=ada.provider()["id"]) if "{" in path else path
            )
            paths[name] = f"{method} {filled}"
        method, _, path = paths[name].partition(" ")
        return ada.request(method, path, json=bodies[name], **options)

    return send


def test_every_creation_is_tried_here(app: Flask) -> None:
    assert named(app, "201") == set(BODIES)


def test_every_creation_documents_its_location(app: Flask) -> None:
    for _, _, operation in operations(app):
        if "201" in operation["responses"]:
            assert "Location" in operation["responses"]["201"]["headers"], operation["operationId"]


@each_creation
def test_created_object_comes_back_whole_and_says_where_it_is(
    app: Flask, ada: Api, create: Callable[..., TestResponse], name: str
) -> None:
    created = create(name)
    assert created.status_code == 201, created.get_data(as_text=True)
    reader = Api(app, user=created.get_json()).log_in() if name == "register" else ada
    found = reader.get(created.headers["Location"])
    assert found.status_code == 200
    content = {key: value for key, value in created.get_json().items() if key not in ONLY_WHEN_CREATED}
    assert found.get_json() == content


@each_creation
def test_location_is_below_the_prefix_that_a_proxy_announces(
    create: Callable[..., TestResponse], name: str
) -> None:
    created = create(name, environ_overrides={"SCRIPT_NAME": "/below"})
    assert created.status_code == 201, created.get_data(as_text=True)
    assert created.headers["Location"].startswith("/below/")


@pytest.mark.parametrize("name", [name for name in BODIES if name != "replace_config"])
def test_repeated_answer_has_the_same_location(create: Callable[..., TestResponse], name: str) -> None:
    headers = {"Idempotency-Key": new_id()}
    first, second = create(name, headers=headers), create(name, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    not_kept = dict.fromkeys(ONLY_WHEN_CREATED & set(first.get_json()))
    assert second.get_json() == first.get_json() | not_kept
