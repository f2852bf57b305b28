"""What a worker tells the application about its own life: replies in progress have to end before it does.

Nothing of this concerns another application that is served with the same configuration.
"""

import sys
import time
from typing import Any

# imported by the application, if it is ours
RUNS, KEEPER = "chat_api.completions.runs", "chat_api.completions.keeper"
MARGIN_S = 3.0  # for settling replies and telling their clients, before gunicorn kills the worker


def start_keeper(application: Any) -> None:
    """Have this worker look after the replies of workers that died."""
    package, keeper = sys.modules.get("chat_api"), sys.modules.get(KEEPER)
    if package and keeper and isinstance(application, package.ChatApi):
        keeper.start_keeper(application)


def deadline_after(grace_s: float) -> float:
    """When replies have to end (monotonic time), if the worker has to be gone after `grace_s`."""
    return time.monotonic() + grace_s - min(MARGIN_S, grace_s / 2)


def begin_shutdown(deadline: float) -> None:
    """Refuse new replies; end those that are still in progress at the deadline. May be called by a signal handler."""
    runs = sys.modules.get(RUNS)  # an import statement could wait for the interrupted thread
    if runs is not None:
        runs.begin_shutdown(deadline)


def finish_shutdown() -> None:
    """Wait until all replies are settled, also those whose clients have gone: no request waits for them."""
    runs = sys.modules.get(RUNS)
    if runs is not None:
        runs.finish_shutdown()
