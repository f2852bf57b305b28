"""The parts of a message that is more than a text: texts and contents of files, in the order in which they are sent.

A file's bytes are never in a message: its content is opened and encoded while the request is written, see
`streamed_body`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["image", "file", "audio"]
IMAGE: Kind = "image"
FILE: Kind = "file"
AUDIO: Kind = "audio"
_FENCE = re.compile("`{3,}")


class Content(Protocol):
    """Bytes that can be read more than once, such as those of a stored file."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""

    @property
    def sha256(self) -> str:
        """Their hash, 64 hexadecimal digits."""

    def blocks(self) -> Iterator[bytes]:
        """Read them from the beginning. Raises OSError where they can't be read."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text between other parts."""

    text: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A picture, a document or a recording that the model is to look at."""

    kind: Kind
    media_type: str
    file_name: str
    content: Content


@dataclass(frozen=True, slots=True)
class LinkPart:
    """A picture at an address, which the provider fetches."""

    media_type: str
    url: str
    kind: Kind = IMAGE

    @property
    def file_name(self) -> str:
        """What it is called."""
        return self.url


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """The text of a file: a block of its own where the protocol has one, and else a text with the file's name."""

    file_name: str
    media_type: str
    text: str

    def as_text(self) -> str:
        """With its name and type before it, in a fence that the text itself does not have."""
        longest = max(map(len, _FENCE.findall(self.text)), default=2)
        fence = "`" * (longest + 1)
        end = "" if self.text.endswith("\n") else "\n"
        return f'File "{self.file_name}" ({self.media_type}):\n{fence}\n{self.text}{end}{fence}'


Part = TextPart | DocumentPart | FilePart | LinkPart
FILES = (FilePart, LinkPart)


@dataclass(frozen=True, slots=True)
class EncodedContent:
    """A string of a request's body: `prefix`, and after it the content in Base64."""

    content: Content
    prefix: str = ""

    @property
    def encoded_bytes(self) -> int:
        """The length of the Base64."""
        return -(-self.content.size_bytes // 3) * 4

    def description(self) -> str:
        """What a preview says instead of it."""
        return f"{self.prefix}<{self.content.size_bytes} bytes, SHA-256 {self.content.sha256}>"


NOT_TAKEN = "the model does not take files of this kind."


def note_of(file_name: str, media_type: str, why: str) -> TextPart:
    """What stands in place of a file that is not sent."""
    return TextPart(f'[The file "{file_name}" ({media_type}) is not here: {why}]')


def without_documents(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts with texts in place of documents."""
    return tuple(TextPart(part.as_text()) if isinstance(part, DocumentPart) else part for part in parts)


def with_notes(parts: Sequence[Part], kinds: Collection[Kind]) -> tuple[Part, ...]:
    """The parts with a note in place of each file of these kinds."""
    return tuple(
        note_of(part.file_name, part.media_type, NOT_TAKEN)
        if isinstance(part, FILES) and part.kind in kinds
        else part
        for part in parts
    )


def has_files(parts: Sequence[Part], kinds: Collection[Kind] = (IMAGE, FILE, AUDIO)) -> bool:
    """Whether there is a file of one of these kinds."""
    return any(isinstance(part, FILES) and part.kind in kinds for part in parts)


def data_url(part: FilePart) -> EncodedContent:
    """The part as a data URL."""
    return EncodedContent(part.content, f"data:{part.media_type};base64,")


def text_of(parts: Sequence[Part]) -> str:
    """The texts of parts, as a message without parts has them."""
    texts = (
        part.as_text() if isinstance(part, DocumentPart) else part.text
        for part in parts
        if not isinstance(part, FILES)
    )
    return "\n\n".join(text for text in texts if text)


def joined_parts(messages: Sequence[tuple[str, tuple[Part, ...]]]) -> tuple[Part, ...]:
    """The parts of several messages, each with its text and its parts, in one; none where they are only texts."""
    if not any(parts for _, parts in messages):
        return ()
    return tuple(part for text, parts in messages for part in (parts or ((TextPart(text),) if text else ())))
