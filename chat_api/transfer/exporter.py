"""An export: all that a user owns as lines of JSON (NDJSON), in constant memory."""

import math
from collections.abc import Iterator

import orjson

from ..completions.models import USAGE_DETAILS
from ..database.columns import now
from ..messages.models import MESSAGE_OF_CLIENT as MESSAGE_COLUMNS
from ..web.pagination import FIRST_ID
from ..web.responses import ORJSON_OPTIONS
from .export_queries import (
    ATTACHMENTS,
    COMPLETIONS,
    CONFIGS,
    CONVERSATIONS,
    MESSAGES,
    PROVIDERS,
    Row,
    find_account,
)
from .records import ACCOUNT, ATTACHMENT, COMPLETION, CONFIG, CONVERSATION, END, HEADER, MESSAGE, PROVIDER
from .schemas import COMPUTED, LINES, VERSION, member_of

CHUNK_BYTES = 64 * 1024
JSON_DETAILS = ("extra_body", "request_options")
DETAILS = ("slug", "catalog", "auth", *JSON_DETAILS)  # of a provider
_LINE = ORJSON_OPTIONS | orjson.OPT_APPEND_NEWLINE

NamedContents = set[bytes]
"""The hashes of contents that lines name."""


def write_export(user_id: str, named: NamedContents | None = None) -> Iterator[bytes]:
    """The export in chunks of whole lines.

    What is stored during the export may be in it or not; but each conversation is whole: a message comes after its
    parent, and its attachments and completions come right after it. With `named` the lines say where in a zip the
    contents of attachments are, and their hashes are added to it. Raises NotFound for a user that is gone, Unavailable
    where the database is away.
    """
    chunk: list[bytes] = []
    size_bytes = 0
    for line in _lines(user_id, named):
        chunk.append(line)
        size_bytes += len(line)
        if size_bytes >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size_bytes = [], 0
    yield b"".join(chunk)


def _lines(user_id: str, named: NamedContents | None) -> Iterator[bytes]:
    account = find_account(user_id=user_id)
    yield _line(HEADER, {"version": VERSION, "exported_at": now()})
    yield _line(ACCOUNT, account)
    for provider in PROVIDERS.read_all(user_id=user_id):
        yield _line(PROVIDER, _without_nothing(provider))
    for config in CONFIGS.read_all(user_id=user_id):
        yield _line(CONFIG, config)
    counts = {CONVERSATION: 0, MESSAGE: 0}
    pending = _messages_with_dependents(user_id, named)
    message = next(pending, None)
    for conversation in CONVERSATIONS.read_all(user_id=user_id):
        conversation_id = conversation["id"]
        counts[CONVERSATION] += 1
        yield _conversation_line(conversation)
        while message is not None and message[0] <= conversation_id:
            # those of conversations that were not there yet when the page of conversations was read are left out
            if message[0] == conversation_id:
                counts[MESSAGE] += 1
                yield from message[1]
            message = next(pending, None)
    yield _line(END, {"conversations": counts[CONVERSATION], "messages": counts[MESSAGE]})


def _without_nothing(provider: Row) -> Row:
    """A provider's fields without those details that it does not have; of the others JSON is JSON in the line, too."""
    details = {name: provider[name] for name in DETAILS if provider[name] is not None}
    parsed = {name: orjson.Fragment(details[name]) for name in JSON_DETAILS if name in details}
    return {name: value for name, value in provider.items() if name not in DETAILS} | details | parsed


def _messages_with_dependents(
    user_id: str, named: NamedContents | None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Of each message the conversation's id, and its line with those of its attachments and completions.

    Its lines have to be read, or skipped, before the next message is.
    """
    last: Row | None = None
    more = True
    while more:
        page, more = MESSAGES.read_page(user_id=user_id, **MESSAGES.after(last))
        if not page:
            return
        attachments, completions = _dependents(user_id, page, more=more)
        for message in page:
            yield message["conversation_id"], _lines_of(message, attachments, completions, named)
        last = page[-1]


class _Dependents:
    """Attachments or completions in the order of their messages, to be read message by message."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, message: Row) -> Iterator[Row]:
        """Those of a message. Unread ones of earlier messages are dropped."""
        key = message["conversation_id"], message["position"]
        while (row := self._next) is not None and (row["conversation_id"], row["position"]) <= key:
            self._next = next(self._rows, None)
            if (row["conversation_id"], row["position"]) == key:
                yield row


def _dependents(user_id: str, page: list[Row], *, more: bool) -> tuple[_Dependents, _Dependents]:
    """The attachments and the completions of a page of messages, and whether it is followed by another."""
    first, last = page[0], page[-1]
    within = {
        "user_id": user_id,
        "up_to_conversation": last["conversation_id"],
        "up_to_position": last["position"],
    }
    attachments: Iterator[Row] = iter(())
    if any(message["attachment_count"] for message in page):
        attachments = ATTACHMENTS.read_all({**first, "number": 0}, **within)
    ends = {message["conversation_id"]: message["position"] for message in page}
    if more:  # that conversation goes on: whatever reply is there now will be in a page to come
        del ends[last["conversation_id"]]
    completions = (
        completion
        for completion in COMPLETIONS.read_all({**first, "id": FIRST_ID}, **within)
        # not one whose reply came after the page was read: it would be without its message
        if (completion["reply_position"] or 0) <= ends.get(completion["conversation_id"], math.inf)
    )
    return _Dependents(attachments), _Dependents(completions)


# -- lines ---------------------------------------------------------------------------------------------------


def _line(kind: str, fields: Row) -> bytes:
    return orjson.dumps({"type": kind, **fields}, option=_LINE)


def _conversation_line(conversation: Row) -> bytes:
    flags = {name: bool(conversation[name]) for name in ("archived", "pinned")}  # SQLite has 0 and 1
    others = {**conversation}
    metadata, external_id = others.pop("metadata"), others.pop("external_id")
    optional = ({"metadata": orjson.Fragment(metadata)} if metadata else {}) | (
        {"external_id": external_id} if external_id else {}
    )
    return _line(CONVERSATION, others | flags | optional)


def _lines_of(
    message: Row, attachments: _Dependents, completions: _Dependents, named: NamedContents | None
) -> Iterator[bytes]:
    """The line of a message, and those of its attachments and completions."""
    yield _line(MESSAGE, _message_to_json(message))
    for attachment in attachments.of(message):
        yield _line(ATTACHMENT, _attachment_to_json(attachment, named))
    for completion in completions.of(message):
        yield _line(COMPLETION, _completion_to_json(completion))


def _message_to_json(row: Row) -> Row:
    """A message as clients get it, and what goes back to the provider that wrote it."""
    state = row["provider_state"]
    return {**MESSAGE_COLUMNS.of(row), **({"provider_state": orjson.loads(state)} if state else {})}


def _fields_of(kind: str, row: Row) -> Row:
    """The fields of a line that are columns."""
    return {name: row[name] for name in LINES[kind].fields if name not in COMPUTED}


def _attachment_to_json(row: Row, named: NamedContents | None) -> Row:
    """An attachment; with its content where it has one, and with `named` where in the zip that is."""
    fields = {name: value for name, value in _fields_of(ATTACHMENT, row).items() if value is not None}
    if named is not None and "sha256" in fields:
        named.add(bytes.fromhex(fields["sha256"]))
        fields["path"] = member_of(fields["sha256"])
    return fields


def _completion_to_json(row: Row) -> Row:
    """A completion with all that is needed to replay its stream."""
    usage = {
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        **{name: row[name] for name in USAGE_DETAILS if row[name] is not None},
        "estimated": bool(row["usage_estimated"]),
    }
    parsed = {
        name: orjson.loads(row[name]) if row[name] else None
        for name in ("problem", "warnings", "outline", "omitted_attachments")
    }
    return {**_fields_of(COMPLETION, row), **parsed, "usage": usage}
