"""What the beginning of an image's file says about it, read without a decoder: its size, and whether it is unusual.

A few lines for each of the four formats that all providers take. So most images are sent without Pillow, which costs
memory and runs code in C over bytes of strangers; those that have to be changed go to `images`.
"""

import struct
from dataclasses import dataclass
from typing import IO

JPEG, PNG, GIF, WEBP = "image/jpeg", "image/png", "image/gif", "image/webp"

MAX_SEGMENTS = 20_000  # chunks, blocks or segments that are gone through
_SEARCH_BYTES = 256 * 1024
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """An image, as far as it is known without decoding it."""

    media_type: str
    width: int  # as it is stored
    height: int
    is_turned: bool = False  # EXIF says that it is shown with width and height exchanged
    is_animated: bool = False
    is_plain: bool = True  # eight bits a channel, and not the four colours of a printer
    is_whole: bool = True  # its end is there

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as it is shown."""
        return (self.height, self.width) if self.is_turned else (self.width, self.height)


def read_header(file: IO[bytes]) -> ImageHeader | None:
    """The header of a JPEG, PNG, GIF or WebP image; None for anything else, and where it is damaged."""
    file.seek(0)
    magic = file.read(16)
    try:
        if magic.startswith(b"\xff\xd8\xff"):
            return _jpeg(file)
        if magic.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(file)
        if magic.startswith((b"GIF87a", b"GIF89a")):
            return _gif(file)
        if magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
            return _webp(file)
    except (struct.error, IndexError):
        pass
    return None


def _exactly(file: IO[bytes], size_bytes: int) -> bytes:
    """So many bytes. Raises struct.error at the end of the file."""
    found = file.read(size_bytes)
    if len(found) < size_bytes:
        raise struct.error("The file ends too early.")
    return found


# -- JPEG -----------------------------------------------------------------------------------------------------

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


def _jpeg(file: IO[bytes]) -> ImageHeader | None:
    file.seek(2)
    frame: tuple[int, int, int, int] | None = None
    is_turned = False
    for _ in range(MAX_SEGMENTS):
        marker = _marker(file)
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == 0xD9:
            break
        (length,) = struct.unpack(">H", _exactly(file, 2))
        end = file.tell() + length - 2
        if marker in _FRAMES:
            frame = struct.unpack(">BHHB", _exactly(file, 6))
        elif marker == 0xE1 and length < 65536:
            is_turned = is_turned or _orientation(_exactly(file, length - 2)) >= 5
        elif marker == 0xDA:
            break
        file.seek(end)
    if frame is None:
        return None
    precision, height, width, components = frame
    return ImageHeader(
        JPEG,
        width,
        height,
        is_turned=is_turned,
        is_plain=precision == 8 and components < 4,
        is_whole=_has_end(file),
    )


def _marker(file: IO[bytes]) -> int:
    """The next marker; any number of fill bytes may come before it."""
    if _exactly(file, 1) != b"\xff":
        raise struct.error("No marker.")
    for _ in range(1000):
        if (byte := _exactly(file, 1)) != b"\xff":
            return byte[0]
    raise struct.error("No marker.")


def _has_end(file: IO[bytes]) -> bool:
    """Whether the mark of the end comes after the beginning of the picture, where it can't be anything else."""
    last = b""
    while block := file.read(_SEARCH_BYTES):
        if b"\xff\xd9" in last + block:
            return True
        last = block[-1:]
    return False


def _orientation(segment: bytes) -> int:
    """How EXIF says that the picture is to be turned, 1 for not at all."""
    if not segment.startswith(_EXIF):
        return 1
    tiff = segment[len(_EXIF) :]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (begin,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, begin)
        for entry in range(min(count, 200)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, begin + 2 + entry * 12)
            if tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


# -- PNG ------------------------------------------------------------------------------------------------------


def _png(file: IO[bytes]) -> ImageHeader | None:
    file.seek(8)
    length, name = struct.unpack(">I4s", _exactly(file, 8))
    if name != b"IHDR" or length != 13:
        return None
    width, height, depth = struct.unpack(">IIB", _exactly(file, 9))
    file.seek(8 + 12 + 13)
    is_animated = is_whole = has_picture = False
    for _ in range(MAX_SEGMENTS):
        head = file.read(8)
        if len(head) < 8:
            break
        length, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            is_whole = has_picture and len(file.read(4)) == 4
            break
        is_animated = is_animated or (name == b"acTL" and not has_picture)
        has_picture = has_picture or name == b"IDAT"
        file.seek(length + 4, 1)
    return ImageHeader(PNG, width, height, is_animated=is_animated, is_plain=depth <= 8, is_whole=is_whole)


# -- GIF ------------------------------------------------------------------------------------------------------


def _gif(file: IO[bytes]) -> ImageHeader | None:
    file.seek(6)
    width, height, flags = struct.unpack("<HHB2x", _exactly(file, 7))
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)
    pictures = 0
    for _ in range(MAX_SEGMENTS):
        kind = file.read(1)
        if kind == b"!":
            file.read(1)
        elif kind == b",":
            (flags,) = struct.unpack("<8xB", _exactly(file, 9))
            if pictures:
                return ImageHeader(GIF, width, height, is_animated=True)
            file.seek(3 << ((flags & 7) + 1) if flags & 0x80 else 0, 1)
            file.read(1)
        else:
            break
        is_complete = _skip_blocks(file)
        if kind == b",":
            pictures += 1
            if not is_complete:
                return ImageHeader(GIF, width, height, is_whole=False)
    return ImageHeader(GIF, width, height, is_whole=pictures > 0)


def _skip_blocks(file: IO[bytes]) -> bool:
    """Go over blocks of data to the empty one after them; False where the file ends before."""
    for _ in range(MAX_SEGMENTS * 100):
        size = file.read(1)
        if not size:
            return False
        if size == b"\x00":
            return True
        file.seek(size[0], 1)
    return False


# -- WebP -----------------------------------------------------------------------------------------------------


def _webp(file: IO[bytes]) -> ImageHeader | None:
    file.seek(4)
    (riff_bytes,) = struct.unpack("<I4x", _exactly(file, 8))
    name, _ = struct.unpack("<4sI", _exactly(file, 8))
    body = _exactly(file, 10)
    is_animated = False
    if name == b"VP8X":
        is_animated = bool(body[0] & 0x02)
        width = int.from_bytes(body[4:7], "little") + 1
        height = int.from_bytes(body[7:10], "little") + 1
    elif name == b"VP8L":
        (bits,) = struct.unpack("<xI", body[:5])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif name == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<6xHH", body))
    else:
        return None
    size_bytes = file.seek(0, 2)
    return ImageHeader(WEBP, width, height, is_animated=is_animated, is_whole=size_bytes >= riff_bytes + 8)
