"""The files of messages of which nothing is stored, as they are sent: as they are, or the text of a text."""

from collections.abc import Callable, Iterator, Sequence

from ..attachments.references import FoundFile, LinkedFile
from ..documents.encodings import decoded
from ..documents.errors import Unextractable
from ..documents.extraction import HTML, TEXT, kind_of
from ..errors import AttachmentRefused
from ..files.contents import StoredContent
from ..files.store import name_of
from ..llm.abilities import AUDIO_TYPES
from ..llm.parts import AUDIO, FILE, IMAGE, Content, DocumentPart, FilePart, Kind, LinkPart, Part, TextPart
from .draft_files import DraftPart, InlineFile, NamedFile
from .file_parts import PDF_TYPE, SVG, AskTakes
from .omissions import DAMAGED, MODEL, REASONS, TYPE


class InlineContent:
    """The bytes of a file that is in the request."""

    def __init__(self, file: InlineFile) -> None:
        self.size_bytes, self.sha256 = file.size_bytes, file.sha256
        self._read = file.read

    def blocks(self) -> Iterator[bytes]:
        """Them, in one piece."""
        yield self._read()


def unstored_parts(parts: Sequence[DraftPart], *, user_id: str, takes: AskTakes) -> tuple[Part, ...]:
    """What is sent of a content with files. Raises AttachmentRefused."""
    return tuple(_part(part, user_id, takes) for part in parts)


def _part(part: DraftPart, user_id: str, takes: AskTakes) -> Part:
    if isinstance(part, str):
        return TextPart(part)
    if isinstance(part, LinkedFile):
        _require(takes().images, part.url, part.file_type, MODEL)
        return LinkPart(part.file_type, part.url)
    if isinstance(part, NamedFile):
        raise TypeError("The file is not found yet.")
    if isinstance(part, InlineFile):
        content: Content = InlineContent(part)
        read: Callable[[], bytes] = part.read
    else:
        stored = StoredContent(name_of(user_id, part.file_id), size_bytes=part.size_bytes, sha256=part.sha256)
        content, read = stored, lambda: b"".join(stored.blocks())
    return _file(part, content, read, takes)


def _file(file: InlineFile | FoundFile, content: Content, read: Callable[[], bytes], takes: AskTakes) -> Part:
    file_type = file.file_type
    if file_type == SVG or kind_of(file_type) in (TEXT, HTML):
        try:
            return DocumentPart(file.file_name, file_type, decoded(read()).replace("\x00", "\ufffd"))
        except Unextractable:
            raise _refusal(file.file_name, file_type, DAMAGED) from None
    kind: Kind
    if file_type.startswith("image/"):
        kind, is_taken = IMAGE, takes().images
    elif file_type == PDF_TYPE:
        kind, is_taken = FILE, takes().pdfs
    elif file_type in AUDIO_TYPES:
        kind, is_taken = AUDIO, takes().audio
    else:
        raise _refusal(file.file_name, file_type, TYPE)
    _require(is_taken, file.file_name, file_type, MODEL)
    return FilePart(kind, file_type, file.file_name, content)


def _require(is_taken: bool, file_name: str, file_type: str, reason: str) -> None:
    if not is_taken:
        raise _refusal(file_name, file_type, reason)


def _refusal(file_name: str, file_type: str, reason: str) -> AttachmentRefused:
    detail = f'The file "{file_name}" ({file_type}) can\'t be sent: {REASONS[reason]}'
    return AttachmentRefused(detail, attachment_id="", reason=reason)
