"""What servers of OpenAI's protocol send with a reply for themselves, and want back with it.

OpenAI has nothing of the kind in this protocol; others have added it: Google signs calls (`extra_content`), DeepSeek,
Moonshot and Z.ai want the reasoning (`reasoning_content`), OpenRouter and Snowflake sign or encrypt it
(`reasoning_details`).
"""

from typing import Any

from ..provider_state import MAX_STATE_ITEMS, StateBudget
from ..stream_parser import PartialToolCall
from ..untrusted_json import items_of

# fields of a message that belong to its sender
MESSAGE_FIELDS = frozenset(
    (
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "reasoning_text",
        "reasoning_opaque",
        "reasoning_signature",
        "thinking_blocks",
        "extra_content",
        "provider_specific_fields",
    )
)
# fields of a call that belong to the protocol; all others are its sender's
CALL_FIELDS = frozenset(("index", "id", "type", "function", "custom", "name", "arguments"))
# texts of an entry of `reasoning_details` that arrive in parts
_GROWING = ("text", "summary", "data")


class ReplyState:
    """Collects the state of one reply from its deltas."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._details: dict[str, _Entries] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._calls: list[tuple[PartialToolCall, dict[str, Any]]] = []
        self._budget = StateBudget()

    def take_message(self, delta: dict[str, Any]) -> None:
        """Take what a delta, or a whole message, has of it."""
        if self._budget.remaining < 0:
            self._forget()
            return
        for name, value in delta.items():
            if not value or name not in MESSAGE_FIELDS:
                continue
            if type(value) is str:  # as most are
                self._budget.remaining -= len(value)
                self._texts.setdefault(name, []).append(value)
            elif isinstance(value, list):
                self._details.setdefault(name, _Entries()).take(items_of(value), self._budget)
            elif isinstance(value, dict) and self._budget.take(value):
                self._objects[name] = _merged(self._objects.get(name, {}), value)

    def take_rest(self, message: dict[str, Any]) -> None:
        """Take what a message that repeats the deltas has besides what came with them."""
        known = self._texts.keys() | self._details.keys() | self._objects.keys()
        self.take_message({name: value for name, value in message.items() if name not in known})

    def take_call(self, call: PartialToolCall, fragment: dict[str, Any]) -> None:
        """Take what a fragment of a call, or a whole call, has of it."""
        if fragment.keys() <= CALL_FIELDS:
            return
        extra = {name: value for name, value in fragment.items() if name not in CALL_FIELDS and value}
        if extra and self._budget.take(extra):
            self._calls.append((call, extra))

    def build(self, calls: list[PartialToolCall]) -> dict[str, Any] | None:
        """The state of the whole reply, whose calls these are; None where it has none. Raises StateTooLarge."""
        message: dict[str, Any] = {name: "".join(texts) for name, texts in self._texts.items()}
        message |= {name: entries.whole() for name, entries in self._details.items()}
        message |= {name: kept for name, value in self._objects.items() if (kept := _without_thought(value))}
        state: dict[str, Any] = {"message": message} if message else {}
        if self._calls:
            extras: dict[int, dict[str, Any]] = {}
            for call, extra in self._calls:
                extras.setdefault(id(call), {}).update(extra)
            state["tool_calls"] = [extras.get(id(call), {}) for call in calls]
        self._budget.require(state)
        return state or None

    def _forget(self) -> None:
        """Free what would not be kept anyway."""
        for kept in (self._texts, self._details, self._objects, self._calls):
            kept.clear()


class _Entries:
    """A list, such as `reasoning_details`, that arrives in parts of its entries.

    They become whole again: a signature is for all of an entry. The type and the index say which one goes on; without
    an index the last one of an earlier delta does, unless its signature has come.
    """

    __slots__ = ("_begun", "_entries")

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._begun: dict[tuple[Any, Any], _Entry] = {}

    def take(self, details: list[Any], budget: StateBudget) -> None:
        """Take the entries of a delta."""
        last = self._entries[-1] if self._entries else None
        for detail in details:
            if not isinstance(detail, dict):
                continue
            key = (_key(detail.get("type")), _key(detail.get("index")))
            begun = last if key[1] is None else self._begun.get(key)
            if begun is not None and begun.is_continued_by(detail):
                begun.add(detail, budget)
            elif len(self._entries) == MAX_STATE_ITEMS:
                budget.exceed()
            elif budget.take(detail):
                self._begun[key] = _Entry(detail)
                self._entries.append(self._begun[key])

    def whole(self) -> list[dict[str, Any]]:
        """The entries."""
        return [entry.whole() for entry in self._entries]


def _key(value: object) -> str | int | None:
    return value if isinstance(value, str | int) else None


class _Entry:
    """An entry that arrives in parts."""

    __slots__ = ("_fields", "_parts")

    def __init__(self, detail: dict[str, Any]) -> None:
        self._fields = dict(detail)
        self._parts = {name: [detail[name]] for name in _GROWING if isinstance(detail.get(name), str)}

    def is_continued_by(self, detail: dict[str, Any]) -> bool:
        """Whether it goes on with this part of a later delta."""
        fields = self._fields
        if any(fields.get(name) != detail.get(name) for name in ("type", "index")):
            return False
        if None not in (fields.get("id"), detail.get("id")) and fields["id"] != detail["id"]:
            return False
        return detail.get("index") is not None or not fields.get("signature")

    def add(self, detail: dict[str, Any], budget: StateBudget) -> None:
        """Add a part."""
        for name, value in detail.items():
            if value is None:
                continue
            if name in self._parts and isinstance(value, str):
                if budget.take(value):
                    self._parts[name].append(value)
            elif name in _GROWING and isinstance(value, str):
                if budget.take(value):
                    self._parts[name] = [value]
            elif (name == "signature" or self._fields.get(name) is None) and budget.take(value):
                self._fields[name] = value

    def whole(self) -> dict[str, Any]:
        """The entry as one."""
        return self._fields | {name: "".join(parts) for name, parts in self._parts.items()}


def _without_thought(extra: dict[str, Any]) -> dict[str, Any]:
    """Google's extra content without the mark of deltas that are thoughts: what goes back is the whole message."""
    google = extra.get("google")
    if not isinstance(google, dict) or "thought" not in google:
        return extra
    kept = {name: value for name, value in google.items() if name != "thought"}
    return {name: value for name, value in extra.items() if name != "google"} | (
        {"google": kept} if kept else {}
    )


def _merged(known: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Two objects as one, also one level below."""
    merged = dict(known)
    for name, item in value.items():
        both = isinstance(item, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **item} if both else item
    return merged
