"""The hot endpoints, the requests that are sent to them, and what a request to each may cost."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.account import Account
from bench.load import CONNECTIONS
from bench.servers import HOST

MESSAGE_CONTENT = ("The quick brown fox jumps over the lazy dog; a message of a usual length. " * 6)[:425]
"""With what the service adds, a page of fifty of these weighs about 30 KB."""

SMALL_CONVERSATION = 100
PAGE = 50


def get_request(port: int, path: str, token: str | None) -> str:
    """The bytes of a GET, as text."""
    return f"GET {path} HTTP/1.1\r\n{_common_headers(port, token)}\r\n"


def post_request(port: int, path: str, token: str, body: object) -> str:
    """The bytes of a POST with a JSON body, as text."""
    text = json.dumps(body)
    framing = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{_common_headers(port, token)}{framing}\r\n{text}"


def _common_headers(port: int, token: str | None) -> str:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"Host: {HOST}:{port}\r\nAccept: application/json\r\n{authorization}"


@dataclass
class Stage:
    """What the requests refer to: a user, a conversation to read, and one per connection to write to."""

    account: Account
    port: int
    small_conversation: str = ""
    written_conversations: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the conversations and fill the one that is read."""
        self.small_conversation = self.account.create_conversation("A conversation to read")
        for _ in range(SMALL_CONVERSATION):
            self.account.append_message(self.small_conversation, MESSAGE_CONTENT)
        self.written_conversations = [
            self.account.create_conversation(f"A conversation to write to, {number}")
            for number in range(CONNECTIONS)
        ]

    def repeated_get(self, path: str, connections: int = CONNECTIONS) -> list[str]:
        """The same GET for every connection."""
        return [get_request(self.port, path, self.account.token)] * connections


def hello_requests(port: int) -> list[str]:
    """What the yardstick is asked, by every connection."""
    return [get_request(port, "/hello", None)] * CONNECTIONS


def _conversation(stage: Stage) -> list[str]:
    return stage.repeated_get(f"/chat/conversations/{stage.small_conversation}")


def _messages(stage: Stage) -> list[str]:
    return stage.repeated_get(f"/chat/conversations/{stage.small_conversation}/messages?limit={PAGE}")


def _post(stage: Stage) -> list[str]:
    return [
        post_request(
            stage.port,
            "/chat/messages",
            stage.account.token,
            {"conversation_id": conversation_id, "role": "user", "content": MESSAGE_CONTENT},
        )
        for conversation_id in stage.written_conversations
    ]


@dataclass(frozen=True)
class Endpoint:
    """A hot endpoint. `limits`: database -> the most CPU a request may cost, in requests to the yardstick."""

    name: str
    title: str
    requests: Callable[[Stage], list[str]]
    limits: dict[str, float]


ENDPOINTS = (
    Endpoint("conversation", "GET conversation", _conversation, {"sqlite": 2.0, "postgres": 2.0}),
    Endpoint("messages", f"GET {PAGE} messages", _messages, {"sqlite": 2.8, "postgres": 2.8}),
    Endpoint("post", "POST message", _post, {"postgres": 2.1}),
)
