"""What providers' servers have complained about, remembered by provider and model for a week from the first of it.

So a request that a server is known to refuse is not made again for each reply. What holds for a model whoever asks is
in the provider's row. What is due to a caller's own key or parameters must not change other users' requests: it is in
the row of a provider that only this user has, and of a shared one in the memory of the process.

All of it is forgotten when the provider's address, protocol or options change.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from ..database import statements
from ..database.parameters import given, named_new, new
from ..database.statements import Statement
from ..llm.options import merged_changes
from .models import LLMProvider

KEPT_S = 7 * 24 * 3600
MAX_MODELS = 50  # of a provider; the one that was learned first makes room
MAX_CALLERS = 1000  # entries in the memory of a process
LEARNED_AT = "learned_at"  # in each model's options, as seconds since 1970

# changes of these change what the server gets, or which server gets it
SETTINGS = (
    "api_endpoint",
    "api_format",
    "catalog",
    "auth",
    "encrypted_headers",
    "extra_body",
    "request_options",
)

COLUMNS: tuple[Any, ...] = tuple(getattr(LLMProvider, name) for name in SETTINGS)

Options = Mapping[str, Any]
_THIS_PROVIDER = LLMProvider.id == given("provider_id")
_LOCK = Statement(
    sa.select(LLMProvider.owner_id, LLMProvider.learned_options, *COLUMNS)
    .where(_THIS_PROVIDER)
    .with_for_update()
)
_UPDATE = Statement(
    sa.update(LLMProvider).where(_THIS_PROVIDER).values(learned_options=new(LLMProvider.learned_options))
)


class _CallersMemory:
    """What was learned of one caller's requests to a shared provider; the process forgets the oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Any, ...], tuple[float, Options]] = OrderedDict()

    def put(self, key: tuple[Any, ...], options: Options) -> None:
        with self._lock:
            ends_at, known = self._entries.pop(key, (0.0, {}))
            if time.monotonic() >= ends_at:
                ends_at, known = time.monotonic() + KEPT_S, {}
            self._entries[key] = (ends_at, merged_changes(known, options))
            while len(self._entries) > MAX_CALLERS:
                self._entries.popitem(last=False)

    def get(self, key: tuple[Any, ...]) -> Options:
        with self._lock:
            ends_at, options = self._entries.get(key, (0.0, {}))
        return options if time.monotonic() < ends_at else {}


_callers = _CallersMemory()


def settings_version(settings: tuple[Any, ...]) -> int:
    """A number for the values of SETTINGS; within a process the same values have the same one."""
    return hash(settings)


def options_for(
    *, learned: str | None, user_id: str, provider_id: str, version: int, model: str | None
) -> dict[str, Any]:
    """What is known for a request of this user for this model; without a model, what holds for the address."""
    by_model = _current(learned)
    if model is None:
        has_version = any(options.get("version_in_path") for options in by_model.values())
        return {"version_in_path": True} if has_version else {}
    of_caller = _callers.get((user_id, provider_id, version, model))
    return merged_changes(by_model.get(model, {}), of_caller)


def remember_and_commit(
    *, user_id: str, provider_id: str, version: int, model: str, of_server: Options, of_caller: Options
) -> None:
    """Keep changes of options; nothing if the provider's settings are no longer those that they were learned with."""
    with statements.transaction():
        row = _LOCK.first(provider_id=provider_id)
        if row is None:
            return
        owner_id, learned, *settings = row
        if settings_version(tuple(settings)) != version:
            return
        is_shared = owner_id is None
        kept = dict(of_server) if is_shared else {**of_server, **of_caller}
        if kept:
            text = _with(learned, model, kept)
            statements.execute_at_end(
                _UPDATE, provider_id=provider_id, **named_new({"learned_options": text})
            )
    if is_shared and of_caller:
        _callers.put((user_id, provider_id, version, model), of_caller)


def settings_of(provider: LLMProvider) -> tuple[Any, ...]:
    """The values of SETTINGS; with others than they were learned with, options have to be forgotten."""
    return tuple(getattr(provider, name) for name in SETTINGS)


def _current(learned: str | None) -> dict[str, dict[str, Any]]:
    """By model, what was learned less than KEPT_S ago."""
    by_model: dict[str, dict[str, Any]] = orjson.loads(learned) if learned else {}
    since = time.time() - KEPT_S
    return {model: options for model, options in by_model.items() if options.get(LEARNED_AT, 0) > since}


def _with(learned: str | None, model: str, options: Options) -> str:
    """The row's text with more options of a model; the week of what was known of it goes on."""
    by_model = _current(learned)
    known = by_model.pop(model, {LEARNED_AT: int(time.time())})
    by_model[model] = merged_changes(known, options)
    newest = list(by_model.items())[-MAX_MODELS:]
    return orjson.dumps(dict(newest)).decode()
