"""Calls to providers: streaming a reply, listing models. See `Client`."""

from collections.abc import Iterator
from dataclasses import dataclass

from .events import Event
from .request import ChatRequest, Endpoint


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call. Times are in seconds, sizes in bytes."""

    connect_s: float = 5
    first_byte_s: float = 120
    idle_s: float = 60
    total_s: float = 1800
    line_bytes: int = 1024 * 1024
    run_bytes: int = 64 * 1024 * 1024  # all that is read of one answer
    answer_bytes: int = 4 * 1024 * 1024  # text, reasoning and tool calls in UTF-8


class Call:
    """One running call, so that another thread can end it."""

    def cancel(self) -> None:
        """Close the connection, also while connecting or waiting; the generator then raises Cancelled. Idempotent."""
        raise NotImplementedError


class Client:
    """Talks to providers through the gate. One per process, shared by all threads."""

    def describe(self, endpoint: Endpoint, request: ChatRequest) -> dict[str, object]:
        """What `stream` would send: `method`, `url`, `headers` (without the key), `body`. Calls nobody."""
        raise NotImplementedError

    def stream(self, endpoint: Endpoint, request: ChatRequest, call: Call) -> Iterator[list[Event]]:
        """The reply, as the provider sends it: what each read brought, as a list of typed events.

        Raises ProviderError where it ends otherwise than by the provider's own end; what came before stays good.
        """
        raise NotImplementedError

    def list_models(self, endpoint: Endpoint) -> list[str]:
        """The ids of the models that the provider offers with this key. Raises ProviderError."""
        raise NotImplementedError
