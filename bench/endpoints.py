"""The hot endpoints, the requests to them, and what a request to each may cost."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.client import Account
from bench.load import CONNECTIONS, get_request, post_request

MESSAGE_CONTENT = ("The quick brown fox jumps over the lazy dog; a message of a usual length. " * 6)[:425]
"""With what the service adds, a page of fifty of these weighs about 30 KB."""

READ_MESSAGES = 100
PAGE = 50


class Fixture:
    """What the requests refer to: a user, a conversation to read, and one for each connection to write to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.account = Account(port)
        self.read_conversation = self.account.create_conversation("A conversation to read")
        for _ in range(READ_MESSAGES):
            self.account.append_message(self.read_conversation, MESSAGE_CONTENT)
        for number in range(PAGE):
            self.account.create_conversation(f"A conversation to list, {number}")
        self.written_conversations = [
            self.account.create_conversation(f"A conversation to write to, {number}")
            for number in range(CONNECTIONS)
        ]

    def get_conversation(self, rest: str = "") -> list[str]:
        """A GET of the conversation that is read, for every connection."""
        path = f"/chat/conversations/{self.read_conversation}{rest}"
        return [get_request(self.port, path, self.account.token)] * CONNECTIONS

    def get_messages(self) -> list[str]:
        """A GET of its first page of messages."""
        return self.get_conversation(f"/messages?limit={PAGE}")

    def list_conversations(self) -> list[str]:
        """A GET of the first page of conversations, most recent first."""
        path = f"/chat/conversations?limit={PAGE}"
        return [get_request(self.port, path, self.account.token)] * CONNECTIONS

    def post_message(self) -> list[str]:
        """A POST of a message to the conversation of each connection."""
        body = {"role": "user", "content": MESSAGE_CONTENT}
        return [
            post_request(
                self.port, "/chat/messages", self.account.token, {"conversation_id": written, **body}
            )
            for written in self.written_conversations
        ]


@dataclass(frozen=True)
class Endpoint:
    """A hot endpoint. `limits`: database -> the most CPU a request may cost, in requests to the yardstick."""

    name: str
    title: str
    requests: Callable[[Fixture], list[str]]
    limits: dict[str, float]


ENDPOINTS = (
    Endpoint("conversation", "GET conversation", Fixture.get_conversation, {"sqlite": 1.5, "postgres": 1.5}),
    Endpoint("messages", f"GET {PAGE} messages", Fixture.get_messages, {"sqlite": 2.0, "postgres": 2.0}),
    Endpoint(
        "list", f"GET {PAGE} conversations", Fixture.list_conversations, {"sqlite": 2.2, "postgres": 2.2}
    ),
    Endpoint("post", "POST message", Fixture.post_message, {"sqlite": 2.5, "postgres": 2.0}),
)
