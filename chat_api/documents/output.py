"""The text that is being collected, up to a limit."""

import re

from .limits import MAX_TEXT_BYTES

# what no text holds, or no database: control characters but tab and line feed, halves of surrogate pairs
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]+")
_LINE_ENDS = re.compile("\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")
_MANY_BLANKS = re.compile(r"[ \t\u00a0]{3,}")
_MANY_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")


class Full(Exception):
    """No more text is taken."""


class Output:
    """Collects a text. `add` raises Full when there is as much of it as is kept."""

    def __init__(self, max_bytes: int = MAX_TEXT_BYTES) -> None:
        self._parts: list[str] = []
        self._left_bytes = max_bytes
        self.is_cut = False

    def add(self, text: str) -> None:
        """Take a part of the text. Raises Full."""
        text = _NOT_TEXT.sub(" ", _LINE_ENDS.sub("\n", text))
        encoded_bytes = len(text) if text.isascii() else len(text.encode())
        if encoded_bytes <= self._left_bytes:
            self._parts.append(text)
            self._left_bytes -= encoded_bytes
            return
        self._parts.append(text.encode()[: self._left_bytes].decode(errors="ignore"))
        self._left_bytes = 0
        self.is_cut = True
        raise Full()

    @property
    def has_text(self) -> bool:
        """Whether anything but blanks was taken."""
        return any(not part.isspace() for part in self._parts if part)

    def text(self) -> str:
        """All that was taken, with runs of blanks and empty lines made shorter."""
        text = _MANY_BLANKS.sub("  ", "".join(self._parts))
        return _MANY_LINES.sub("\n\n", text).strip()
