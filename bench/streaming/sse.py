"""Reads a whole recorded answer: HTTP/1.1 with a chunked body, and in it the events of a streamed reply."""

import json
import re
from dataclasses import dataclass

COMPLETED = "completion.completed"
PROBLEM_CODE = re.compile(rb'"code":\s*"(\w+)"')


class Broken(Exception):
    """The answer is no complete streamed reply; the message says in a few words why."""


@dataclass(frozen=True)
class Reply:
    """What a streamed reply said, and in how many pieces it came."""

    text: str
    deltas: int


def status_of(answer: bytes) -> str:
    """The three digits of an answer's status; empty if not so much has come."""
    return answer[9:12].decode("latin-1")


def header_of(answer: bytes, name: str) -> str | None:
    """A header field of an answer, None where it is missing."""
    for line in answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        found, _, value = line.partition(":")
        if found.lower() == name.lower():
            return value.strip()
    return None


def completion_reply(answer: bytes) -> Reply:
    """The reply in an answer of `POST /chat/completions`. Raises Broken unless it was completed."""
    deltas, last = [], ""
    for event, data in _events(_body(answer)):
        last = event
        if event == "completion.delta":
            deltas.append(json.loads(data)["delta"])
    if last != COMPLETED:
        raise Broken(f"ended with {last or 'no event'}")
    return Reply("".join(deltas), len(deltas))


def provider_reply(answer: bytes) -> Reply:
    """The reply in an answer of the provider itself. Raises Broken where it stops short."""
    deltas, last = [], b""
    for _event, data in _events(_body(answer)):
        last = data
        if data != b"[DONE]":
            deltas += [choice["delta"].get("content", "") for choice in json.loads(data)["choices"]]
    if last != b"[DONE]":
        raise Broken("ended without [DONE]")
    texts = [delta for delta in deltas if delta]
    return Reply("".join(texts), len(texts))


def _body(answer: bytes) -> bytes:
    """The body, its chunked coding undone."""
    if status_of(answer) != "200":
        raise Broken(_refusal(answer))
    _head, _, coded = answer.partition(b"\r\n\r\n")
    if (header_of(answer, "Transfer-Encoding") or "").lower() != "chunked":
        raise Broken("not chunked: nobody could tell its end")
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = coded.find(b"\r\n", at)
        if line_end < 0:
            raise Broken("cut off")
        size = int(coded[at:line_end], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(coded[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


def _refusal(answer: bytes) -> str:
    """Status and code of an answer that is no reply."""
    if not answer:
        return "no answer"
    found = PROBLEM_CODE.search(answer)
    return f"HTTP {status_of(answer)}" + (f" {found[1].decode()}" if found else "")


def _events(body: bytes) -> list[tuple[str, bytes]]:
    """Name and data of each event; comments and fields that say nothing here are left out."""
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
