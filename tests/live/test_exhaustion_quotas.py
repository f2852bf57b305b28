"""What one user may store: each quota's error over HTTP is clear, names its limit, and is nobody else's."""

from collections.abc import Callable, Iterator

import pytest

from tests.live.client import SETTINGS, Answer, Person, assert_problem, wait_until
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

SETTINGS_OF = {
    "conversations": "MAX_CONVERSATIONS_PER_USER",
    "messages": "MAX_MESSAGES_PER_USER",
    "message_bytes": "MAX_MESSAGE_BYTES_PER_USER",
    "attachments": "MAX_ATTACHMENTS_PER_USER",
    "providers": "MAX_PROVIDERS_PER_USER",
    "configs": "MAX_CONFIGS_PER_USER",
    "stored_responses": "MAX_STORED_RESPONSES_PER_USER",
}
LIMIT = 3
LIMITS = {"message_bytes": 5000, "providers": 30}  # each config needs a provider
# the others, and the test that tries them
ELSEWHERE = {
    "completions": "tests/users/test_quotas.py",
    "tokens": "tests/auth/test_tokens.py",
    "attachment_drafts": "tests/attachments/test_upload.py",
    "file_bytes": "tests/attachments/test_upload.py",
}


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[GunicornServer]:
    """Two workers, each with its own memory of what a user has stored."""
    settings = SETTINGS | {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2"}
    settings |= {setting: str(LIMITS.get(quota, LIMIT)) for quota, setting in SETTINGS_OF.items()}
    with GunicornServer(settings, migrate=False) as running:
        yield running


def create_conversation(person: Person) -> Answer:
    return person.post("/chat/conversations", {"user_id": person.user["id"], "title": "T"})


def create_stored(person: Person) -> Answer:
    body = {"name": "P", "api_endpoint": "https://p.example/v1"}
    return person.post("/chat/llm-providers", body, key=f"k{len(person.get('/chat/llm-providers').body)}")


def create_provider(person: Person) -> Answer:
    return person.post("/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1"})


def create_config(person: Person) -> Answer:
    provider = create_provider(person)
    body = {"user_id": person.user["id"], "provider_id": provider.body["id"], "api_key": "sk-0123456789"}
    return person.post("/chat/user-llm-configs", body)


def sayer(content: str) -> Callable[[Person], Callable[[Person], Answer]]:
    def prepared(person: Person) -> Callable[[Person], Answer]:
        conversation = person.conversation()
        return lambda person: person.say(conversation, content)

    return prepared


def labeller(person: Person) -> Callable[[Person], Answer]:
    message = person.say(person.conversation(), "x").body["id"]
    label = {"message_id": message, "file_type": "image/png", "file_path": "a.png"}
    return lambda person: person.post("/chat/attachments", label)


WAYS: dict[str, Callable[[Person], Callable[[Person], Answer]]] = {
    "conversations": lambda _: create_conversation,
    "messages": sayer("x"),
    "message_bytes": sayer("x" * 2400),
    "attachments": labeller,
    "providers": lambda _: create_provider,
    "configs": lambda _: create_config,
    "stored_responses": lambda _: create_stored,
}


def test_each_quota_is_tried(server: GunicornServer) -> None:
    usage = Person(server).get("/chat/usage").body
    assert usage.keys() == WAYS.keys() | ELSEWHERE.keys()
    assert SETTINGS_OF.keys() == WAYS.keys()


@pytest.mark.parametrize("quota", WAYS)
def test_each_quota_has_a_clear_error(server: GunicornServer, quota: str) -> None:
    """Each worker knows of the others' work within a time, so a few more than the limit may be stored."""
    greedy, innocent = Person(server), Person(server)
    create, create_too = WAYS[quota](greedy), WAYS[quota](innocent)

    def refused() -> Answer | None:
        answer = create(greedy)
        return answer if answer.status != 201 else None

    answer = wait_until(refused)
    assert_problem(answer, 409)
    assert answer.body["code"] == "quota_exceeded"
    assert (answer.body["quota"], answer.body["limit"]) == (
        quota,
        LIMITS.get(quota, LIMIT),
    )
    assert f"{answer.body['limit']} " in answer.body["detail"]
    assert "MAX_" in answer.body["detail"]
    usage = greedy.get("/chat/usage").body[quota]
    assert usage["limit"] == answer.body["limit"]
    assert usage["used"] > (0 if quota == "message_bytes" else LIMIT - 1)
    assert create_too(innocent).status == 201
    assert greedy.get("/chat/conversations").status == 200  # reading is not limited
