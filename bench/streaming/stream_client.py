"""The stream client's process: holds very many streamed answers at once, in one loop.

It records when bytes arrive and keeps them; it parses them only when all streams have ended, so that parsing does
not delay the clock. To stdout it writes lines of JSON: when all streams are running, when the first of them has
ended, and at last the results. Run by `bench.streaming.streams`.
"""

import gc
import json
import select
import socket
import sys
import time
from array import array
from collections import Counter
from itertools import pairwise
from typing import Any

from bench.figures import percentile
from bench.streaming.pace import Pace
from bench.streaming.sse import Broken, Reply, completion_reply, provider_reply

READERS = {
    # peer -> the reader of its answers, and the bytes that only its first text can contain
    "service": (completion_reply, b"event: completion.delta"),
    "provider": (provider_reply, b'"delta":{"content":" '),
}
RECEIVED_AT_ONCE = 262144


class Stream:
    """One streamed answer, from the connection that is opened for it to the end."""

    __slots__ = ("arrivals", "ended_at", "error", "first_at", "received", "request", "socket", "started_at")

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.request = request
        self.received: list[bytes] = []
        self.arrivals = array("d")
        self.first_at = self.ended_at = 0.0
        self.error = ""
        self.started_at = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)

    @property
    def answer(self) -> bytes:
        """All that was received."""
        return b"".join(self.received)


class Loop:
    """Opens the streams of an order when they are due, and follows them to their ends."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.address = (order["host"], order["port"])
        self.waiting = [request.encode() for request in reversed(order["requests"])]
        self.total = len(self.waiting)
        self.at_once: int = order["at_once"]
        self.start_gap_s: float = order["start_gap_s"]
        self.limit_s: float = order["limit_s"]
        self.marker = READERS[order["peer"]][1]
        self.poll = select.epoll()
        self.running: dict[int, Stream] = {}
        self.streams: list[Stream] = []
        self.with_text = self.most_at_once = self.ended = 0

    def run(self) -> None:
        """Follow all streams to their ends, or to the limit."""
        begun = time.monotonic()
        while self.waiting or self.running:
            now = time.monotonic()
            if now - begun > self.limit_s:
                break
            wait = self._open_due(begun, now)
            for number, events in self.poll.poll(wait):
                if events & select.EPOLLOUT:
                    self._send(number)
                else:
                    self._receive(number)

    def _open_due(self, begun: float, now: float) -> float:
        """Open what is due; seconds until there may be more to open."""
        while self.waiting and len(self.running) < self.at_once:
            early = begun + len(self.streams) * self.start_gap_s - now
            if early > 0:
                return early
            stream = Stream(self.address, self.waiting.pop())
            self.streams.append(stream)
            self.running[stream.socket.fileno()] = stream
            self.poll.register(stream.socket.fileno(), select.EPOLLOUT)
        return 1.0

    def _send(self, number: int) -> None:
        """The connection is open: send the request, which fits into any socket's buffer, and listen."""
        stream = self.running[number]
        try:
            stream.socket.send(stream.request)
        except OSError as error:
            self._end(number, type(error).__name__)
            return
        self.poll.modify(number, select.EPOLLIN)

    def _receive(self, number: int) -> None:
        stream = self.running[number]
        try:
            received = stream.socket.recv(RECEIVED_AT_ONCE)
        except OSError as error:
            self._end(number, type(error).__name__)
            return
        if not received:
            self._end(number, "")
            return
        now = time.monotonic()
        stream.received.append(received)
        stream.arrivals.append(now)
        if not stream.first_at and (self.marker in received or self.marker in stream.answer):
            stream.first_at = now
            self.with_text += 1
            self.most_at_once = max(self.most_at_once, self.with_text - self.ended)
            if self.with_text == self.total and not self.ended:
                _say({"event": "all running", "at": now})

    def _end(self, number: int, error: str) -> None:
        stream = self.running.pop(number)
        stream.ended_at, stream.error = time.monotonic(), error
        stream.socket.close()  # which also ends its registration
        self.ended += bool(stream.first_at)
        if self.ended == 1 and stream.first_at:
            _say({"event": "first ended", "at": stream.ended_at})


class Reader:
    """Parses what the streams received, when all have ended."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.read = READERS[order["peer"]][0]
        self.failures: Counter[str] = Counter()
        self.deltas = 0
        self.gaps = array("d")
        self.late = array("d")

    def take(self, stream: Stream, model: str) -> bool:
        """Check a stream against the text that its model says, and count it; whether it is correct."""
        try:
            reply = self._reply(stream)
        except Broken as broken:
            self.failures[str(broken)] += 1
            return False
        pace = Pace.of_model(model)
        if reply.text != pace.reply:
            self.failures["another text than the provider's"] += 1
        self.deltas += reply.deltas
        self.late.append(stream.ended_at - stream.first_at - pace.chunks * pace.every_ms / 1000)
        times = stream.arrivals
        self.gaps.extend(after - before for before, after in pairwise(times))
        return reply.text == pace.reply

    def _reply(self, stream: Stream) -> Reply:
        if stream.error or not stream.ended_at:
            raise Broken(stream.error or "not ended at the limit")
        return self.read(stream.answer)


def results(order: dict[str, Any], loop: Loop, own_cpu_s: float) -> dict[str, Any]:
    """The fields of `bench.streaming.streams.StreamMeasurement`."""
    reader = Reader(order)
    failed = list(range(len(loop.streams), loop.total))
    if failed:
        reader.failures["never begun"] += len(failed)
    for index, (stream, model) in enumerate(zip(loop.streams, order["models"], strict=False)):
        if not reader.take(stream, model):
            failed.append(index)
    begun = min((stream.started_at for stream in loop.streams), default=0.0)
    ended = max((stream.ended_at for stream in loop.streams), default=0.0)
    return {
        "failures": dict(reader.failures),
        "failed": failed,
        "ttft_s": [one.first_at - one.started_at for one in loop.streams if one.first_at],
        "gap_p99_ms": percentile(reader.gaps, 0.99) * 1000,
        "late_p99_ms": percentile(reader.late, 0.99) * 1000,
        "deltas": reader.deltas,
        "seconds": max(ended - begun, 0.0),
        "most_at_once": loop.most_at_once,
        "client_cpu_s": own_cpu_s,
    }


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """Carry out the order on stdin."""
    order = json.load(sys.stdin)
    gc.disable()  # a collection among a million kept byte strings would stop this process for a moment
    loop = Loop(order)
    before = time.process_time()
    loop.run()
    _say({"event": "over", "results": results(order, loop, time.process_time() - before)})


if __name__ == "__main__":
    main()
