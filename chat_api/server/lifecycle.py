"""The life of a worker process: what outlives single requests learns here when the process serves and when it ends.

Whatever has threads of its own registers here. Another application that is served with the same configuration
registers nothing, so nothing of this concerns it.
"""

import time
import weakref
from typing import Protocol

# before threads of a server look for work: together they take 20 ms, and requests that wait for the start come first
FIRST_LOOK_AFTER_S = 1.0
MARGIN_S = 3.0  # for storing replies and telling their clients, before gunicorn kills the worker


class Participant(Protocol):
    """Something that lives as long as the process. No method but `finish_shutdown` waits."""

    def start_serving(self) -> None:
        """The process is a server's from now on, not a command's."""

    def begin_shutdown(self, deadline: float) -> None:
        """The process ends at this monotonic time. May be called by a signal handler, so it takes no lock."""

    def finish_shutdown(self) -> None:
        """Block until all work is done: by its own end, or because the deadline came."""


class _Process:
    deadline: float | None = None  # when it ends (monotonic time); None while nobody has asked it to


_participants: "weakref.WeakSet[Participant]" = weakref.WeakSet()
_process = _Process()


def register(participant: Participant) -> None:
    """Notify this participant of the process's life, as long as somebody else refers to it."""
    _participants.add(participant)


def start_serving() -> None:
    """Called by a worker that has loaded the application and is about to serve it."""
    for participant in list(_participants):
        participant.start_serving()


def deadline_after(grace_s: float) -> float:
    """When work has to end (monotonic time), if the worker has to be gone after `grace_s`."""
    return time.monotonic() + grace_s - min(MARGIN_S, grace_s / 2)


def begin_shutdown(deadline: float) -> None:
    """Take no more work, and let what is in progress go on until `deadline` (monotonic). Safe in a signal handler."""
    _process.deadline = deadline
    for participant in list(_participants):
        participant.begin_shutdown(deadline)


def is_shutting_down() -> bool:
    """Whether this process has been asked to end."""
    return _process.deadline is not None


def finish_shutdown() -> None:
    """Wait until all participants are done."""
    for participant in list(_participants):
        participant.finish_shutdown()
