"""What an import reads, whatever the file's format: records and faults, in the order of the file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CONVERSATION, MESSAGE, ATTACHMENT, COMPLETION = "conversation", "message", "attachment", "completion"
FILE = "file"  # the content of an attachment
PROVIDER, CONFIG = "provider", "config"
HEADER, ACCOUNT, END = "export", "account", "end"  # of lines that are no records
BELOW_CONVERSATION = (MESSAGE, ATTACHMENT, COMPLETION)


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to restore. Those below a conversation follow it."""

    number: int  # of the line, or of the conversation in an export of another product; from 1
    kind: str
    fields: dict[str, Any]
    size_bytes: int = 0  # about what it takes in memory
    omitted: int = 0  # parts of it that were not understood

    @property
    def starts_conversation(self) -> bool:
        """Whether it is no part of the conversation before it."""
        return self.kind not in BELOW_CONVERSATION


@dataclass(frozen=True, slots=True)
class Fault:
    """What could not be read, and why."""

    number: int  # as that of a record
    detail: str
    kind: str | None = None  # what it would have been, as far as that is known
    conversation_id: str | None = None

    @property
    def starts_conversation(self) -> bool:
        """Whether it is no part of the conversation before it; of an unknown kind, it is taken for one."""
        return self.kind is not None and self.kind not in BELOW_CONVERSATION


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing yet: what comes next has to wait for its slot. To be asked for again in a moment."""


Records = Iterator[Record | Fault | Pause]
