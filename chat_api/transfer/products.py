"""The records of exports of other products: JSON with conversations of any known format, in a file or in a zip."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import orjson
from flask import current_app

from ..web.json_values import has_more_values
from .archive import Archive, Read
from .budget import ImportBudget
from .formats.assets import Assets
from .formats.json_array import elements_of
from .formats.known import PRODUCTS, format_of, unknown
from .import_report import ImportReport
from .limits import (
    LARGE_BYTES,
    MAX_CONVERSATION_BYTES,
    MAX_ELEMENTS,
    MAX_VALUES,
    TOO_MANY_CONVERSATIONS,
    ReadingEnded,
    UnreadableFile,
)
from .records import CONVERSATION, END, Fault, Pause, Record, Records
from .slots import LargeConversationSlot

PAUSES_FOR_OTHERS = 3  # after a large conversation
_HEAD_BYTES = 4096
_LABELS = "conversation_asset_file_names.json"
MAX_LABELS_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
# an object whose conversations are in one of its members, after others that are no containers
_LISTED = re.compile(
    rb'\s*+\{(?:\s*+"[^"\\]*+"\s*+:\s*+(?:"(?:[^"\\]++|\\.)*+"|[-+.\w]++)\s*+,)*+'
    rb'\s*+"(?:conversations|chats)"\s*+:\s*+(?=\[)',
    re.DOTALL,
)
_LISTS = ("conversations", "chats")


class ProductFiles:
    """The files of one export, in their order."""

    def __init__(
        self,
        files: Iterable[Read],
        *,
        budget: ImportBudget,
        report: ImportReport,
        assets: Callable[[], Assets] = Assets,
    ) -> None:
        """`assets` gives what the conversations may name."""
        self._files, self._budget, self._report = files, budget, report
        self._open_assets = assets
        self._number = 0  # of the last conversation

    def records(self) -> Records:
        """The records of all conversations. Raises UnreadableFile where there is none."""
        self._assets = self._open_assets()
        has_any, first_fault = False, ""
        problem: UnreadableFile | None = None
        for read in self._files:
            try:
                for record in self._records_of_file(read):
                    yield record
                    if isinstance(record, Fault):
                        first_fault = first_fault or f" The first element: {record.detail}"
                    elif isinstance(record, Record):
                        has_any = True
            except UnreadableFile as error:  # this file, or what is left of it
                problem = problem or error
                yield Fault(self._number + 1, error.detail, END)
        if not has_any and (problem or self._number):
            detail = f"There is no conversation of {PRODUCTS} in it.{first_fault}"
            raise problem or UnreadableFile(detail)

    def _records_of_file(self, read: Read) -> Records:
        """The records of one file.

        Of large conversations one is in memory at a time, in all processes: parsed it takes several times its size.
        """
        slot = LargeConversationSlot(current_app.config["DATA_DIR"])
        read, has_tail = _as_array(read)
        elements = elements_of(
            read,
            max_bytes=MAX_CONVERSATION_BYTES,
            check=self._budget.check_time,
            large_bytes=LARGE_BYTES,
            may_grow=slot.try_take,
            has_tail=has_tail,
        )
        try:
            for element in elements:
                if isinstance(element, Pause):
                    yield element
                    continue
                records = self._read_element(element)
                del element  # storing takes much longer than parsing
                yield from records
                del records
                if slot.is_held:
                    slot.release()
                    # others look once in a pause; taken again at once, it were held for the whole file
                    yield from [Pause()] * PAUSES_FOR_OTHERS
        finally:
            slot.release()

    def _read_element(self, element: bytes | None) -> Iterator[Record | Fault]:
        """The records of an element, which is parsed at once, and not kept."""
        if element is None:
            return self._fault(f"It is larger than {MAX_CONVERSATION_BYTES} bytes.")
        if has_more_values(element, MAX_VALUES):
            return self._fault(f"It has more than {MAX_VALUES} values.")
        try:
            source = _parsed(element)
        except ValueError as error:
            return self._fault(f"It is not JSON: {error}.")
        return self._read_source(source)

    def _fault(self, detail: str) -> Iterator[Fault]:
        return iter([Fault(self._next_number(), detail, CONVERSATION)])

    def _read_source(self, source: Any) -> Iterator[Record | Fault]:
        found = format_of(source)
        if found is not None:
            self._report.format = found.name if self._report.format is None else self._report.format
            return found.read(source, self._next_number(), self._assets)
        listed = _listed(source)
        return self._read_listed(listed) if listed else iter([unknown(self._next_number())])

    def _read_listed(self, sources: list[Any]) -> Iterator[Record | Fault]:
        """The records of conversations in an element that was parsed as a whole; none of them has a list itself."""
        for source in sources:
            found = format_of(source)
            number = self._next_number()
            if found is None:
                yield unknown(number)
                continue
            self._report.format = found.name if self._report.format is None else self._report.format
            yield from found.read(source, number, self._assets)

    def _next_number(self) -> int:
        self._number += 1
        if self._number > MAX_ELEMENTS:
            detail = f"There are more than {MAX_ELEMENTS} conversations; split the file."
            raise ReadingEnded(TOO_MANY_CONVERSATIONS, detail)
        self._budget.check_time()
        return self._number


def assets_of(archive: Archive) -> Assets:
    """The files of an archive, with the names that ChatGPT says they have."""
    labels: dict[str, str] = {}
    for name in archive.names:
        if name.rpartition("/")[2] == _LABELS:
            with suppress(UnreadableFile, ValueError):
                labels |= _labels(archive.open(name))
    return Assets(archive.names, labels)


def _labels(read: Read) -> dict[str, str]:
    content = b""
    while chunk := read(MAX_LABELS_BYTES + 1 - len(content)):
        content += chunk
    if len(content) > MAX_LABELS_BYTES or has_more_values(content, MAX_VALUES):
        return {}
    labels = _parsed(content)
    return {
        name: label
        for name, label in (labels.items() if isinstance(labels, dict) else ())
        if isinstance(label, str)
    }


def _listed(source: Any) -> list[Any]:
    """The conversations that an object has in a member."""
    if not isinstance(source, dict):
        return []
    return next((source[name] for name in _LISTS if isinstance(source.get(name), list)), [])


def _as_array(read: Read) -> tuple[Read, bool]:
    """The file as an array of conversations, and whether something may follow that array.

    A conversation alone becomes the only element of one.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := read(_HEAD_BYTES - len(head))):
        head += chunk
    head = head.removeprefix(_BOM)
    if not head.lstrip().startswith(b"{"):
        return _chained([head], read), False
    if match := _LISTED.match(head):
        return _chained([head[match.end() :]], read), True
    return _chained([b"[", head], read, b"]"), False


def _chained(begin: list[bytes], read: Read, end: bytes = b"") -> Read:
    """A function that reads what is at the beginning, then the rest of the file, then the end."""
    parts = [part for part in begin if part]
    ends = [end] if end else []

    def read_next(size: int) -> bytes:
        if parts:
            return parts.pop(0)
        return read(size) or (ends.pop() if ends else b"")

    return read_next


def _parsed(element: bytes) -> Any:
    """The value of JSON. Halves of surrogate pairs are only taken by the standard library's parser."""
    try:
        return orjson.loads(element)
    except orjson.JSONDecodeError:
        try:
            return json.loads(element)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
