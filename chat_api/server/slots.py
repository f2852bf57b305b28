"""Slots: how much of one kind a process does at the same time, in total and for each user."""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Self

from flask import Flask, Response, current_app, has_request_context, request

from ..errors import RETRY_AFTER_S, ApiError, BestEffort, TooManyRequests, Unavailable

MAX_RECEIVING = 32  # in each worker
MAX_RECEIVING_PER_CLIENT = 8
EXTENSION = "chat_api.stream_slots"
# in the WSGI environment, see worker.py
REQUEST_SLOT = "chat_api.request_slot"


class Slot:
    """One slot that is taken; released at the end of its `with` block, or earlier.

    A block that hands its work over to a response or to a thread hands over the slot with it; only an exception in
    the block releases it then.
    """

    def __init__(self, slots: "Slots", user_id: str | None) -> None:
        self._slots, self._user_id = slots, user_id
        self._is_released = self._is_handed_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None or not self._is_handed_over:
            self.release()

    def release(self) -> None:
        """Let others have the slot; the second call does nothing. Any thread may call this."""
        with BestEffort("releasing a slot"):
            self._slots._give_back(self)

    def hand_over(self) -> None:
        """Keep the slot beyond the block, until its new holder calls `release`."""
        self._is_handed_over = True

    def until_closed(self, response: Response) -> Response:
        """Keep the slot until the server closes this response, which it does when the client has it or has left."""
        self.hand_over()
        response.call_on_close(self.release)
        return response


class Slots:
    """The slots of one kind of work in this process."""

    def __init__(
        self,
        limit: int,
        *,
        full: str,
        limit_per_user: int | None = None,
        full_for_user: str = "",
        retry_after_s: int = RETRY_AFTER_S,
    ) -> None:
        """`full` and `full_for_user` are the details of the errors where no slot is free."""
        self._limit, self._limit_per_user = limit, limit_per_user
        self._full, self._full_for_user, self._retry_after_s = full, full_for_user, retry_after_s
        self._last = limit // 4 if limit_per_user is not None and limit_per_user < limit else 0
        self._released = threading.Condition()
        self._taken = 0
        self._taken_by: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken

    def take(self, user_id: str | None = None, *, wait_s: float = 0.0) -> Slot:
        """Take a slot, at once or when others release theirs within `wait_s`.

        Raises TooManyRequests where this user has as many as one may have, Unavailable where none is free for them.
        """
        with self._released:
            self._released.wait_for(lambda: not isinstance(self._refusal(user_id), Unavailable), wait_s)
            if refusal := self._refusal(user_id):
                raise refusal
            return self._take(user_id)

    def _refusal(self, user_id: str | None) -> ApiError | None:
        """Why this user gets no slot now. The last ones are for users who have none: a few of those who have as many
        as they may would keep all others out."""
        own, free = self._taken_by[user_id] if user_id else 0, self._limit - self._taken
        if self._limit_per_user is not None and own >= self._limit_per_user:
            return TooManyRequests(self._full_for_user, retry_after_s=self._retry_after_s)
        if free <= 0 or (own and free <= self._last):
            return Unavailable(self._full)
        return None

    def _take(self, user_id: str | None) -> Slot:
        self._taken += 1
        if user_id is not None:
            self._taken_by[user_id] += 1
        return Slot(self, user_id)

    def _give_back(self, slot: Slot) -> None:
        with self._released:
            if slot._is_released:
                return
            slot._is_released = True
            self._taken -= 1
            if slot._user_id is not None:
                self._taken_by[slot._user_id] -= 1
                if not self._taken_by[slot._user_id]:
                    del self._taken_by[slot._user_id]
            self._released.notify_all()  # one alone might be the one that is not admitted yet


def request_slots(number: int) -> SimpleQueue[None]:
    """The slots of requests that run: a queue, which wakes one of those that wait for each slot that is free.

    `Slots` wakes all, since it depends on their users who may have it.
    """
    free: SimpleQueue[None] = SimpleQueue()
    for _ in range(number):
        free.put(None)
    return free


class UserShares:
    """How many requests of one user run at the same time in this process; further ones wait, in their order.

    Requests that change one conversation wait for each other in the database, each with a connection. If a user could
    have them all, one who sends many such requests would keep all others from the service.
    """

    def __init__(self, limit_per_user: int) -> None:
        self._limit = limit_per_user
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[threading.Lock]] = {}

    def take(self, user_id: str) -> "threading.Lock | None":
        """Take a place if this user has one left; else a lock, which is released when the place is there."""
        with self._lock:
            running = self._running.get(user_id, 0)
            if running < self._limit:
                self._running[user_id] = running + 1
                return None
            place = threading.Lock()
            place.acquire()
            self._waiting.setdefault(user_id, deque()).append(place)
            return place

    def give_back(self, user_id: str) -> None:
        """Let the next request of this user run."""
        with self._lock:
            if waiting := self._waiting.get(user_id):
                waiting.popleft().release()
                if not waiting:
                    del self._waiting[user_id]
            elif self._running[user_id] == 1:
                del self._running[user_id]
            else:
                self._running[user_id] -= 1


class RequestSlot:
    """The slot of a running request, which it does not keep while it waits; nor a place in its user's share.

    For the request's own thread.
    """

    def __init__(self, free: SimpleQueue[None] | None, shares: UserShares) -> None:
        """`free` has the slots; None where any number of requests may run."""
        self._free, self._shares = free, shares
        self._user_id: str | None = None
        self._has_place = False
        self._take()

    def run_for(self, user_id: str) -> None:
        """Go on as one of this user's requests, as soon as they have a place left."""
        self._user_id = user_id
        self._go_on()

    def _go_on(self) -> None:
        """Take what this request does not have, the place first: who waits for that has no slot."""
        if self._user_id is not None and not self._has_place:
            if (place := self._shares.take(self._user_id)) is not None:
                self.release()
                place.acquire()
            self._has_place = True
        if not self._is_taken:
            self._take()

    def _take(self) -> None:
        """As soon as one is free."""
        if self._free is not None:
            self._free.get()
        self._is_taken = True

    def release(self) -> None:
        """Let another request run: this one only waits from now on. The second call does nothing."""
        if self._is_taken:
            self._is_taken = False
            if self._free is not None:
                self._free.put(None)
        if self._has_place and self._user_id is not None:
            self._has_place = False
            self._shares.give_back(self._user_id)

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """Let others run during the block."""
        self.release()
        try:
            yield
        finally:
            self._go_on()


def receiving_slots() -> Slots:
    """The slots for requests that wait for a body: a large one, or one whose length is not known."""
    return Slots(
        MAX_RECEIVING,
        full="This server is receiving as many large bodies as it can; retry.",
        limit_per_user=MAX_RECEIVING_PER_CLIENT,
        full_for_user=f"You are already sending {MAX_RECEIVING_PER_CLIENT} large bodies to this server; retry.",
    )


def init_app(app: Flask) -> None:
    """Give the application its slots for streams."""
    per_user = app.config["MAX_STREAMS_PER_USER"]
    app.extensions[EXTENSION] = Slots(
        app.config["MAX_STREAMS"],
        full="This server is at its limit of concurrent streams; retry.",
        limit_per_user=per_user,
        full_for_user=f"You already have {per_user} streams open on this server; close one and retry.",
    )


def stream_slots() -> Slots:
    """The slots for requests that keep their thread while they wait for something: streams, exports, replies."""
    slots: Slots = current_app.extensions[EXTENSION]
    return slots


def run_for(user_id: str) -> None:
    """Go on as a request of this user, of which only so many run at a time. Does nothing in a server without slots."""
    slot = request.environ.get(REQUEST_SLOT)
    if slot is not None:
        slot.run_for(user_id)


@contextmanager
def while_waiting() -> Iterator[None]:
    """Let other requests run during the block. Does nothing outside of requests, nor in a server without such slots.

    No transaction may be open: whoever waits for it may have the slot that this request waits for at the end.
    """
    slot = request.environ.get(REQUEST_SLOT) if has_request_context() else None
    if slot is None:
        yield
        return
    with slot.while_waiting():
        yield


def release_request_slot() -> None:
    """Let another request run: this one only waits from now on. Does nothing in a server without such slots."""
    slot = request.environ.get(REQUEST_SLOT)
    if slot is not None:
        slot.release()
