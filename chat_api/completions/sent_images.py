"""Images of attachments as a provider takes them, byte for byte where it does.

What was found out about an image, and what was made of it, is kept for a while: each later completion of the
conversation sends it again, and the same bytes are what a provider's cache of prompts needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..attachments.sendable import Sendable
from ..documents.image_headers import ImageHeader, read_header
from ..documents.images import (
    READABLE,
    UNKNOWN,
    ChangedImage,
    ImageLimits,
    UnusableImage,
    fits,
    sent_size,
    shrink,
)
from ..documents.images import TOO_LARGE as IMAGE_TOO_LARGE
from ..files.contents import StoredContent, opened
from ..llm.parts import IMAGE, FilePart
from .omissions import DAMAGED, TOO_LARGE, TYPE, Unsendable
from .preparing import Preparation
from .recent import Recent

MAX_HEADERS = 10_000  # that a process remembers
MAX_CHANGED = 100  # files without a name that it keeps
MAX_CHANGED_BYTES = 128 * 1024 * 1024  # of them together
PIXELS_PER_TOKEN = 750
MAX_TOKENS = 1600  # of an image: providers scale larger ones down

_REASONS = {IMAGE_TOO_LARGE: TOO_LARGE, UNKNOWN: TYPE}


class _RecentChanges(Recent[tuple[str, ImageLimits], ChangedImage | UnusableImage]):
    def _is_over(self, values: Iterable[ChangedImage | UnusableImage]) -> bool:
        return sum(each.size_bytes for each in values if isinstance(each, ChangedImage)) > MAX_CHANGED_BYTES


# by the name in the storage, which is of one user and one content
_headers: Recent[str, tuple[ImageHeader | None]] = Recent(most=MAX_HEADERS)
_changes = _RecentChanges(most=MAX_CHANGED)


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image that can be sent."""

    part: FilePart
    size_bytes: int
    tokens: int


def sent_image(attachment: Sendable, name: str, limits: ImageLimits, preparation: Preparation) -> SentImage:
    """The image with this name in the storage. Raises Unsendable, NotStored, OSError, and what a `step` raises."""
    if attachment.file_type not in READABLE:
        raise Unsendable(TYPE)
    try:
        header = _header_of(name)
        if header is not None and fits(header, attachment.size_bytes, header.media_type, limits):
            content = StoredContent(name, size_bytes=attachment.size_bytes, sha256=attachment.sha256)
            part = FilePart(IMAGE, header.media_type, attachment.file_name, content)
            return SentImage(part, attachment.size_bytes, _tokens(sent_size(header.shown_size, limits)))
        changed = _changed(name, limits, preparation)
    except UnusableImage as error:
        raise Unsendable(_REASONS.get(error.code, DAMAGED)) from None
    part = FilePart(IMAGE, changed.media_type, attachment.file_name, changed)
    return SentImage(part, changed.size_bytes, _tokens(changed.size))


def _header_of(name: str) -> ImageHeader | None:
    found = _headers.get(name)
    if found is None:
        with opened(name) as file:
            found = (read_header(file),)
        _headers.put(name, found)
    return found[0]


def _changed(name: str, limits: ImageLimits, preparation: Preparation) -> ChangedImage:
    made = _changes.get((name, limits))
    if made is None:
        with opened(name) as file, preparation.step():
            try:
                made = shrink(file, limits)
            except UnusableImage as error:
                made = UnusableImage(error.code)  # without the traceback
        _changes.put((name, limits), made)
    if isinstance(made, UnusableImage):
        raise made
    return made


def _tokens(size: tuple[int, int]) -> int:
    """How many tokens an image has, estimated as the large providers count them."""
    return min(MAX_TOKENS, max(1, size[0] * size[1] // PIXELS_PER_TOKEN))
