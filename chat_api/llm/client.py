"""Calls to LLM providers: streaming a reply, listing models. See `Client`."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError
from ..egress.gate import Gate, HttpRequest
from ..egress.limits import Limits
from .addresses import may_lack_version, operation_url, with_version
from .complaints import STATUSES, Corrections
from .error_codes import ATTACHMENT_REFUSED, MODEL_NOT_FOUND
from .error_responses import error_of_response
from .events import Corrected, Event, Finish, ReasoningDelta, TextDelta, ToolCall
from .headers import merged_headers, secrets_of
from .history import original_names
from .model_lists import Model, ModelList
from .protocols import protocol_of
from .request import ChatRequest, Endpoint
from .response_body import events_of_body
from .stream_parser import ReplyTooLarge
from .streamed_body import described, serialized
from .untrusted_json import parse_whole

if TYPE_CHECKING:
    from ..egress.response import Response

HIDDEN_KEY = "****"
MAX_ERROR_BYTES = 65536
MAX_MODELS_BYTES = 8 * 1024 * 1024  # all pages together
MODELS_TOTAL_S = 30.0  # a client's request waits for it, so less than for a reply
# a server answers 405 where its static files would be
NO_SUCH_PATH = (404, 405)
# what each change between text, reasoning and tool calls counts towards the size of a reply: it makes a part of its own
PART_BYTES = 50
MAX_PARTS = (
    100_000  # between such changes, whatever the size: their order is stored, exported and read at once
)


class _NoSuchPath(Exception):
    """The server knows nothing at this path, but may at one with a version."""


class Client:
    """Talks to providers through the gate. One per process, shared by all threads.

    `pace_s` gives the minimum time between two reads of a streamed reply whose chunks arrive faster than that; the
    first one is never delayed.
    """

    def __init__(self, gate: Gate, limits: Limits, *, pace_s: Callable[[], float] = lambda: 0) -> None:
        self._gate = gate
        self._limits = limits
        self._pace_s = pace_s

    def within(self, total_s: float) -> "Client":
        """A client with the same connections, none of whose calls takes longer than this."""
        limits = replace(self._limits, total_s=min(total_s, self._limits.total_s))
        return Client(self._gate, limits, pace_s=self._pace_s)

    def describe(self, endpoint: Endpoint, request: ChatRequest) -> dict[str, object]:
        """What `stream` would send: `method`, `url`, `headers` (without the key), `body`. Sends nothing."""
        body = protocol_of(endpoint).request_body(request, endpoint)
        hidden = replace(endpoint, headers=dict.fromkeys(endpoint.headers, HIDDEN_KEY))
        fields = described(body.fields)
        sent = _request_of(hidden, HIDDEN_KEY, fields)
        return {"method": sent.method, "url": sent.url, "headers": dict(sent.headers), "body": fields}

    def stream(
        self,
        endpoint: Endpoint,
        request: ChatRequest,
        cancel_token: CancelToken,
        *,
        open_file: Callable[[], IO[bytes]] = tempfile.TemporaryFile,
        on_sent: Callable[[], object] = lambda: None,
    ) -> Iterator[list[Event]]:
        """The reply as it arrives: a list of typed events for each read.

        The last list ends with Finish. Raises EgressError if the reply ends in any other way; the events before
        that remain valid. Closing the generator ends the call. `open_file` makes a temporary file for what is too
        large for memory. `on_sent` is called when the request is on its way.
        """
        cancel_token.check()
        response, corrected = self._request_reply(endpoint, request, cancel_token, on_sent)
        names = original_names(request)
        del request  # may take megabytes, which nobody needs while the reply arrives
        try:
            if corrected is not None:
                yield [corrected]
            events = _limit_size(self._limits.reply_bytes, self._events(endpoint, response, open_file))
            yield from _with_own_names(events, names) if names else events
            response.finish()
        finally:
            response.close()

    def send(self, endpoint: Endpoint, operation: str, body: bytes) -> "Response":
        """The answer, of status 200, to an operation of the protocol that this service only hands on.

        The caller reads and closes it. Raises EgressError.
        """
        deadline = time.monotonic() + self._limits.total_s
        try:
            return self._send_on(endpoint, operation, body, deadline)
        except _NoSuchPath:
            return self._send_on(with_version(endpoint), operation, body, deadline)

    def list_models(self, endpoint: Endpoint) -> list[Model]:
        """The models that the provider offers with this key. Raises EgressError."""
        deadline = time.monotonic() + min(MODELS_TOTAL_S, self._limits.total_s)
        try:
            return self._list_models(endpoint, deadline)
        except _NoSuchPath:
            return self._list_models(with_version(endpoint), deadline)

    def _send_on(self, endpoint: Endpoint, operation: str, body: bytes, deadline: float) -> "Response":
        """Raises EgressError, and _NoSuchPath where another path is worth a try."""
        own = {"Content-Type": "application/json", "Accept": "application/json"}
        headers = _headers_of(endpoint, endpoint.api_key, own)
        sent = HttpRequest("POST", operation_url(endpoint, operation), headers, body)
        response = self._gate.send(sent, cancel_token=CancelToken(), limits=self._limits, deadline=deadline)
        if response.status == 200:
            return response
        complaint = _read_complaint(response, CancelToken())
        error = error_of_response(response.status, response.headers, complaint, secrets_of(endpoint))
        is_path_unknown = response.status in NO_SUCH_PATH and error.code != MODEL_NOT_FOUND
        if is_path_unknown and may_lack_version(endpoint):
            raise _NoSuchPath
        raise error

    def _list_models(self, endpoint: Endpoint, deadline: float) -> list[Model]:
        found = ModelList(operation_url(endpoint, "/models"), endpoint.api_format)
        remaining = MAX_MODELS_BYTES
        while found.next_url is not None:
            content = self._read_models(endpoint, found.next_url, deadline, remaining + 1)
            remaining -= len(content)
            found.add_page(parse_whole(content) if remaining >= 0 else None)
        return found.models

    def _read_models(self, endpoint: Endpoint, url: str, deadline: float, max_bytes: int) -> bytes:
        """A page of the list. Raises EgressError, and _NoSuchPath where another path is worth a try."""
        headers = _headers_of(endpoint, endpoint.api_key, {"Accept": "application/json"})
        response = self._gate.send(
            HttpRequest("GET", url, headers),
            cancel_token=CancelToken(),
            limits=self._limits,
            deadline=deadline,
        )
        try:
            if response.status == 200:
                return response.read_all(max_bytes)
            complaint = response.read_all(MAX_ERROR_BYTES)
        finally:
            response.close()
        if response.status in NO_SUCH_PATH and may_lack_version(endpoint):
            raise _NoSuchPath
        raise error_of_response(response.status, response.headers, complaint, secrets_of(endpoint))

    def close(self) -> None:
        """Close the idle connections."""
        self._gate.close()

    def _request_reply(
        self,
        endpoint: Endpoint,
        request: ChatRequest,
        cancel_token: CancelToken,
        on_sent: Callable[[], object],
    ) -> tuple["Response", Corrected | None]:
        """A response with status 200, and what it took to get it.

        Where the server complains about an option, the request is made again without it, and where it does not know
        the path, with a version in that.
        """
        deadline = time.monotonic() + self._limits.total_s
        corrections = Corrections()
        while True:
            body = protocol_of(endpoint).request_body(request, endpoint)
            response = self._send(endpoint, body.fields, cancel_token, deadline, on_sent)
            if response.status == 200:
                return response, corrections.event(body.warnings)
            complaint = _read_complaint(response, cancel_token)
            error = error_of_response(response.status, response.headers, complaint, secrets_of(endpoint))
            options, text = None, complaint.decode(errors="replace")
            is_path_unknown = response.status in NO_SUCH_PATH and error.code != MODEL_NOT_FOUND
            if is_path_unknown and may_lack_version(endpoint):
                options = corrections.add_version(with_version(endpoint).options)
            elif response.status in STATUSES or error.code == ATTACHMENT_REFUSED:
                options = corrections.add(text, body.fields, request, endpoint.options)
            if options is None:
                error.lesson = corrections.lesson(text, request) if error.code == ATTACHMENT_REFUSED else None
                raise error
            endpoint = replace(endpoint, options=options)

    def _send(
        self,
        endpoint: Endpoint,
        body: Mapping[str, Any],
        cancel_token: CancelToken,
        deadline: float,
        on_sent: Callable[[], object],
    ) -> "Response":
        """Send one request. Without a stream nothing comes before the whole reply is written."""
        limits = self._limits
        if not body["stream"]:
            limits = replace(limits, first_byte_s=limits.total_s)
        sent = _request_of(endpoint, endpoint.api_key, body)
        return self._gate.send(
            sent, cancel_token=cancel_token, limits=limits, deadline=deadline, on_sent=on_sent
        )

    def _events(
        self, endpoint: Endpoint, response: "Response", open_file: Callable[[], IO[bytes]]
    ) -> Iterator[list[Event]]:
        """The events of a response: a stream, or one JSON object from a server that can't stream."""
        return events_of_body(
            protocol_of(endpoint),
            response,
            secrets=secrets_of(endpoint),
            limits=self._limits,
            pace_s=self._pace_s,
            open_file=open_file,
        )


def _read_complaint(response: "Response", cancel_token: CancelToken) -> bytes:
    """The body of a response that is an error; closes it."""
    try:
        return response.read_all(MAX_ERROR_BYTES)
    except EgressError:
        cancel_token.check()
        return b""  # the status says enough
    finally:
        response.close()


def _request_of(endpoint: Endpoint, key: str, body: Mapping[str, Any]) -> HttpRequest:
    """The HTTP request for a reply, with this key."""
    url = operation_url(endpoint, protocol_of(endpoint).COMPLETIONS_PATH)
    accepted = "text/event-stream" if body["stream"] else "application/json"
    own = {"Content-Type": "application/json", "Accept": accepted}
    return HttpRequest("POST", url, _headers_of(endpoint, key, own), serialized(body))


def _headers_of(endpoint: Endpoint, key: str, own: Mapping[str, str]) -> dict[str, str]:
    """All headers of a request. The protocol's, with the key among them, win over those set for the provider."""
    return merged_headers(own, endpoint.headers, protocol_of(endpoint).headers(endpoint, key))


def _limit_size(reply_bytes: int, reads: Iterator[list[Event]]) -> Iterator[list[Event]]:
    """The same events up to the size limit; beyond it they end with Finish("length")."""
    remaining, kind, parts = reply_bytes, None, 0
    try:
        for events in reads:
            for number, event in enumerate(events):
                size = _size(event)
                if size and type(event) is not kind:
                    remaining -= PART_BYTES if kind else 0
                    kind, parts = type(event), parts + 1
                if parts > MAX_PARTS:
                    yield [*events[:number], Finish("length")]
                    return
                if size > remaining:
                    yield [*events[:number], *_truncate(event, remaining), Finish("length")]
                    return
                remaining -= size
            yield events
    except ReplyTooLarge:
        yield [Finish("length")]


def _with_own_names(reads: Iterator[list[Event]], names: Mapping[str, str]) -> Iterator[list[Event]]:
    """The same events with the names of tools that the request had, before it was made to fit the server."""
    for events in reads:
        yield [
            replace(event, name=names.get(event.name, event.name)) if isinstance(event, ToolCall) else event
            for event in events
        ]


def _size(event: Event) -> int:
    if isinstance(event, (TextDelta, ReasoningDelta)):
        return _utf8_size(event.text)
    if isinstance(event, ToolCall):
        return sum(map(_utf8_size, (event.id, event.name, event.arguments)))
    return 0


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _truncate(event: Event, size_bytes: int) -> list[Event]:
    """As much of a text as fits, cut between characters; nothing of any other event."""
    if isinstance(event, (TextDelta, ReasoningDelta)):
        text = event.text.encode()[: max(size_bytes, 0)].decode(errors="ignore")
        return [type(event)(text)] if text else []
    return []
