"""Page depth: does a page cost the same in a conversation of a million messages as in one of a hundred?

The same three pages are read in both: the first, one from the middle, the last. Over one connection, so that
the latency is that of the page and not of a queue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.endpoints import PAGE, SMALL_CONVERSATION, Stage
from bench.fill import fill_conversation
from bench.rounds import Contestant, Rounds, Spread, play
from bench.setting import Setting

LIMIT = 1.25


@dataclass(frozen=True)
class DepthRow:
    """One page of the long conversation against the same page of the short one."""

    database: str
    page: str
    length: int
    short_us: Spread
    long_us: Spread
    cpu_ratio: Spread
    latency_ratio: Spread

    @property
    def met(self) -> bool:
        """Whether depth is free: in CPU of service and database together, and in median latency."""
        return self.cpu_ratio.median <= LIMIT and self.latency_ratio.median <= LIMIT

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return f"{self.page} page of {self.length:,} messages on {self.database}"


def measure_depth(
    setting: Setting, length: int, *, rounds: int, seconds: float, progress: Callable[[str], None]
) -> tuple[list[DepthRow], Rounds]:
    """Fill a conversation of `length` messages and read it in turns with the short one."""
    stage, database = setting.stage, setting.database
    conversations = {
        SMALL_CONVERSATION: stage.small_conversation,
        length: fill_conversation(database, stage, length, progress),
    }
    contestants = []
    for page in _pages_of(length):
        for size, conversation_id in conversations.items():
            skipped = _pages_of(size)[page]
            path = f"/chat/conversations/{conversation_id}/messages?limit={PAGE}&after={skipped}"
            _check_page(stage, path, skipped)
            contestants.append(
                Contestant(
                    _name(setting, page, size),
                    stage.port,
                    partial(stage.repeated_get, path, connections=1),
                    [setting.service.process.pid],
                    database.server_pids,
                )
            )
    results = play(contestants, rounds, seconds, progress)
    return [_row(setting, results, page, length) for page in _pages_of(length)], results


def _pages_of(length: int) -> dict[str, int]:
    """Three pages of a conversation: how many messages each one skips."""
    return {"first": 0, "middle": (length - PAGE) // 2, "last": length - PAGE}


def _row(setting: Setting, results: Rounds, page: str, length: int) -> DepthRow:
    short, long = _name(setting, page, SMALL_CONVERSATION), _name(setting, page, length)
    return DepthRow(
        database=setting.database.name,
        page=page,
        length=length,
        short_us=results.spread(short, lambda one: one.total_us),
        long_us=results.spread(long, lambda one: one.total_us),
        cpu_ratio=results.ratio(long, short, lambda one: one.total_us),
        latency_ratio=results.ratio(long, short, lambda one: one.p50_ms),
    )


def _name(setting: Setting, page: str, size: int) -> str:
    return f"{setting.database.name}: {page} page of {size:,}"


def _check_page(stage: Stage, path: str, skipped: int) -> None:
    """See that the page is the one that is meant, before its cost is measured."""
    messages, _headers = stage.account.get(path)
    if [message["position"] for message in messages] != list(range(skipped + 1, skipped + PAGE + 1)):
        raise RuntimeError(f"{path} does not answer the {PAGE} messages behind position {skipped}")
