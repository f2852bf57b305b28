"""What goes back to a provider with a message that it wrote, as it is stored; see `llm.events.ProviderState`."""

from collections.abc import Mapping
from typing import Any

import orjson

STATE_TOO_LARGE = (
    "state: The provider sent more with this reply for itself than is kept; later requests go without it."
)


def stored_state(provider_id: str, model: str, state: Mapping[str, Any]) -> str:
    """The state of a reply with whom it belongs to, as the column has it."""
    return orjson.dumps({"provider_id": provider_id, "model": model, "state": state}).decode()


def state_for(stored: str | None, *, provider_id: str, model: str) -> dict[str, Any] | None:
    """The state of a message, if it goes back to this provider and model, else None."""
    if stored is None:
        return None
    parsed = orjson.loads(stored)
    if (parsed.get("provider_id"), parsed.get("model")) != (provider_id, model):
        return None
    state = parsed.get("state")
    return state if isinstance(state, dict) else None
