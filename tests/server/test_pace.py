"""Clients that are slow, one byte at a time or all the time."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chat_api.server import pace
from chat_api.server.pace import ClientSocket, ClientTooSlow, Pace


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, ClientSocket]]:
    """A client, and the server's side of its connection, with less patience than usual."""
    monkeypatch.setattr(pace, "GRACE_S", 0.2)
    monkeypatch.setattr(Pace, "bytes_per_s", 100_000)
    client, accepted = socket.socketpair()
    with client, ClientSocket.taking_over(accepted) as server:
        server.begin_request()
        yield client, server


def read_to_the_end(server: ClientSocket) -> None:
    while server.recv(100_000):
        pass


@contextmanager
def repeating(act: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """What the client does during the block, again and again."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every_s):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_client_that_sends_a_byte_now_and_then_is_too_slow(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, server = pair
    began = time.monotonic()
    with repeating(lambda: client.sendall(b"x"), every_s=0.02), pytest.raises(ClientTooSlow):
        read_to_the_end(server)
    assert 0.2 <= time.monotonic() - began < 2


def test_client_that_does_not_read_is_too_slow(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, server = pair
    server.settimeout(0.1)  # as the kernel's in the worker
    with repeating(lambda: client.recv(64), every_s=0.02), pytest.raises(TimeoutError):
        server.sendall(b"x" * 10_000_000)


def test_client_that_keeps_the_rate_may_take_as_long_as_the_whole_timeout(
    pair: tuple[socket.socket, ClientSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    monkeypatch.setattr(Pace, "longest_s", 0.5)
    began = time.monotonic()
    with repeating(lambda: client.sendall(b"x" * 20_000), every_s=0.01), pytest.raises(ClientTooSlow):
        read_to_the_end(server)
    assert time.monotonic() - began > 0.4


def test_each_request_has_a_pace_of_its_own(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, server = pair
    for _ in range(4):
        server.begin_request()
        threading.Timer(0.1, lambda: client.sendall(b"x")).start()
        assert server.recv(1) == b"x"


def test_time_that_the_service_takes_does_not_count(pair: tuple[socket.socket, ClientSocket]) -> None:
    _client, server = pair
    for _ in range(3):
        time.sleep(0.1)
        server.sendall(b"x")


def test_client_may_wait_between_two_requests(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, server = pair
    server.end_request()
    threading.Timer(0.5, lambda: client.sendall(b"x")).start()
    assert server.recv(1) == b"x"
    server.begin_request()
    server.sendall(b"y")
