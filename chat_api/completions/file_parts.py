"""One attachment as a part of a message to a provider, or why it can't be one."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..attachments.sendable import Sendable
from ..documents.encodings import decoded
from ..documents.errors import Unextractable
from ..documents.extraction import HTML, TEXT, ZIPS, kind_of
from ..files.contents import StoredContent, opened
from ..files.store import storage, storage_needed
from ..files.texts import DONE, MISSING, NONE, read_text
from ..llm.abilities import AUDIO_TYPES, Takes
from ..llm.parts import AUDIO, FILE, DocumentPart, FilePart, Kind, LinkPart, Part
from ..storage import NotStored
from .omissions import DAMAGED, LOST, MODEL, NO_CONTENT, NO_TEXT, TOO_LARGE, TYPE, Unsendable
from .preparing import Preparation
from .recent import Recent
from .sent_images import MAX_TOKENS as MAX_IMAGE_TOKENS
from .sent_images import sent_image
from .token_estimates import tokens_of

SVG = "image/svg+xml"
PDF_TYPE = "application/pdf"
SEEN_S = 600.0  # a file of a storage that is asked over the network is taken to be there for so long
# estimates, at the rates of the large providers
PDF_BYTES_PER_TOKEN, MIN_PDF_TOKENS, MAX_PDF_TOKENS = 32, 1500, 32_000
AUDIO_BYTES_PER_TOKEN = {"audio/wav": 1000, "audio/mpeg": 400}
CUT = "\n[The document goes on; the rest of its text is not here.]"
AskTakes = Callable[[], Takes]

_seen: Recent[str, float] = Recent(most=10_000)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of files one completion may have."""

    max_bytes: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class FileToSend:
    """A part, and what it takes."""

    part: Part
    size_bytes: int
    tokens: int


def file_to_send(
    attachment: Sendable, *, user_id: str, takes: AskTakes, limits: Limits, preparation: Preparation
) -> FileToSend:
    """The attachment as a part; what the provider takes is asked where it matters. Outside a transaction.

    Raises Unsendable, Unavailable where the storage can't be read at the moment, and what a `step` raises.
    """
    if attachment.is_link:
        return _link(attachment, takes)
    if attachment.name is None:
        raise Unsendable(NO_CONTENT)
    try:
        with storage_needed():
            _require_stored(attachment.name, attachment.size_bytes)
            found = _file(attachment, attachment.name, user_id, takes, limits, preparation)
    except NotStored:
        raise Unsendable(LOST) from None
    if found.size_bytes > limits.max_bytes or found.tokens > limits.max_tokens:
        raise Unsendable(TOO_LARGE)
    return found


def _require_stored(name: str, size_bytes: int) -> None:
    """Raise NotStored where the bytes are not there, or not all of them."""
    is_local = storage().local_path(name) is not None
    seen_s = _seen.get(name)
    if not is_local and seen_s is not None and time.monotonic() < seen_s + SEEN_S:
        return
    if storage().size_of(name) != size_bytes:
        raise NotStored(name)
    if not is_local:
        _seen.put(name, time.monotonic())


def forget_what_was_seen() -> None:
    """Look again whether files are there, as one was not."""
    _seen.clear()


def _file(
    attachment: Sendable, name: str, user_id: str, takes: AskTakes, limits: Limits, preparation: Preparation
) -> FileToSend:
    file_type = attachment.file_type.partition(";")[0].strip().lower()
    if file_type == PDF_TYPE and takes().pdfs:
        tokens = min(MAX_PDF_TOKENS, max(MIN_PDF_TOKENS, attachment.size_bytes // PDF_BYTES_PER_TOKEN))
        return _as_it_is(FILE, attachment, name, tokens)
    if file_type.startswith("audio/"):
        return _recording(attachment, name, takes)
    if file_type.startswith("image/") and file_type != SVG:
        if not takes().images:
            raise Unsendable(MODEL)
        image = sent_image(attachment, name, takes().image_limits, preparation)
        return FileToSend(image.part, image.size_bytes, image.tokens)
    kind = kind_of(file_type)
    if file_type == SVG or kind in (TEXT, HTML):
        text = _source(attachment, name, limits)
    elif kind is not None:
        text = _document(user_id, name, file_type, preparation)
    else:
        raise Unsendable(TYPE)
    part = DocumentPart(attachment.file_name, file_type, text)
    return FileToSend(part, len(text.encode()), tokens_of(part.as_text()))


def _link(attachment: Sendable, takes: AskTakes) -> FileToSend:
    if not takes().images:
        raise Unsendable(MODEL)
    part = LinkPart(attachment.file_type, attachment.file_name)
    return FileToSend(part, 0, MAX_IMAGE_TOKENS)


def _as_it_is(kind: Kind, attachment: Sendable, name: str, tokens: int) -> FileToSend:
    content = StoredContent(name, size_bytes=attachment.size_bytes, sha256=attachment.sha256)
    part = FilePart(kind, attachment.file_type, attachment.file_name, content)
    return FileToSend(part, attachment.size_bytes, tokens)


def _recording(attachment: Sendable, name: str, takes: AskTakes) -> FileToSend:
    if attachment.file_type not in AUDIO_TYPES:
        raise Unsendable(TYPE)
    if not takes().audio:
        raise Unsendable(MODEL)
    tokens = attachment.size_bytes // AUDIO_BYTES_PER_TOKEN[attachment.file_type] + 1
    return _as_it_is(AUDIO, attachment, name, tokens)


def _source(attachment: Sendable, name: str, limits: Limits) -> str:
    """A file that is text, as it is: also of markup its source. Raises Unsendable."""
    if attachment.size_bytes > limits.max_bytes:
        raise Unsendable(TOO_LARGE)
    with opened(name) as file:
        content = file.read(limits.max_bytes)
    try:
        return decoded(content).replace("\x00", "\ufffd")
    except Unextractable:
        raise Unsendable(DAMAGED) from None


def _document(user_id: str, name: str, file_type: str, preparation: Preparation) -> str:
    """What a document says. Raises Unsendable."""
    file_id = name.rpartition("/")[2]
    found = read_text(user_id=user_id, file_id=file_id)
    if found is not None and found.state is None:
        with preparation.step():
            found = read_text(user_id=user_id, file_id=file_id, extract_now=True)
    if found is None or (found.state or "").endswith(MISSING):
        raise Unsendable(LOST)
    if found.state == NONE:
        raise Unsendable(TYPE if file_type in ZIPS else NO_TEXT)
    if found.state != DONE:
        raise Unsendable(DAMAGED)
    return found.text if not found.is_cut else found.text + CUT
