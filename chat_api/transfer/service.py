"""Exporting all that a user owns, and importing such a file or one of ChatGPT's."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import orjson
import sqlalchemy as sa
from flask import current_app

from ..conversations.models import IS_VISIBLE, Conversation
from ..database.bulk import with_rests
from ..database.parameters import USER_ID
from ..database.statements import Statement
from ..errors import Unavailable
from ..server import lifecycle
from ..web.json_values import has_more_values
from .budget import ImportBudget
from .exporter import write_export
from .formats.chatgpt import read_conversation
from .formats.chatgpt_zip import read_members
from .formats.json_array import elements_of
from .formats.ndjson import read_export
from .import_report import ImportReport
from .importer import Importer
from .limits import (
    LARGE_BYTES,
    MAX_CONVERSATION_BYTES,
    MAX_ELEMENTS,
    MAX_VALUES,
    TOO_MANY_CONVERSATIONS,
    ReadingEnded,
    UnreadableFile,
    longest_line,
)
from .records import CONVERSATION, END, Fault, Pause, Record, Records
from .slots import LargeConversationSlot

OURS, CHATGPT = "chat-api", "chatgpt"
PAUSES_FOR_OTHERS = 3  # after a large conversation
_HEAD_BYTES = 4096
_BOM, _GZIP = b"\xef\xbb\xbf", b"\x1f\x8b"

export_all = write_export
_COUNT = Statement(
    sa.select(sa.func.sum(Conversation.message_count)).where(Conversation.user_id == USER_ID, IS_VISIBLE)
)


def count_messages(*, user_id: str) -> int:
    """How many messages an export will have."""
    row = _COUNT.first(user_id=user_id)
    return int(row[0] or 0) if row else 0


def import_file(*, user_id: str, file: IO[bytes]) -> tuple[ImportReport, Iterator[None]]:
    """Begin to import a file of any format. The steps do the rest, each to be committed by the caller.

    Raises UnreadableFile, also by the first step, for what is no export at all.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    budget = ImportBudget(size_bytes)
    file_format, records = _records(file, size_bytes, budget)
    report = ImportReport(file_format)
    records = budget.spend_on(records, report, whole=file_format == CHATGPT)
    return report, _until_shutdown(Importer(user_id=user_id, report=report).restore(records))


def _until_shutdown(steps: Iterator[None]) -> Iterator[None]:
    """The steps, with rests where there is one writer, and with an early end where the server is shutting down."""
    for step in with_rests(steps):
        yield step
        if lifecycle.is_shutting_down():
            raise Unavailable(
                "The server is shutting down. Import the file again: what has been stored stays."
            )


def _records(file: IO[bytes], size_bytes: int, budget: ImportBudget) -> tuple[str, Records]:
    """The format of a file, judged by its content, and its records. Raises UnreadableFile."""
    head = file.read(_HEAD_BYTES)
    limit: int = current_app.config["MAX_IMPORT_BYTES"]
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    begin = head.removeprefix(_BOM).lstrip()[:1]
    if head.startswith(b"PK"):
        members = read_members(file, size_bytes=size_bytes, max_bytes=limit)
        return CHATGPT, _chatgpt_records(members, budget)
    if begin == b"[":
        return CHATGPT, _chatgpt_records([file.read], budget)
    if begin == b"{":
        longest = longest_line(current_app.config["MAX_REPLY_BYTES"])
        return OURS, read_export(file, max_line_bytes=longest, check=budget.check_time)
    if head.startswith(_GZIP):
        raise UnreadableFile("It is a gzip file: unpack it, and send what is in it.")
    raise UnreadableFile(
        "It is neither an export of this service nor one of ChatGPT (conversations.json, or the zip)."
    )


def _chatgpt_records(files: Iterable[Callable[[int], bytes]], budget: ImportBudget) -> Records:
    """The records of all files of a ChatGPT export. Raises UnreadableFile where there is no conversation in them."""
    number, has_any, first_fault = 0, False, ""
    problem: UnreadableFile | None = None
    for read in files:
        try:
            for record in _records_of_file(read, number, budget):
                yield record
                if isinstance(record, Pause):
                    continue
                number = record.number
                if isinstance(record, Fault):
                    first_fault = first_fault or f" The first element: {record.detail}"
                else:
                    has_any = True
        except UnreadableFile as error:  # this file, or what is left of it
            problem = problem or error
            yield Fault(number + 1, error.detail, END)
    if not has_any and (problem or number):
        raise problem or UnreadableFile(f"There is no conversation of ChatGPT in it.{first_fault}")


def _records_of_file(read: Callable[[int], bytes], number: int, budget: ImportBudget) -> Records:
    """The records of one file, whose first element has the number after this one.

    Of large conversations one is in memory at a time, in all processes: parsed it takes several times its size.
    """
    slot = LargeConversationSlot(current_app.config["DATA_DIR"])
    elements = elements_of(
        read,
        max_bytes=MAX_CONVERSATION_BYTES,
        check=budget.check_time,
        large_bytes=LARGE_BYTES,
        may_grow=slot.try_take,
    )
    try:
        for element in elements:
            if isinstance(element, Pause):
                yield element
                continue
            number += 1
            if number > MAX_ELEMENTS:
                detail = f"There are more than {MAX_ELEMENTS} conversations; split the file."
                raise ReadingEnded(TOO_MANY_CONVERSATIONS, detail)
            budget.check_time()
            records = _read_element(element, number)
            del element  # storing takes much longer than parsing
            yield from records
            del records
            if slot.is_held:
                slot.release()
                # those who wait for it look once in a pause; who takes it again at once would have it for all its file
                yield from [Pause()] * PAUSES_FOR_OTHERS
    finally:
        slot.release()


def _read_element(element: bytes | None, number: int) -> Iterator[Record | Fault]:
    """The records of an element, which is parsed at once, and not kept."""
    if element is None:
        return iter([Fault(number, f"It is larger than {MAX_CONVERSATION_BYTES} bytes.", CONVERSATION)])
    if has_more_values(element, MAX_VALUES):
        return iter([Fault(number, f"It has more than {MAX_VALUES} values.", CONVERSATION)])
    try:
        source = _parsed(element)
    except ValueError as error:
        return iter([Fault(number, f"It is not JSON: {error}.", CONVERSATION)])
    return read_conversation(source, number)


def _parsed(element: bytes) -> Any:
    """The value of JSON. Halves of surrogate pairs are only taken by the standard library's parser."""
    try:
        return orjson.loads(element)
    except orjson.JSONDecodeError:
        try:
            return json.loads(element)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
