"""What an import reads, whatever the file's format: records in order, and faults in their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CONVERSATION, MESSAGE, ATTACHMENT, COMPLETION = "conversation", "message", "attachment", "completion"
PROVIDER, CONFIG = "provider", "config"
HEADER, ACCOUNT, END = "export", "account", "end"  # of lines that are no records
BELOW_CONVERSATION = (MESSAGE, ATTACHMENT, COMPLETION)


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to restore. Those below a conversation follow it."""

    place: int  # the number of the line, or of the conversation in an export of ChatGPT; from 1
    kind: str
    fields: dict[str, Any]
    size_bytes: int = 0  # about what it takes in memory

    @property
    def begins(self) -> bool:
        """Whether it ends the conversation in front of it."""
        return self.kind not in BELOW_CONVERSATION


@dataclass(frozen=True, slots=True)
class Fault:
    """What could not be read, and why."""

    place: int
    detail: str
    kind: str | None = None  # what it would have been, as far as that can be told
    conversation_id: str | None = None

    @property
    def begins(self) -> bool:
        """Whether it ends the conversation in front of it; what can't be told apart from that is part of it."""
        return self.kind is not None and self.kind not in BELOW_CONVERSATION


Records = Iterator[Record | Fault]
