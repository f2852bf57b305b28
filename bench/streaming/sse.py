"""Reads a whole recorded answer: its HTTP by the standard library, and in it the events of a streamed reply."""

import http.client
import io
import json
import re
from dataclasses import dataclass
from typing import Any

COMPLETED = "completion.completed"
PROBLEM_CODE = re.compile(rb'"code":\s*"(\w+)"')


class Broken(Exception):
    """The answer is no complete streamed reply; the message says in a few words why."""


@dataclass(frozen=True)
class Reply:
    """The text of a streamed reply, and the number of events that it came in."""

    text: str
    deltas: int


def completion_reply(answer: bytes) -> Reply:
    """The reply in an answer of `POST /chat/completions`. Raises Broken unless it was completed."""
    events = _events(_body(answer))
    last = events[-1][0] if events else "no event"
    if last != COMPLETED:
        raise Broken(f"ended with {last}")
    return _reply([json.loads(data)["delta"] for event, data in events if event == "completion.delta"])


def provider_reply(answer: bytes) -> Reply:
    """The reply in an answer of the provider itself. Raises Broken if it stops short."""
    events = [data for _event, data in _events(_body(answer))]
    if not events or events[-1] != b"[DONE]":
        raise Broken("ended without [DONE]")
    choices = [choice for data in events[:-1] for choice in json.loads(data)["choices"]]
    return _reply([choice["delta"].get("content", "") for choice in choices])


def _reply(deltas: list[str]) -> Reply:
    texts = [delta for delta in deltas if delta]
    return Reply("".join(texts), len(texts))


class _Recording:
    """As much of a socket as `http.client` needs to read an answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_args: Any) -> io.BytesIO:
        return io.BytesIO(self._answer)


def _body(answer: bytes) -> bytes:
    """The body, its chunked coding undone."""
    if not answer:
        raise Broken("no answer")
    response = http.client.HTTPResponse(_Recording(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError) as error:
        raise Broken(f"cut off: {type(error).__name__}") from error
    if response.status != 200:
        found = PROBLEM_CODE.search(body)
        raise Broken(f"HTTP {response.status}" + (f" {found[1].decode()}" if found else ""))
    if not response.chunked:
        raise Broken("not chunked: nobody could tell its end")
    return body


def _events(body: bytes) -> list[tuple[str, bytes]]:
    """Name and data of each event; comments and fields without meaning here are left out."""
    events = []
    for frame in body.split(b"\n\n"):
        name, data = "", b""
        for line in frame.split(b"\n"):
            if line.startswith(b"event: "):
                name = line[7:].decode()
            elif line.startswith(b"data: "):
                data = line[6:]
        if data:
            events.append((name, data))
    return events
