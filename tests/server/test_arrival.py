"""Requests that arrive in parts: a thread begins when it will not have to wait."""

import socket
from collections.abc import Iterator

import pytest

from chat_api.server.arrival import MAX_HEAD_BYTES, Arrival
from chat_api.web.request_body import SMALL_BODY_BYTES

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    server.setblocking(False)
    with client, server:
        yield client, server


@pytest.mark.parametrize(
    ("request_bytes", "complete_from"),
    [
        (GET, len(GET)),
        (POST % 4 + b"abcd", len(POST % 4) + 4),
        (POST % 0, len(POST % 0)),
        (POST.replace(b"Content-Length", b"content-LENGTH") % 4 + b"abcd", len(POST % 4) + 4),
        (POST % (SMALL_BODY_BYTES + 1) + b"a", len(POST % (SMALL_BODY_BYTES + 1))),
        (POST.replace(b"Host: x", b"Expect: 100-continue") % 4 + b"a", len(POST % 4) + 13),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
            len(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        # in the body it is no header
        (POST % 40 + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + b"a" * 8, len(POST % 40) + 40),
    ],
)
def test_request_is_complete_at_its_last_byte(
    pair: tuple[socket.socket, socket.socket], request_bytes: bytes, complete_from: int
) -> None:
    client, server = pair
    arrival = Arrival()
    completed_at = None
    for number in range(len(request_bytes)):
        client.sendall(request_bytes[number : number + 1])
        arrival.receive(server)
        if arrival.is_complete and completed_at is None:
            completed_at = number + 1
    assert completed_at == complete_from
    assert bytes(arrival.data) == request_bytes


def test_head_without_an_end_is_left_to_the_parser(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    arrival = Arrival()
    while not arrival.is_complete:
        client.sendall(b"x" * 4096)
        arrival.receive(server)
        assert len(arrival.data) <= MAX_HEAD_BYTES + 4096


def test_client_that_leaves_completes_it(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    arrival = Arrival()
    client.sendall(GET[:5])
    client.shutdown(socket.SHUT_WR)
    while not arrival.is_complete:
        arrival.receive(server)
    assert (bytes(arrival.data), arrival.has_ended) == (GET[:5], True)


def test_what_the_parser_has_read_already_counts() -> None:
    assert Arrival(GET + GET[:3]).is_complete
    assert not Arrival(GET[:3]).is_complete
