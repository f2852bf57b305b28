"""Bodies made to take memory, and clients that take their time: others hardly notice either.

Each case is the worst body of its kind that is read at all: one byte below the limit of its operation.
"""

import socket
import time
from collections.abc import Callable

import pytest

from chat_api.web.json_body import MAX_DIGITS, MAX_VALUES
from chat_api.web.request_body import SMALL_BODY_BYTES
from config import Config
from tests.live.client import Person, at_once
from tests.live.exhaustion import percentile, watching
from tests.support.server import GunicornServer

pytestmark = pytest.mark.nightly

CLIENTS = 16
MAX_GROWTH_MIB = 200
FOR_S = 3.0
EMOJI = "\U0001f600".encode()  # one of them makes a text take four bytes a character


def filled(limit: int, start: bytes, unit: bytes, end: bytes, *, at_most: int | None = None) -> bytes:
    """A body of `limit` bytes: as many units as fit, or as may be, and blanks."""
    count = (limit - len(start) - len(end)) // len(unit)
    body = start + unit * (count if at_most is None else min(count, at_most)) + end
    return body + b" " * (limit - len(body))


WORST: dict[str, Callable[[int], bytes]] = {
    "empty objects": lambda limit: filled(limit, b'{"x":[', b"{},", b"0]}", at_most=MAX_VALUES // 2),
    "objects": lambda limit: filled(limit, b'{"x":[', b'{"a":0},', b"0]}", at_most=MAX_VALUES // 4),
    "nesting": lambda limit: filled(limit, b'{"x":[', b"[" * 900 + b"]" * 900 + b",", b"0]}", at_most=50),
    "wide text": lambda limit: filled(limit, b'{"content":"' + EMOJI, b"x", b'"}'),
    "escapes": lambda limit: filled(limit, b'{"content":"', rb"\ud83d\ude00", b'"}'),
    "names": lambda limit: filled(
        limit,
        b"{" + b",".join(b'"%020d":0' % number for number in range(min(limit // 30, MAX_VALUES // 3))),
        b" ",
        b"}",
    ),
    "numbers": lambda limit: filled(
        limit, b'{"x":[', b"9" * MAX_DIGITS + b",", b"0]}", at_most=MAX_VALUES - 4
    ),
    "too many values": lambda limit: filled(limit, b'{"x":[', b"{},", b"0]}"),
    "quotes": lambda limit: filled(limit, b'{"x":', b'""', b"}"),
}
ROUTES = {
    "/auth/register": SMALL_BODY_BYTES,
    "/auth/login": SMALL_BODY_BYTES,
    "/chat/conversations": SMALL_BODY_BYTES,
    "/chat/messages": Config.MAX_BODY_BYTES,
    "/chat/completions": Config.MAX_BODY_BYTES,
}


@pytest.mark.parametrize("path", ROUTES)
def test_worst_bodies_take_little_memory(
    server: GunicornServer, innocent: Person, attacker: Person, path: str
) -> None:
    """All of them, one after the other, from all clients at once."""
    bodies = [make(ROUTES[path]) for make in WORST.values()]
    statuses = set[int]()

    def send(number: int) -> None:
        ends_at = time.monotonic() + FOR_S
        while time.monotonic() < ends_at:
            body = bodies[number % len(bodies)]
            number += 1
            headers = {"Content-Type": "application/json"}
            status, _, _ = server.request("POST", path, token=attacker.token, headers=headers, body=body)
            statuses.add(status)

    with watching(server, innocent) as watch:
        at_once([lambda number=number: send(number) for number in range(CLIENTS)])  # type: ignore[misc]
    assert statuses <= {400, 429}
    assert 400 in statuses, "All were refused before they were read."
    assert watch.rss_growth_mib < MAX_GROWTH_MIB
    assert not watch.failures
    assert percentile(watch.health_s, 99) < 2


def test_large_bodies_are_not_read_from_strangers(server: GunicornServer, innocent: Person) -> None:
    body = b'{"x":[' + b"{}," * (8 * 2**20 // 3 - 4) + b"0]}"
    paths = ("/auth/register", "/auth/login", "/chat/messages", "/chat/import", "/nothing")

    def send(path: str) -> set[int]:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        statuses = set[int]()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
                try:
                    connection.sendall(head.encode() + body)
                except OSError:
                    pass  # it has answered and closed
                try:
                    statuses.add(int(connection.recv(100).split()[1]))
                except (OSError, IndexError):
                    pass
        return statuses

    with watching(server, innocent) as watch:
        found = at_once([lambda path=path: send(path) for path in paths * 3])  # type: ignore[misc]
    statuses = set().union(*found)
    assert statuses <= {401, 404, 413}
    assert 401 in statuses, "No answer came to those who sent no token."
    assert watch.rss_growth_mib < 50
    assert not watch.failures
