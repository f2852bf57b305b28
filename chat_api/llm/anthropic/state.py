"""The blocks of Claude's replies that go back to it: signed and redacted thinking, and tools of the server.

All blocks are kept in their order, in which the text and the calls of the message are found again. What is in calls is
not kept twice.
"""

from typing import Any

from ..provider_state import MAX_STATE_ITEMS, StateBudget
from ..untrusted_json import as_list, as_text, parse_json

# blocks that a message's text and calls say all of
_PLAIN = ("text", "tool_use")
# kinds of deltas -> the field of the block that they are a part of, and their own
_DELTAS = {
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("input", "partial_json"),
    "compaction_delta": ("content", "content"),
}


class ReplyState:
    """Collects the blocks of one reply."""

    def __init__(self) -> None:
        self.texts: list[
            str
        ] = []  # where the parts of the text or the thinking of the current block are added
        self._blocks: list[_Block] = []
        self._at: dict[object, _Block] = {}
        self._budget = StateBudget()

    def take_block(self, index: object, fields: dict[str, Any]) -> None:
        """Take the start of a block in a stream, or a whole block."""
        kept = {name: value for name, value in fields.items() if name != "input"}
        if len(self._blocks) == MAX_STATE_ITEMS:
            self._budget.exceed()
        elif self._budget.take(kept):
            block = _Block(kept if fields.get("type") == "tool_use" else dict(fields))
            self._blocks.append(block)
            self._at[index if isinstance(index, int) else None] = block
            self.texts = block.texts

    def take_delta(self, index: object, delta: dict[str, Any]) -> None:
        """Take a part of a block that is neither text nor thinking."""
        block = self._at.get(index if isinstance(index, int) else None)
        if block is None:
            return
        kind = delta.get("type")
        if kind == "citations_delta":
            if (citation := delta.get("citation")) and self._budget.take(citation):
                block.citations.append(citation)
        elif isinstance(kind, str) and kind in _DELTAS:
            name, source = _DELTAS[kind]
            if block.is_call and name == "input":
                return
            part = as_text(delta.get(source))
            if self._budget.take(part):
                block.parts.setdefault(name, []).append(part)

    def end_block(self, index: object) -> None:
        """Take the end of a block."""
        block = self._at.get(index if isinstance(index, int) else None)
        if block is not None:
            block.has_ended = True

    def build(self) -> dict[str, Any] | None:
        """The blocks, None where text and calls say all of them. Raises StateTooLarge."""
        wholes = [whole for block in self._blocks if (whole := block.whole()) is not None]
        if all(whole.get("type") in _PLAIN for whole in wholes):
            return None
        state = {"content": wholes}
        self._budget.require(state)
        return state


class _Block:
    """A block while it arrives."""

    __slots__ = ("_fields", "citations", "has_ended", "parts", "texts")

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self.texts: list[str] = []
        self.parts: dict[str, list[str]] = {}
        self.citations: list[Any] = []
        self.has_ended = False

    @property
    def is_call(self) -> bool:
        """Whether it is a call of the client's tool, which the message has."""
        return self._fields.get("type") == "tool_use"

    def whole(self) -> dict[str, Any] | None:
        """The block, None for one of which the end is missing."""
        fields = dict(self._fields)
        if self.texts and fields.get("type") in ("text", "thinking"):
            name = fields["type"]
            fields[name] = as_text(fields.get(name)) + "".join(self.texts)
        for name, parts in self.parts.items():
            text = "".join(parts)
            if name == "input":
                value = parse_json(text or "{}")
                if not isinstance(value, dict):
                    return None
                fields[name] = value
            else:
                fields[name] = as_text(fields.get(name)) + text
        if self.citations:
            fields["citations"] = as_list(fields.get("citations")) + self.citations
        is_unsigned = fields.get("type") == "thinking" and not fields.get("signature")
        return None if is_unsigned and not self.has_ended else fields
