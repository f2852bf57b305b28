"""An answer without content has no Content-Type either."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.api import Api
from tests.support.document import named
from tests.support.provider import ScriptedProvider
from tests.support.tables import invite


def new_completion(user: Api, provider: ScriptedProvider) -> str:
    provider_id = user.provider(api_endpoint=provider.url)["id"]
    user.config(provider_id)
    return f"/chat/completions/{user.completion(user.conversation()['id'], provider_id)['id']}"


def after_all_events(user: Api, provider: ScriptedProvider) -> TestResponse:
    path = f"{new_completion(user, provider)}/events"
    with user.get(path) as stream:
        last = stream.get_data(as_text=True).rpartition("\nid: ")[2].split("\n")[0]
    return user.get(path, headers={"Last-Event-ID": last})


def delete_attachment(user: Api, _: ScriptedProvider) -> TestResponse:
    attachment = user.attachment(user.message(user.conversation()["id"])["id"])
    return user.delete(f"/chat/attachments/{attachment['id']}")


def delete_config(user: Api, _: ScriptedProvider) -> TestResponse:
    config = user.config(user.provider()["id"])
    return user.delete(f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}")


# every operation that may answer 204
WAYS: dict[str, Callable[[Api, ScriptedProvider], TestResponse]] = {
    "log_out": lambda user, _: user.post("/auth/logout"),
    "delete_me": lambda user, _: user.delete("/auth/me"),
    "delete_token": lambda user, _: user.delete(
        f"/auth/tokens/{user.made('/auth/tokens', {'name': 'script'})['id']}"
    ),
    "delete_conversation": lambda user, _: user.delete(f"/chat/conversations/{user.conversation()['id']}"),
    "delete_message": lambda user, _: user.delete(
        f"/chat/messages/{user.message(user.conversation()['id'])['id']}"
    ),
    "delete_attachment": delete_attachment,
    "delete_invitation": lambda user, _: user.delete(f"/auth/invitations/{invite(user)}"),
    "delete_provider": lambda user, _: user.delete(f"/chat/llm-providers/{user.provider()['id']}"),
    "delete_config": delete_config,
    "get_events": after_all_events,
}


def test_every_operation_without_content_is_tried_here(app: Flask) -> None:
    assert named(app, "204") == set(WAYS)


@pytest.mark.parametrize("name", WAYS)
def test_an_answer_without_content_has_no_type(ada: Api, provider: ScriptedProvider, name: str) -> None:
    response = WAYS[name](ada, provider)
    assert (response.status_code, response.get_data()) == (204, b"")
    assert "Content-Type" not in response.headers
    assert "Content-Length" not in response.headers


def test_a_version_that_the_client_has_is_not_typed_again(ada: Api) -> None:
    path = f"/chat/conversations/{ada.conversation()['id']}"
    response = ada.get(path, headers={"If-None-Match": ada.get(path).headers["ETag"]})
    assert response.status_code == 304
    assert "Content-Type" not in response.headers
