"""A valid body for every POST, to be spoilt by tests of bad input."""

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support.api import PASSWORD, POSTS, Api, new_email
from tests.support.provider import ScriptedProvider

JSON = "application/json"
MIB = 1024 * 1024
OPTIONAL = {"shared", "expires_in_days", "api_format", "context_window", "default_model", "tool_call_id", "model",
            "content of /chat/completions", "parent_id", "stream", "parameters", "on_disconnect", "user_id",
            "title", "api_key"}  # fmt: skip
FIELDS = [(path, field) for path, names in POSTS.items() for field in names]
REQUIRED = {path: [field for field in names if not {field, f"{field} of {path}"} & OPTIONAL]
            for path, names in POSTS.items()}  # fmt: skip
each_post = pytest.mark.parametrize("path", POSTS)
each_field = pytest.mark.parametrize(("path", "field"), FIELDS)

# gives a body that the path would accept
Body = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def user(make_user: Callable[..., Api]) -> Api:
    """One user for all tests of a module: what is refused leaves nothing behind."""
    return make_user()


# of the calls that results in tests answer; some as long as they may be
CALL_IDS = ("call_1", "x" * 255, "\U0001f600" * 255)


@pytest.fixture(scope="module")
def own_ids(user: Api, provider: ScriptedProvider) -> dict[str, str]:
    """The ids of what this user has."""
    conversation = user.conversation()["id"]
    replying = user.provider(api_endpoint=provider.url)["id"]
    user.config(replying)
    return {
        "conversation": conversation,
        "message": user.calling(conversation, *CALL_IDS)["id"],
        "provider": user.provider()["id"],
        "replying": replying,
        "completion": user.completion(user.conversation()["id"], replying)["id"],
    }


@pytest.fixture
def body_for(user: Api, own_ids: dict[str, str]) -> Body:
    """A body that the path would accept."""
    endpoint = "https://p.example/v1"
    bodies: dict[str, dict[str, Any]] = {
        "/auth/register": {"email": new_email(), "password": PASSWORD},
        "/auth/login": {"email": user.user["email"], "password": PASSWORD},
        "/auth/tokens": {"name": "script", "expires_in_days": 1},
        "/chat/conversations": {"user_id": user.user_id, "title": "A title"},
        "/chat/messages": {
            "conversation_id": own_ids["conversation"],
            "role": "tool",
            "content": "Hello",
            "parent_id": own_ids["message"],
            "tool_call_id": "call_1",
        },
        "/chat/attachments": {
            "message_id": own_ids["message"],
            "file_type": "image/png",
            "file_path": "a.png",
        },
        "/chat/llm-providers": {
            "name": "P",
            "api_endpoint": endpoint,
            "shared": False,
            "api_format": "anthropic",
            "context_window": 1000,
        },
        "/chat/user-llm-configs": {
            "user_id": user.user_id,
            "provider_id": own_ids["provider"],
            "api_key": "sk-1",
            "default_model": "m",
            "context_window": 1000,
        },
        "/chat/completions": {
            "conversation_id": own_ids["conversation"],
            "provider_id": own_ids["replying"],
            "model": "m",
            "content": "Hello",
            "parent_id": own_ids["message"],
            "stream": False,
            "parameters": {"temperature": 1, "tools": [{"type": "function", "function": {"name": "f"}}]},
            "on_disconnect": "cancel",
        },
    }
    return lambda path: dict(bodies[path])


def send_raw(
    user: Api, path: str, raw: bytes, content_type: str | None = JSON, **options: Any
) -> TestResponse:
    """POST these bytes."""
    return user.post(path, data=raw, content_type=content_type, **options)
