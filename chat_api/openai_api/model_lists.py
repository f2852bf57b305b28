"""The models that a caller may ask for: the lists of all their providers, read at the same time and kept a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..egress.errors import EgressError
from ..llm.client import Client
from ..llm.request import Endpoint
from ..user_llm_configs.service import Choice

KEPT_S = 300.0
LONGEST_WAIT_S = 3.0  # for a provider that is slow or down, which hides no other one
MAX_KEPT = 10_000  # lists, each of one user and provider
AT_ONCE = 16  # calls of this process

Key = tuple[str, str]


class ModelLists:
    """The lists of this process, by user and provider."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[float, list[str]]] = OrderedDict()
        self._pending: dict[Key, Future[list[str]]] = {}
        self._lock = threading.Lock()
        self._calls = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="model-lists")

    def read(self, client: Client, user_id: str, endpoints: Mapping[str, Endpoint]) -> dict[str, list[str]]:
        """The ids of the models of each of these providers; of one that does not answer an older list, or none."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        keys = {provider_id: (user_id, provider_id) for provider_id in endpoints}
        due = [provider_id for provider_id, key in keys.items() if not self._is_fresh(key)]
        calls = [self._call(client, keys[provider_id], endpoints[provider_id]) for provider_id in due]
        for call in calls:
            try:
                call.result(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, EgressError):
                continue
        with self._lock:
            return {provider_id: self._kept[key][1] for provider_id, key in keys.items() if key in self._kept}

    def _is_fresh(self, key: Key) -> bool:
        with self._lock:
            kept = self._kept.get(key)
            return kept is not None and time.monotonic() - kept[0] < KEPT_S

    def _call(self, client: Client, key: Key, endpoint: Endpoint) -> Future[list[str]]:
        """A call that keeps its list; the one that has begun already, if there is one."""
        with self._lock:
            call = self._pending.get(key)
            if call is None:
                call = self._pending[key] = self._calls.submit(self._fetch, client, key, endpoint)
            return call

    def _fetch(self, client: Client, key: Key, endpoint: Endpoint) -> list[str]:
        try:
            ids = [model.id for model in client.list_models(endpoint)]
            with self._lock:
                self._kept[key] = time.monotonic(), ids
                self._kept.move_to_end(key)
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            return ids
        finally:
            with self._lock:
                self._pending.pop(key, None)


def model_objects(choices: Sequence[Choice], lists: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The models as OpenAI lists them, without doubles. Where there is no list it is the `default_model` alone."""
    found: dict[str, dict[str, Any]] = {}
    for choice in choices:
        ids = lists.get(choice.provider_id)
        for id_ in ids if ids is not None else [choice.default_model]:
            if id_ is not None:
                name = f"{choice.prefix}/{id_}"
                found.setdefault(
                    name,
                    {
                        "id": name,
                        "object": "model",
                        "created": choice.created_at_s,
                        "owned_by": choice.prefix,
                    },
                )
    return list(found.values())
