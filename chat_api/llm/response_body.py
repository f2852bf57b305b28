"""The body of a provider's response with status 200: a stream, JSON, or something that is no reply.

The first bytes decide which. The Content-Type is often wrong: gateways send streams as text/plain or JSON, and errors
as a stream.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from ..egress.errors import Failed
from ..egress.limits import Limits
from .base64_content import LongRuns
from .error_responses import error_of_report
from .events import Event
from .redaction import Secrets
from .sse import Frame, SseReader
from .untrusted_json import parse_whole

if TYPE_CHECKING:
    from ..egress.response import Response

STREAM, JSON, MARKUP, TEXT = "stream", "json", "markup", "text"
MAX_TEXT_BYTES = 65536  # of a text that is no reply: an error message of a proxy, for instance
# JSON may escape a character of one byte in UTF-8 as six
JSON_BYTES_PER_REPLY_BYTE = 6

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data", b"event", b"id", b"retry", b"error")
_NAME_END = re.compile(rb"[:\r\n]")
_LONGEST_NAME = 16
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}")


def events_of_body(
    protocol: Any,
    response: "Response",
    *,
    secrets: Secrets,
    limits: Limits,
    pace_s: Callable[[], float],
    open_file: Callable[[], IO[bytes]],
) -> Iterator[list[Event]]:
    """The events of a reply, as a `protocol` (such as the package `openai`) reads them. Raises EgressError.

    `open_file` makes a temporary file, for a long file in the reply; it may raise OSError.
    """
    if str(response.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
        raise Failed("The provider's response is compressed although that was not requested.")
    head, kind = _read_head(response)
    most_bytes = limits.reply_bytes * JSON_BYTES_PER_REPLY_BYTE
    runs = LongRuns(open_file=open_file, reply_bytes=limits.reply_bytes, file_bytes=limits.file_bytes)
    parsed = {"secrets": secrets, "reply_bytes": limits.reply_bytes, "runs": runs}
    try:
        if kind == STREAM:
            frames = _frames(head, response, runs, max(limits.line_bytes, most_bytes), pace_s)
            yield from protocol.parse_stream(frames, **parsed)
        elif kind == JSON:
            content = _read_whole(head, response, runs, most_bytes)
            answer = parse_whole(content)
            if answer is None and (lines := _json_lines(content)):
                yield from protocol.parse_stream([lines], **parsed)
            else:
                yield protocol.parse_json_reply(answer, **parsed)
        elif kind == MARKUP:
            raise Failed(
                "The provider answered with a web page (HTML) instead of a reply. Check the provider's `api_endpoint`."
            )
        else:
            raise _error_of_text(head + response.read_all(MAX_TEXT_BYTES), response, secrets)
    finally:
        runs.close()


def kind_of(head: bytes, *, is_whole: bool) -> str | None:
    """What a body is that begins with these bytes, without white space before them. None: more of it is needed."""
    if not head or (len(head) < len(_BOM) and _BOM.startswith(head)):
        return STREAM if is_whole else None
    if head[:1] in b"{[":
        return JSON
    if head[:1] == b"<":
        return MARKUP
    end = _NAME_END.search(head, 0, _LONGEST_NAME)
    if end is None and len(head) < _LONGEST_NAME and not is_whole:
        return None
    name = head[: end.start() if end else _LONGEST_NAME]
    return STREAM if not name or name in _FIELDS else TEXT  # without a name it is a comment


def _read_head(response: "Response") -> tuple[bytes, str]:
    """The beginning of the body, and what it is. White space before it is dropped: some servers keep alive with it."""
    head = b""
    while (kind := kind_of(head, is_whole=False)) is None:
        received = response.read()
        head = (head + received).lstrip().removeprefix(_BOM).lstrip()
        if not received:
            return head, kind_of(head, is_whole=True) or TEXT
    return head, kind


def _frames(
    head: bytes, response: "Response", runs: LongRuns, line_bytes: int, pace_s: Callable[[], float]
) -> Iterator[list[Frame]]:
    """The frames that each read completed."""
    reader = SseReader(line_bytes)
    for received in chain([head], iter(lambda: response.read(pace_s=pace_s()), b"")):
        frames = reader.feed(runs.feed(received))
        reader.file_bytes = runs.inline_bytes
        if frames:
            yield frames
    if frames := reader.feed(runs.rest()) + reader.close():
        yield frames


def _read_whole(head: bytes, response: "Response", runs: LongRuns, max_bytes: int) -> bytes:
    """The whole body, at most so much of it beside its files."""
    parts = [runs.feed(head)]
    size = len(parts[0])
    while size < max_bytes + runs.inline_bytes and (received := response.read()):
        parts.append(runs.feed(received))
        size += len(parts[-1])
    return b"".join([*parts, runs.rest()])[: max_bytes + runs.inline_bytes]


def _json_lines(content: bytes) -> list[Frame]:
    """The chunks of a stream without the framing of server-sent events: one JSON object in each line."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if len(lines) < 2 or any(line[:1] not in b"{[" for line in lines):
        return []
    return [Frame("", line.decode(errors="replace")) for line in lines]


def _error_of_text(content: bytes, response: "Response", secrets: Secrets) -> Exception:
    """The error for a body that is neither JSON nor a stream: its words, if it has some."""
    text = content.decode(errors="replace")
    if "\x00" not in text and "\ufffd" not in text:
        return error_of_report(text, secrets)
    media_type = str(response.headers.get("Content-Type") or "").split(";")[0].strip().lower()
    name = media_type if _MEDIA_TYPE.fullmatch(media_type) else "another type of content"
    return Failed(f"The provider answered with {name} instead of a reply.")
