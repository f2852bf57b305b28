"""The probe's process: the same GET at a steady rate, until its stdin is closed.

If no connection is free another one is opened, so a slow answer never delays the next request.
Then it writes when each request was sent, how long its answer took, and the status. Run by `bench.streaming.held`.
"""

import json
import select
import sys
import time
from typing import Any

from bench.load_client import Connection

LAST_ANSWERS_S = 5.0


class Probe:
    """Sends, receives and records (sent at, seconds, status) of each request."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.address = (order["host"], order["port"])
        self.request = order["request"].encode()
        self.gap_s = 1 / order["rate"]
        self.free: list[Connection] = []
        self.waiting: dict[Any, tuple[Connection, float]] = {}
        self.answers: list[tuple[float, float, str]] = []

    def run(self) -> None:
        """Probe until stdin is closed, then wait a moment for open requests."""
        due = time.monotonic()
        while True:
            ready, _, _ = select.select([sys.stdin, *self.waiting], [], [], max(due - time.monotonic(), 0))
            if sys.stdin in ready:
                break
            self._receive(ready)
            if time.monotonic() >= due:
                self._send()
                due += self.gap_s
        deadline = time.monotonic() + LAST_ANSWERS_S
        while self.waiting and time.monotonic() < deadline:
            self._receive(select.select(list(self.waiting), [], [], 0.1)[0])
        for _connection, sent_at in self.waiting.values():
            self.answers.append((sent_at, time.monotonic() - sent_at, "no answer"))

    def _send(self) -> None:
        connection = self.free.pop() if self.free else Connection(self.address, self.request)
        sent_at = time.monotonic()
        self.waiting[connection.socket] = (connection, sent_at)
        connection.send()

    def _receive(self, ready: list[Any]) -> None:
        for sock in ready:
            connection, sent_at = self.waiting[sock]
            try:
                answer = connection.receive()
            except OSError as error:
                del self.waiting[sock]
                self.answers.append((sent_at, time.monotonic() - sent_at, type(error).__name__))
                continue
            if answer is None:
                continue
            del self.waiting[sock]
            self.answers.append((sent_at, time.monotonic() - sent_at, answer[0].decode()))
            if connection.must_close:
                sock.close()
            else:
                self.free.append(connection)


if __name__ == "__main__":
    probe = Probe(json.loads(sys.stdin.readline()))
    probe.run()
    json.dump(probe.answers, sys.stdout)
