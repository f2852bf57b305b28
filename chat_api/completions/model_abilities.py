"""What a provider's list of models says that a model can't do, remembered in the process for some minutes.

The list is read for a request with files only, and where it can't be read soon nothing is known.
"""

import time
from collections.abc import Iterable

from ..egress.errors import EgressError
from ..llm.model_lists import Model
from ..llm.request import Endpoint
from ..server.slots import while_waiting
from .recent import Recent
from .registry import run_registry

KEPT_S = 600.0
WAIT_S = 3.0
MAX_LISTS = 500

Lacks = dict[str, frozenset[str]]  # by the model, of those that lack something

_lists: Recent[tuple[str, str, str], tuple[float, Lacks]] = Recent(most=MAX_LISTS)


def known_lacks(user_id: str, endpoint: Endpoint, model: str) -> frozenset[str]:
    """The abilities that the model is said not to have."""
    found = _lists.get(_key(user_id, endpoint))
    if found is None or time.monotonic() > found[0] + KEPT_S:
        try:
            with while_waiting():
                models = run_registry().client.within(WAIT_S).list_models(endpoint)
        except EgressError:
            models = []
        found = remember(user_id, endpoint, models)
    return found[1].get(model, frozenset())


def remember(user_id: str, endpoint: Endpoint, models: Iterable[Model]) -> tuple[float, Lacks]:
    """Keep what a list says, which was read just now."""
    found = time.monotonic(), {model.id: model.lacks for model in models if model.lacks}
    _lists.put(_key(user_id, endpoint), found)
    return found


def _key(user_id: str, endpoint: Endpoint) -> tuple[str, str, str]:
    """Whoever has another key may see other models."""
    return user_id, endpoint.api_format, endpoint.api_endpoint
