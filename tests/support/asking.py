"""A provider, and a client that may call this machine."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chat_api.egress.errors import EgressError
from chat_api.egress.gate import Gate
from chat_api.llm.client import CancelToken, Client, Limits
from chat_api.llm.events import Event, Finish, TextDelta
from chat_api.llm.request import ChatMessage, ChatRequest, Endpoint
from tests.support.provider import ScriptedProvider

KEY = "sk-proj-Zq8vT3nW1xYb5LmR7c"

# short enough to wait for, long enough for a busy machine
LIMITS = Limits(connect_s=2, first_byte_s=5, idle_s=5, total_s=20)


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    """A provider of the test's own."""
    with ScriptedProvider() as scripted:
        yield scripted


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that lets calls to this machine pass."""
    open_gate = Gate(allow_loopback=True)
    yield open_gate
    open_gate.close()


class Asking:
    """A client with an endpoint at the scripted provider, and short ways to ask it."""

    def __init__(self, gate: Gate, url: str, api_format: str, **limits: Any) -> None:
        self.client = Client(gate, replace(LIMITS, **limits), pace_s=lambda: 0.01)
        self.endpoint = Endpoint(api_format, url, KEY)
        self.cancel_token = CancelToken()

    def stream(self, content: str = "Hi", **parameters: Any) -> Iterator[list[Event]]:
        """Ask for a reply."""
        return self.send(ChatMessage("user", content), **parameters)

    def send(self, *messages: ChatMessage, **parameters: Any) -> Iterator[list[Event]]:
        """Ask for a reply to these messages."""
        return self.client.stream(
            self.endpoint, ChatRequest("gpt-x", messages, parameters), self.cancel_token
        )

    def events(self, **parameters: Any) -> list[Event]:
        """All events of a reply, in one list."""
        return [event for read in self.stream(**parameters) for event in read]

    def until_error(self) -> tuple[list[Event], EgressError]:
        """The events that came before the error, and the error."""
        events: list[Event] = []
        try:
            for read in self.stream():
                events += read
        except EgressError as error:
            return events, error
        raise AssertionError(f"No error came, but {events}.")

    def error(self) -> EgressError:
        """The error that comes before any event."""
        events, error = self.until_error()
        assert not events
        return error


AskingMaker = Callable[..., Asking]


@pytest.fixture
def asking(gate: Gate, provider: ScriptedProvider) -> AskingMaker:
    """Makes a client of the provider; keywords are limits."""

    def make(api_format: str = "openai", **limits: Any) -> Asking:
        return Asking(gate, provider.url, api_format, **limits)

    return make


def text_of(events: list[Event]) -> str:
    """The reply's text."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def finish_of(events: list[Event]) -> str:
    """Why it ended; that must be the last event and the only one of its kind."""
    last = events[-1]
    assert isinstance(last, Finish)
    assert sum(isinstance(event, Finish) for event in events) == 1
    return last.reason
