"""Calls to providers: streaming a reply, listing models. See `Client`."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from ..egress.addresses import below
from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError, Failed
from ..egress.gate import Gate, HttpRequest
from ..egress.limits import Limits
from . import anthropic, openai
from .error_responses import refusal
from .events import Event, Finish, ReasoningDelta, TextDelta, ToolCall
from .request import ChatRequest, Endpoint
from .sse import Frame, SseReader
from .stream_parser import AnswerFull
from .untrusted_json import as_dict, as_list, loads

if TYPE_CHECKING:
    from ..egress.response import Response

PROTOCOLS = {"openai": openai, "anthropic": anthropic}

HIDDEN_KEY = "****"
MAX_ERROR_BYTES = 65536
MAX_MODELS_BYTES = 1024 * 1024
MAX_MODELS = 1000
MODELS_TOTAL_S = 30.0  # a request waits for it, so not as long as for a reply
MAX_MODEL_ID_LENGTH = 255
# JSON may take six bytes for a character that takes one in UTF-8
JSON_BYTES_PER_ANSWER_BYTE = 6

_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}")


class Client:
    """Talks to providers through the gate. One per process, shared by all threads.

    `pace_s` says how long to wait at least from one read of a streamed reply to the next, when its chunks come
    faster; the first one is never held back.
    """

    def __init__(self, gate: Gate, limits: Limits, *, pace_s: Callable[[], float] = lambda: 0) -> None:
        self._gate = gate
        self._limits = limits
        self._pace_s = pace_s

    def describe(self, endpoint: Endpoint, request: ChatRequest) -> dict[str, object]:
        """What `stream` would send: `method`, `url`, `headers` (without the key), `body`. Calls nobody."""
        protocol = _protocol(endpoint)
        body = protocol.body(request)
        sent = _request_of(endpoint, HIDDEN_KEY, body)
        return {"method": sent.method, "url": sent.url, "headers": dict(sent.headers), "body": body}

    def stream(
        self, endpoint: Endpoint, request: ChatRequest, cancel_token: CancelToken
    ) -> Iterator[list[Event]]:
        """The reply, as the provider sends it: what each read brought, as a list of typed events.

        The last list ends with Finish. Raises EgressError where it ends otherwise than by the provider's own
        end; what came before stays good. Closing the generator ends the call.
        """
        cancel_token.check()
        response = self._answer(endpoint, request, cancel_token)
        try:
            yield from _within(self._limits.answer_bytes, self._events(endpoint, response))
            response.finish()
        finally:
            response.close()

    def list_models(self, endpoint: Endpoint) -> list[str]:
        """The ids of the models that the provider offers with this key. Raises EgressError."""
        protocol = _protocol(endpoint)
        url = below(endpoint.api_endpoint, protocol.models_path(urlsplit(endpoint.api_endpoint).path))
        headers = {"Accept": "application/json", **protocol.headers(endpoint, endpoint.api_key)}
        request = HttpRequest("GET", url, headers)
        deadline = time.monotonic() + min(MODELS_TOTAL_S, self._limits.total_s)
        response = self._gate.send(
            request, cancel_token=CancelToken(), limits=self._limits, deadline=deadline
        )
        try:
            if response.status != 200:
                raise refusal(
                    response.status, response.headers, response.read_all(MAX_ERROR_BYTES), endpoint.api_key
                )
            content = response.read_all(MAX_MODELS_BYTES + 1)
        finally:
            response.close()
        answer = loads(content) if len(content) <= MAX_MODELS_BYTES else None
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise Failed("The provider answered with something that is no list of models.")
        ids = (as_dict(model).get("id") for model in as_list(answer["data"]))
        return [id for id in ids if isinstance(id, str) and 0 < len(id) <= MAX_MODEL_ID_LENGTH][:MAX_MODELS]

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._gate.close()

    def _answer(self, endpoint: Endpoint, request: ChatRequest, cancel_token: CancelToken) -> "Response":
        """The provider's answer, whose status is 200. What some servers don't know is left out on their complaint."""
        protocol = _protocol(endpoint)
        deadline = time.monotonic() + self._limits.total_s
        body: Mapping[str, Any] | None = protocol.body(request)
        while body is not None:
            sent = _request_of(endpoint, endpoint.api_key, body)
            response = self._gate.send(
                sent, cancel_token=cancel_token, limits=self._limits, deadline=deadline
            )
            if response.status == 200:
                return response
            try:
                complaint = response.read_all(MAX_ERROR_BYTES)
            except EgressError:
                cancel_token.check()
                complaint = b""  # the status says enough
            finally:
                response.close()
            error = refusal(response.status, response.headers, complaint, endpoint.api_key)
            body = (
                protocol.corrected(body, complaint.decode(errors="replace"))
                if response.status in (400, 422)
                else None
            )
        raise error

    def _events(self, endpoint: Endpoint, response: "Response") -> Iterator[list[Event]]:
        """The events of an answer, streamed or, from a server that can't, in one piece."""
        protocol, limits = _protocol(endpoint), self._limits
        media_type = (
            str(response.headers.get("Content-Type") or "text/event-stream").split(";")[0].strip().lower()
        )
        if str(response.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
            raise Failed("The provider answered in a compressed form, which was not asked for.")
        if media_type == "text/event-stream":
            frames = _frames(response, limits, self._pace_s)
            yield from protocol.events(frames, key=endpoint.api_key, answer_bytes=limits.answer_bytes)
        elif media_type == "application/json" or media_type.endswith("+json"):
            content = response.read_all(limits.answer_bytes * JSON_BYTES_PER_ANSWER_BYTE)
            yield protocol.whole(loads(content), key=endpoint.api_key, answer_bytes=limits.answer_bytes)
        else:
            shown = media_type if _MEDIA_TYPE.fullmatch(media_type) else "something else"
            raise Failed(f"The provider answered with {shown}, not with a stream of events.")


def _protocol(endpoint: Endpoint) -> Any:
    return PROTOCOLS[endpoint.api_format]


def _request_of(endpoint: Endpoint, key: str, body: Mapping[str, Any]) -> HttpRequest:
    """The request for a reply, with this key."""
    protocol = _protocol(endpoint)
    url = below(endpoint.api_endpoint, protocol.completions_path(urlsplit(endpoint.api_endpoint).path))
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        **protocol.headers(endpoint, key),
    }
    return HttpRequest("POST", url, headers, orjson.dumps(body))


def _frames(response: "Response", limits: Limits, pace_s: Callable[[], float]) -> Iterator[list[Frame]]:
    """What each read brought, as events of the stream."""
    reader = SseReader(limits.line_bytes)
    while piece := response.read(pace_s=pace_s()):
        if frames := reader.feed(piece):
            yield frames
    if frames := reader.close():
        yield frames


def _within(answer_bytes: int, reads: Iterator[list[Event]]) -> Iterator[list[Event]]:
    """The same events, as far as the answer's bound allows; beyond it they end with Finish("length")."""
    left = answer_bytes
    try:
        for events in reads:
            for number, event in enumerate(events):
                size = _size(event)
                if size > left:
                    yield [*events[:number], *_beginning(event, left), Finish("length")]
                    return
                left -= size
            yield events
    except AnswerFull:
        yield [Finish("length")]


def _size(event: Event) -> int:
    if isinstance(event, (TextDelta, ReasoningDelta)):
        return _utf8_size(event.text)
    if isinstance(event, ToolCall):
        return _utf8_size(event.name) + _utf8_size(event.arguments)
    return 0


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _beginning(event: Event, size_bytes: int) -> list[Event]:
    """As much of a text as fits, cut between characters."""
    if isinstance(event, (TextDelta, ReasoningDelta)):
        text = event.text.encode()[:size_bytes].decode(errors="ignore")
        return [type(event)(text)] if text else []
    return []
