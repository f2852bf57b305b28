"""The blocks of Claude's replies that are kept as the state of a message."""

from typing import Any

from .request import ChatMessage
from .untrusted_json import as_dict, as_list, as_text

THINKING = ("thinking", "redacted_thinking")
# a tool of the server has a block for the call and, after it, one for the result
SERVER_CALLS = ("server_tool_use", "mcp_tool_use")
# types of blocks -> the field that has to be a text
_TEXT_FIELDS = {"text": "text", "thinking": "thinking", "redacted_thinking": "data"}


def blocks_of(message: ChatMessage) -> list[dict[str, Any]]:
    """The blocks in a message's state; none where text or calls are not those of the message.

    Then the reply was replaced, or an import says something else, and what the user sees is what is sent.
    """
    blocks = [block for block in as_list((message.state or {}).get("content")) if _is_block(block)]
    texts = "".join(as_text(block.get("text")) for block in blocks if block["type"] == "text")
    calls = [block for block in blocks if block["type"] == "tool_use"]
    is_same = _squeezed(texts) == _squeezed(message.content) and len(calls) == len(message.tool_calls)
    return blocks if is_same else []


def _is_block(block: object) -> bool:
    """Whether the value can be a block. An import may have brought anything, and servers refuse a text that is none."""
    fields = as_dict(block)
    kind = fields.get("type")
    if not isinstance(kind, str):
        return False
    return kind not in _TEXT_FIELDS or isinstance(fields.get(_TEXT_FIELDS[kind]), str)


def _squeezed(text: str) -> str:
    """A text without white space, and with what the database replaces: blocks are stored with less of it."""
    return "".join(text.replace("\x00", "\ufffd").split())
