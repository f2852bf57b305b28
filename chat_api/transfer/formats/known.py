"""The formats of other products, told apart by what is in a conversation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..records import CONVERSATION, Fault, Record
from . import chatgpt, claude, librechat, open_webui
from .assets import Assets


@dataclass(frozen=True, slots=True)
class Format:
    """How the conversations of a product are recognized and read."""

    name: str
    product: str
    is_conversation: Callable[[dict[str, Any]], bool]
    read: Callable[[dict[str, Any], int, Assets], Iterator[Record | Fault]]


FORMATS = (
    Format("chatgpt", "ChatGPT", chatgpt.is_conversation, chatgpt.read_conversation),
    Format("claude", "Claude", claude.is_conversation, claude.read_conversation),
    Format("open-webui", "Open WebUI", open_webui.is_conversation, open_webui.read_conversation),
    Format("librechat", "LibreChat", librechat.is_conversation, librechat.read_conversation),
)
PRODUCTS = f"{', '.join(each.product for each in FORMATS[:-1])} and {FORMATS[-1].product}"
_UNKNOWN = (
    f"It is not a conversation in a known format; supported are exports of {PRODUCTS} are known, and those "
    f"of this service."
)


def format_of(source: Any) -> Format | None:
    """The format of a conversation; None where it is of none."""
    if not isinstance(source, dict):
        return None
    return next((each for each in FORMATS if each.is_conversation(source)), None)


def unknown(number: int) -> Fault:
    """What is said of a conversation of no known format."""
    return Fault(number, _UNKNOWN, CONVERSATION)
