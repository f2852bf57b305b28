"""The provider's process: speaks OpenAI's streamed chat completions at the pace that the model's name says.

Every chunk is a `send` of its own, of bytes made beforehand; one loop serves a thousand streams. It writes its port
to stdout and ends with its stdin. Run by `bench.streaming.streams`.
"""

import heapq
import json
import select
import socket
import sys
import time
from itertools import count
from typing import Any

from bench.servers import HOST
from bench.streaming.pace import TEXTS, Pace

SHORTEST_SLEEP_S = 0.0002
"""Chunks that are due within so short a time are sent together: a wake-up per chunk would cost half a core."""

RETRY_S = 0.001
BACKLOG = 4096
RECEIVED_AT_ONCE = 65536


def _frame(payload: bytes) -> bytes:
    """An SSE event in a chunk of HTTP's chunked coding."""
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    body = {
        "id": "chatcmpl-C8f2mXw0Zr5pVbTq7uJk1nYs",
        "object": "chat.completion.chunk",
        "created": 1770933892,
        "model": "paced",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": choices,
        **more,
    }
    return _frame(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _delta(finish_reason: str | None = None, **delta: str) -> bytes:
    return _chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason})


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FIRST = HEAD + _delta(role="assistant", content="")
FRAMES = tuple(_delta(content=text) for text in TEXTS)
FINISH = _delta("stop")
DONE = _frame(b"[DONE]") + b"0\r\n\r\n"


class Connection:
    """One connection of a caller: reads requests, and keeps the position in its present reply."""

    __slots__ = ("closes", "pace", "position", "received", "socket", "unsent", "usage")

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self.received = b""
        self.pace: Pace | None = None

    def read(self) -> bool:
        """Read what has arrived; False once the caller has gone."""
        try:
            received = self.socket.recv(RECEIVED_AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.received += received
        return bool(received)

    def begin(self) -> bool:
        """Whether a whole request has arrived; the reply is then ready to be sent."""
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0))
        if len(body) < length:
            return False
        self.received = body[length:]
        self._parse(lines[0], json.loads(body[:length]))
        self.closes = headers.get("connection") == "close"
        return True

    def _parse(self, request_line: str, request: dict[str, Any]) -> None:
        is_completion = request_line.startswith("post ") and "/chat/completions " in request_line
        if not is_completion or not request["stream"] or request["messages"][-1]["role"] != "user":
            raise ValueError("not a request for a streamed reply")
        self.usage = bool((request.get("stream_options") or {}).get("include_usage"))
        self.pace = Pace.of_model(request["model"])
        self.position = 0
        self.unsent = FIRST + FRAMES[self.pace.text_at(0)]

    def advance(self, pace: Pace) -> float | None:
        """Send what is due; seconds until there is more to send, None after the end."""
        while True:
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                return RETRY_S
            if sent < len(self.unsent):
                self.unsent = self.unsent[sent:]
                return RETRY_S
            self.position += 1
            if self.position < pace.chunks:
                self.unsent = FRAMES[pace.text_at(self.position)]
            elif self.position == pace.chunks:
                self.unsent = self._end(pace)
            else:
                return None
            if pace.every_ms:
                return pace.every_ms / 1000

    def _end(self, pace: Pace) -> bytes:
        tokens = {"prompt_tokens": 10, "completion_tokens": pace.chunks, "total_tokens": pace.chunks + 10}
        return FINISH + (_chunk(usage=tokens) if self.usage else b"") + DONE


class Provider:
    """The loop: who sent something, and which chunks are due."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.connections: dict[int, Connection] = {}
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self.queue: list[tuple[float, int, Connection]] = []
        self.numbers = count()  # connections can't be compared, so no two entries of the queue may be alike

    def run(self) -> None:
        """Serve until stdin is closed."""
        while True:
            wait = max(self.queue[0][0] - time.monotonic(), SHORTEST_SLEEP_S) if self.queue else None
            select.select([self.poll.fileno()], [], [], wait)  # epoll itself counts in milliseconds
            for number, _events in self.poll.poll(0):
                if number == sys.stdin.fileno():
                    return
                if number == self.listener.fileno():
                    self._accept()
                else:
                    self._read(self.connections[number])
            self._send_due()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _address = self.listener.accept()
            except BlockingIOError:
                return
            self.connections[accepted.fileno()] = Connection(accepted)
            self.poll.register(accepted.fileno(), select.EPOLLIN)

    def _read(self, connection: Connection) -> None:
        if not connection.read():
            self._close(connection)
        elif connection.pace is None:
            self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        if connection.begin() and connection.pace is not None:
            self._schedule(connection, time.monotonic() + connection.pace.ttft_ms / 1000)

    def _schedule(self, connection: Connection, due: float) -> None:
        heapq.heappush(self.queue, (due, next(self.numbers), connection))

    def _send_due(self) -> None:
        now = time.monotonic()
        while self.queue and self.queue[0][0] <= now:
            due, _number, connection = heapq.heappop(self.queue)
            if connection.pace is None or connection.socket.fileno() < 0:
                continue  # closed
            try:
                wait = connection.advance(connection.pace)
            except OSError:
                self._close(connection)
                continue
            if wait is not None:
                self._schedule(connection, due + wait)
            elif connection.closes:
                self._close(connection)
            else:
                connection.pace = None
                self._begin(connection)

    def _close(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        self.poll.unregister(number)
        del self.connections[number]
        connection.socket.close()
        connection.pace = None


if __name__ == "__main__":
    provider = Provider()
    print(provider.port, flush=True)
    provider.run()
