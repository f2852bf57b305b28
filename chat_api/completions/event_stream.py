"""A reply as a stream of server-sent events: replayed from any position, then live, in this process or another's.

Ids count up and are positions of the reply (see reply_log). Text is JSON inside one `data:` line, so no text
can forge an event (WHATWG HTML, section 9.2).
"""

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import orjson

from ..errors import ApiError, Unavailable
from ..web.responses import ORJSON_OPTIONS
from . import service
from .checkpoints import read_checkpoints
from .records import StoredCompletion, start_to_json
from .registry import RunRegistry
from .reply_log import (
    ATTACHMENT,
    GONE,
    REASONING,
    SOURCE,
    START,
    TEXT,
    TOOL_CALL,
    WHOLE,
    Chunk,
    ReplyLog,
)
from .run import BY_CLIENT, Run

HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would collect some kilobytes before it sends them on
}
CONTENT_TYPE = "text/event-stream; charset=utf-8"
EVERYTHING = START - 1  # "after" nothing: replay begins with completion.started

# one line break only: with the blank line of an event some clients read an empty event under the last id
KEEPALIVE = b": keepalive\n"
OPEN = b": open\n"
KEEPALIVE_EVERY_S = 10.0
LOOK_FOR_CLIENT_EVERY_S = 0.5
LOOK_FOR_READER_EVERY_S = 2.0  # where its leaving only releases a slot
CHECK_TOKEN_EVERY_S = 2.0
POLL_EVERY_S = 0.25
EVENTS_AT_ONCE = 1000

# checks of tokens run apart from the streams: a database that hangs keeps none of them waiting
_token_checks = ThreadPoolExecutor(1, thread_name_prefix="token-checks")

Found = TypeVar("Found")

_WHOLE_NAMES = {
    TOOL_CALL: "completion.tool_call",
    SOURCE: "completion.source",
    ATTACHMENT: "completion.attachment",
}
# what most events are, with nothing left to do but to fill in
_DELTAS = {
    kind: b'id: %%d\nevent: %b\ndata: {"type":"%b","delta":%%b}\n\n' % (name, name)
    for kind, name in ((TEXT, b"completion.delta"), (REASONING, b"completion.reasoning"))
}


def event(event_id: int, name: str, content: dict[str, Any]) -> bytes:
    """One event; its data have its name as `type` too, for clients that read nothing but the data."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        event_id,
        name.encode(),
        orjson.dumps({"type": name, **content}, option=ORJSON_OPTIONS),
    )


def started_event(completion: dict[str, Any], parent: dict[str, Any]) -> bytes:
    """The first event of a stream: the completion as it began, its parent message and its still empty reply."""
    content = {"completion": completion, "messages": [parent, completion["message"]]}
    return event(START, "completion.started", content)


def ended_event(stored: StoredCompletion) -> bytes:
    """The last event of a stream."""
    content: dict[str, Any] = {"completion": stored.to_json()}
    if stored.problem is not None:
        content["problem"] = stored.problem
    return event(stored.last_event_id, f"completion.{stored.row['status']}", content)


def chunk_events(chunks: list[Chunk], position: int) -> bytes:
    """The events of chunks that begin at a position."""
    frames = []
    for chunk in chunks:
        position += chunk.length
        if chunk.text == GONE and chunk.kind == ATTACHMENT:
            continue
        if chunk.kind in WHOLE:
            frames.append(event(position, _WHOLE_NAMES[chunk.kind], orjson.loads(chunk.text)))
        else:
            frames.append(_DELTAS[chunk.kind] % (position, orjson.dumps(chunk.text)))
    return b"".join(frames)


class Encoding:
    """How a reply is written as events; this one is that of this API itself. A dialect has another one."""

    open, keepalive = OPEN, KEEPALIVE

    def started(self, row: Mapping[str, Any], parent: dict[str, Any]) -> bytes:
        """The beginning, of a completion with this row that answers a message."""
        return started_event(start_to_json(row), parent)

    def chunks(self, chunks: list[Chunk], position: int) -> bytes:
        """What came after a position."""
        return chunk_events(chunks, position)

    def ended(self, stored: StoredCompletion) -> bytes:
        """The end."""
        return ended_event(stored)

    def cut_off(self, error: ApiError) -> bytes:
        """What is sent where the stream ends before the reply does, or where nothing is left of the reply.

        Here nothing: a client that got no end asks again, and is told why. A dialect whose clients take any end of a
        stream for the end of the reply has to say it.
        """
        return b""


NATIVE = Encoding()


class Reader:
    """One client's way through one reply."""

    def __init__(
        self,
        registry: RunRegistry,
        *,
        user_id: str,
        completion_id: str,
        after: int = EVERYTHING,
        has_left: Callable[[], bool] | None = None,
        check_token: Callable[[], None] | None = None,
        cancels: bool = False,
        encoding: Encoding = NATIVE,
        patience_s: float = 0.0,
        is_followed: Callable[[], bool] | None = None,
    ) -> None:
        """`has_left` says whether the client has left. With `cancels` its leaving cancels the reply; after
        `patience_s`, in which it may come back, and not where `is_followed` says that it has.

        `check_token` raises an ApiError once the client may read no more; the reply continues without it.
        """
        self._registry, self._encoding = registry, encoding
        self._key = {"user_id": user_id, "completion_id": completion_id}
        self._position = max(after, START)
        self._wants_start = after < START
        self._has_left, self._cancels = has_left, cancels
        self._patience_s, self._is_followed = patience_s, is_followed
        self._left_at: float | None = None
        self._look_every_s = LOOK_FOR_CLIENT_EVERY_S if cancels else LOOK_FOR_READER_EVERY_S
        self._seems_gone = False
        self._check_token = check_token
        self._check: Future[None] | None = None  # one that has begun
        self._looked_at = self._sent_at = self._checked_at = time.monotonic()

    def stream(self, run: Run | None, stored: StoredCompletion | None = None) -> Iterator[bytes]:
        """The events, to the end. Nothing of the request is used: it is over when this runs."""
        is_over = False
        try:
            yield from self._live(run) if run is not None else self._elsewhere(stored)
            is_over = True
        except (
            ApiError
        ) as error:  # deleted, the token revoked, this process stops, or the database stays away
            is_over = True
            yield self._encoding.cut_off(error)
        finally:
            if not is_over and self._cancels:  # the client left while something was sent
                self.cancel()

    def wait(self, run: Run | None, at_most_s: float = float("inf")) -> StoredCompletion:
        """Wait for the end, or so long, and return the completion. Raises NotFound, Unavailable, or InvalidToken."""
        ends_at = time.monotonic() + at_most_s
        while run is not None:
            if run.wait(LOOK_FOR_CLIENT_EVERY_S) or time.monotonic() > ends_at:
                if run.lost is not None:
                    raise run.lost
                return run.ended or self._find()
            self._require_token()
            if self._cancel_if_client_left() and not self._cancels:
                return self._find()
        while True:
            stored = self._find()
            if not stored.in_progress or self._registry.has_stopped or time.monotonic() > ends_at:
                return stored
            self._require_token()
            if self._cancel_if_client_left() and not self._cancels:
                return stored
            time.sleep(POLL_EVERY_S)

    def cancel(self) -> None:
        """End the reply because its client has left; not if it has come back, and reads it by another request."""
        if self._has_come_back():
            self._cancels = False
            return
        run = self._registry.find(**self._key)
        if run is not None:
            run.stop(BY_CLIENT)
        else:
            with self._registry.app.app_context():
                service.cancel_completion_and_commit(**self._key)

    def _has_come_back(self) -> bool:
        if self._is_followed is None:
            return False
        with self._registry.app.app_context():
            return self._is_followed()

    def _cancel_if_client_left(self) -> bool:
        """Look, but not too often, whether the client has left; where that cancels the reply, do so and return True.
        Also where it would, but the client has come back by another request; then nothing cancels any more.

        One that has only closed its own side of the connection looks the same. So where nothing is cancelled, a
        comment is sent: to a client that has left it fails, and the stream is closed.
        """
        moment = time.monotonic()
        if self._has_left is None or moment - self._looked_at < self._look_every_s:
            return False
        self._looked_at = moment
        self._seems_gone = self._has_left()
        if not (self._seems_gone and self._cancels):
            self._left_at = None
            return False
        if self._left_at is None:
            self._left_at = moment
        if moment - self._left_at < self._patience_s:
            return False
        self.cancel()
        return True

    def _require_token(self) -> None:
        """Raise what the check of the token raises, if one is due."""
        moment = time.monotonic()
        if self._check_token is None or moment - self._checked_at < CHECK_TOKEN_EVERY_S:
            return
        if self._check is None:
            self._check = _token_checks.submit(self._check_token)
        elif self._check.done():
            check, self._check, self._checked_at = self._check, None, moment
            check.result()

    def _live(self, run: Run) -> Iterator[bytes]:
        """Follow a reply of this process, by its log."""
        if self._wants_start:
            yield self._encoding.started(run.completion.to_row(), run.completion.parent)
        else:
            yield self._encoding.open
        pause = self._look_every_s if self._has_left else KEEPALIVE_EVERY_S
        while True:
            with run.changed:
                run.changed.wait_for(lambda: run.is_over or run.log.position > self._position, pause)
            self._require_token()
            if not run.is_over and self._cancel_if_client_left():
                return
            was_over = run.is_over  # before the log is read: nothing is appended after
            if chunks := run.log.after(self._position):
                yield from self._sent(chunks)
            elif self._take_keepalive_due():
                yield self._encoding.keepalive
            if was_over:
                if run.ended is None:
                    raise run.lost or Unavailable()
                yield self._encoding.ended(run.ended)
                return

    def _elsewhere(self, stored: StoredCompletion | None) -> Iterator[bytes]:
        """Follow a reply that another process writes, or that has ended, by what the database has of it."""
        stored = stored or self._find()
        if self._wants_start:
            with self._registry.app.app_context():
                parent = service.get_parent(**self._key)
            yield self._encoding.started(stored.row, parent)
        else:
            yield self._encoding.open
        log, nothing = ReplyLog(), list[Chunk]()
        while stored.in_progress and not self._registry.has_stopped:
            for chunk in self._unless_away(partial(read_checkpoints, begin=log.position), nothing):
                log.append(chunk)
            self._require_token()
            if self._cancel_if_client_left():
                return
            if chunks := log.after(self._position):
                yield from self._sent(chunks)
            elif self._take_keepalive_due():
                yield self._encoding.keepalive
            time.sleep(POLL_EVERY_S)
            stored = self._unless_away(service.find_completion, stored)
        if stored.in_progress:
            raise Unavailable("This server is shutting down; reconnect to continue reading the reply.")
        if chunks := stored.log().after(self._position):
            yield from self._sent(chunks)
        yield self._encoding.ended(stored)

    def _find(self) -> StoredCompletion:
        """The completion; tries again while the database is away for a moment."""
        for _ in range(20):
            try:
                with self._registry.app.app_context():
                    return service.find_completion(**self._key)
            except Unavailable:
                time.sleep(POLL_EVERY_S)
        raise Unavailable()

    def _unless_away(self, read: Callable[..., Found], otherwise: Found) -> Found:
        """What the database answers about the reply; `otherwise` while it is away, and the stream waits."""
        try:
            with self._registry.app.app_context():
                return read(**self._key)
        except Unavailable:
            return otherwise

    def _sent(self, chunks: list[Chunk]) -> Iterator[bytes]:
        """Their events, so many at a time: an event takes far more bytes than a part of one character."""
        for begin in range(0, len(chunks), EVENTS_AT_ONCE):
            batch = chunks[begin : begin + EVENTS_AT_ONCE]
            frames = self._encoding.chunks(batch, self._position)
            self._position += sum(chunk.length for chunk in batch)
            self._sent_at = time.monotonic()
            yield frames

    def _take_keepalive_due(self) -> bool:
        """True where nothing has been sent for so long that a comment is due; the next one counts from now."""
        moment = time.monotonic()
        if moment - self._sent_at < KEEPALIVE_EVERY_S and not self._seems_gone:
            return False
        self._sent_at, self._seems_gone = moment, False
        return True


def watch(client: socket.socket | None) -> Callable[[], bool]:
    """A predicate: whether the client has closed this connection; always False without one.

    Under WSGI an application learns of that only by writing. Here no write is needed: a closed connection is
    readable and gives nothing.
    """

    def has_left() -> bool:
        if client is None:
            return False
        try:
            poll = select.poll()
            poll.register(client, select.POLLIN | select.POLLHUP | select.POLLERR)
            return bool(poll.poll(0)) and not client.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    return has_left


def position_of(text: str | None) -> int | None:
    """The position that a Last-Event-ID or `after` names; EVERYTHING for none. None for one that is no id."""
    if text is None or text in ("", "-1"):
        return EVERYTHING
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    return int(text)
