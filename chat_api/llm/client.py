"""Calls to LLM providers: streaming a reply, listing models. See `Client`."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from ..egress.addresses import join_path
from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError, Failed
from ..egress.gate import Gate, HttpRequest
from ..egress.limits import Limits
from . import anthropic, openai
from .error_responses import error_of_response
from .events import Event, Finish, ReasoningDelta, TextDelta, ToolCall
from .request import ChatRequest, Endpoint
from .sse import Frame, SseReader
from .stream_parser import ReplyTooLarge
from .untrusted_json import as_dict, as_list, parse_whole

if TYPE_CHECKING:
    from ..egress.response import Response

PROTOCOLS = {"openai": openai, "anthropic": anthropic}

HIDDEN_KEY = "****"
MAX_ERROR_BYTES = 65536
MAX_MODELS_BYTES = 1024 * 1024
MAX_MODELS = 1000
MODELS_TOTAL_S = 30.0  # a client's request waits for it, so less than for a reply
MAX_MODEL_ID_LENGTH = 255
# JSON may escape a character of one byte in UTF-8 as six
JSON_BYTES_PER_REPLY_BYTE = 6
# what each change between text, reasoning and tool calls counts towards the size of a reply: it makes a part of its own
PART_BYTES = 50

_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}")


class Client:
    """Talks to providers through the gate. One per process, shared by all threads.

    `pace_s` gives the minimum time between two reads of a streamed reply whose chunks arrive faster than that; the
    first one is never delayed.
    """

    def __init__(self, gate: Gate, limits: Limits, *, pace_s: Callable[[], float] = lambda: 0) -> None:
        self._gate = gate
        self._limits = limits
        self._pace_s = pace_s

    def describe(self, endpoint: Endpoint, request: ChatRequest) -> dict[str, object]:
        """What `stream` would send: `method`, `url`, `headers` (without the key), `body`. Sends nothing."""
        protocol = _protocol(endpoint)
        body = protocol.request_body(request)
        sent = _request_of(endpoint, HIDDEN_KEY, body)
        return {"method": sent.method, "url": sent.url, "headers": dict(sent.headers), "body": body}

    def stream(
        self, endpoint: Endpoint, request: ChatRequest, cancel_token: CancelToken
    ) -> Iterator[list[Event]]:
        """The reply as it arrives: a list of typed events for each read.

        The last list ends with Finish. Raises EgressError if the reply ends in any other way; the events before
        that remain valid. Closing the generator ends the call.
        """
        cancel_token.check()
        response = self._request_reply(endpoint, request, cancel_token)
        del request  # may take megabytes, which nobody needs while the reply arrives
        try:
            yield from _limit_size(self._limits.reply_bytes, self._events(endpoint, response))
            response.finish()
        finally:
            response.close()

    def list_models(self, endpoint: Endpoint) -> list[str]:
        """The ids of the models that the provider offers with this key. Raises EgressError."""
        protocol = _protocol(endpoint)
        url = join_path(endpoint.api_endpoint, protocol.models_path(urlsplit(endpoint.api_endpoint).path))
        headers = {"Accept": "application/json", **protocol.headers(endpoint, endpoint.api_key)}
        request = HttpRequest("GET", url, headers)
        deadline = time.monotonic() + min(MODELS_TOTAL_S, self._limits.total_s)
        response = self._gate.send(
            request, cancel_token=CancelToken(), limits=self._limits, deadline=deadline
        )
        try:
            if response.status != 200:
                raise error_of_response(
                    response.status, response.headers, response.read_all(MAX_ERROR_BYTES), endpoint.api_key
                )
            content = response.read_all(MAX_MODELS_BYTES + 1)
        finally:
            response.close()
        answer = parse_whole(content) if len(content) <= MAX_MODELS_BYTES else None
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise Failed("The provider's response is not a list of models.")
        ids = (as_dict(model).get("id") for model in as_list(answer["data"]))
        return [id for id in ids if isinstance(id, str) and 0 < len(id) <= MAX_MODEL_ID_LENGTH][:MAX_MODELS]

    def close(self) -> None:
        """Close the idle connections."""
        self._gate.close()

    def _request_reply(
        self, endpoint: Endpoint, request: ChatRequest, cancel_token: CancelToken
    ) -> "Response":
        """A response with status 200. A field that some servers don't know is left out when they complain about it."""
        protocol = _protocol(endpoint)
        deadline = time.monotonic() + self._limits.total_s
        body: Mapping[str, Any] | None = protocol.request_body(request)
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
            error = error_of_response(response.status, response.headers, complaint, endpoint.api_key)
            body = (
                protocol.corrected_body(body, complaint.decode(errors="replace"))
                if response.status in (400, 422)
                else None
            )
        raise error

    def _events(self, endpoint: Endpoint, response: "Response") -> Iterator[list[Event]]:
        """The events of a response: a stream, or one JSON object from a server that can't stream."""
        protocol, limits = _protocol(endpoint), self._limits
        media_type = (
            str(response.headers.get("Content-Type") or "text/event-stream").split(";")[0].strip().lower()
        )
        if str(response.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
            raise Failed("The provider's response is compressed although that was not requested.")
        if media_type == "text/event-stream":
            frames = _frames(response, limits, self._pace_s)
            yield from protocol.parse_stream(frames, key=endpoint.api_key, reply_bytes=limits.reply_bytes)
        elif media_type == "application/json" or media_type.endswith("+json"):
            content = response.read_all(limits.reply_bytes * JSON_BYTES_PER_REPLY_BYTE)
            yield protocol.parse_json_reply(
                parse_whole(content), key=endpoint.api_key, reply_bytes=limits.reply_bytes
            )
        else:
            name = media_type if _MEDIA_TYPE.fullmatch(media_type) else "another type of content"
            raise Failed(f"The provider answered with {name} instead of a stream of events.")


def _protocol(endpoint: Endpoint) -> Any:
    return PROTOCOLS[endpoint.api_format]


def _request_of(endpoint: Endpoint, key: str, body: Mapping[str, Any]) -> HttpRequest:
    """The HTTP request for a reply, with this key."""
    protocol = _protocol(endpoint)
    url = join_path(endpoint.api_endpoint, protocol.completions_path(urlsplit(endpoint.api_endpoint).path))
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        **protocol.headers(endpoint, key),
    }
    return HttpRequest("POST", url, headers, orjson.dumps(body))


def _frames(response: "Response", limits: Limits, pace_s: Callable[[], float]) -> Iterator[list[Frame]]:
    """The frames that each read completed."""
    reader = SseReader(limits.line_bytes)
    while received := response.read(pace_s=pace_s()):
        if frames := reader.feed(received):
            yield frames
    if frames := reader.close():
        yield frames


def _limit_size(reply_bytes: int, reads: Iterator[list[Event]]) -> Iterator[list[Event]]:
    """The same events up to the size limit; beyond it they end with Finish("length")."""
    remaining, kind = reply_bytes, None
    try:
        for events in reads:
            for number, event in enumerate(events):
                size = _size(event)
                if size and type(event) is not kind:
                    remaining -= PART_BYTES if kind else 0
                    kind = type(event)
                if size > remaining:
                    yield [*events[:number], *_truncate(event, remaining), Finish("length")]
                    return
                remaining -= size
            yield events
    except ReplyTooLarge:
        yield [Finish("length")]


def _size(event: Event) -> int:
    if isinstance(event, (TextDelta, ReasoningDelta)):
        return _utf8_size(event.text)
    if isinstance(event, ToolCall):
        return _utf8_size(event.name) + _utf8_size(event.arguments)
    return 0


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _truncate(event: Event, size_bytes: int) -> list[Event]:
    """As much of a text as fits, cut between characters; nothing of any other event."""
    if isinstance(event, (TextDelta, ReasoningDelta)):
        text = event.text.encode()[: max(size_bytes, 0)].decode(errors="ignore")
        return [type(event)(text)] if text else []
    return []
