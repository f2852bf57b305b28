"""The load generator's process: raw keep-alive sockets, prepared bytes, one loop.

It must be so cheap that the server is what is measured, so it knows just enough HTTP for our server's
answers: a status, a Content-Length, a body. Run by `bench.load`, which describes its input and output.
"""

import json
import selectors
import socket
import sys
import time
from array import array
from collections import Counter
from typing import Any

from bench.figures import percentile
from bench.processes import cpu_between, cpu_seconds

ANSWER_TIMEOUT_S = 30.0


class Connection:
    """One keep-alive connection that sends one request again and again, each after the last answer."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.address = address
        self.request = request
        self.received = b""
        self.connect()

    def connect(self) -> None:
        """Open the connection, or open it again."""
        self.received = b""
        self.socket = socket.create_connection(self.address, timeout=ANSWER_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        """Send the request and note when."""
        self.sent_at = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self) -> tuple[bytes, int] | None:
        """Read what has arrived: status and body length once the answer is complete, else None."""
        chunk = self.socket.recv(262144)
        if not chunk:
            raise ConnectionResetError("closed by the server before an answer")
        self.received = self.received + chunk if self.received else chunk
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        head = self.received[:head_end].lower()
        length_at = head.find(b"\r\ncontent-length:")
        length = int(head[length_at + 17 :].split(b"\r\n", 1)[0]) if length_at >= 0 else 0
        if len(self.received) < head_end + 4 + length:
            return None
        status = self.received[9:12]
        self.received = b""
        self.must_close = b"\r\nconnection: close" in head
        return status, length


class Loop:
    """Drives all connections for some seconds and counts."""

    def __init__(self, connections: list[Connection]) -> None:
        self.connections = connections
        self.selector = selectors.DefaultSelector()
        self.latencies = array("d")
        self.failures: Counter[str] = Counter()
        self.body_bytes = 0
        for connection in connections:
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()

    def run(self, seconds: float) -> float:
        """Keep every connection busy; the time that it really took."""
        started = time.perf_counter()
        end = started + seconds
        while time.perf_counter() < end:
            ready = self.selector.select(ANSWER_TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"no answer from the server within {ANSWER_TIMEOUT_S:.0f} s")
            for key, _events in ready:
                self._advance(key.data)
        return time.perf_counter() - started

    def forget(self) -> None:
        """Drop the latencies so far, those of the warm-up; failures stay on record."""
        self.latencies = array("d")

    def _advance(self, connection: Connection) -> None:
        try:
            answer = connection.receive()
        except OSError as error:
            self.failures[type(error).__name__] += 1
            self._reconnect(connection)
            return
        if answer is None:
            return
        status, self.body_bytes = answer
        self.latencies.append(time.perf_counter() - connection.sent_at)
        if not status.startswith(b"2"):
            self.failures[status.decode("latin-1")] += 1
        if connection.must_close:
            self._reconnect(connection)
        else:
            connection.send()

    def _reconnect(self, connection: Connection) -> None:
        self.selector.unregister(connection.socket)
        connection.socket.close()
        connection.connect()
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then measure."""
    address = (order["host"], order["port"])
    loop = Loop([Connection(address, request.encode("latin-1")) for request in order["requests"]])
    loop.run(order["warm_up_s"])
    loop.forget()
    server_before, database_before = cpu_seconds(order["server_pids"]), cpu_seconds(order["database_pids"])
    seconds = loop.run(order["seconds"])
    server_after, database_after = cpu_seconds(order["server_pids"]), cpu_seconds(order["database_pids"])
    latencies = sorted(loop.latencies)
    return {
        "requests": len(latencies),
        "seconds": seconds,
        "server_cpu_s": cpu_between(server_before, server_after),
        "database_cpu_s": cpu_between(database_before, database_after),
        "p50_ms": percentile(latencies, 0.50) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "body_bytes": loop.body_bytes,
        "failures": dict(loop.failures),
    }


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
