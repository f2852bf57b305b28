"""Images that a provider takes are left alone, all others are made to fit; hostile ones cost little and end nothing."""

import io
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from typing import Any

import pytest
from PIL import Image, ImageDraw

from chat_api.documents import images
from chat_api.documents.image_headers import read_header
from chat_api.documents.images import (
    DAMAGED,
    TOO_LARGE,
    UNKNOWN,
    ChangedImage,
    ImageLimits,
    UnusableImage,
    fits,
    sent_size,
    shrink,
)

LIMITS = ImageLimits(longest_side=200, max_bytes=100_000)
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


def drawn(size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Image.Image:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, "red")
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, size[0], size[1]), fill="blue")
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file of a picture."""
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def shrunk(content: bytes, limits: ImageLimits = LIMITS, **options: Any) -> ChangedImage:
    """What is made of the file with this content."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return shrink(file, limits, **options)


def pixel(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    """The channels of a pixel."""
    found = image.getpixel(at)
    return found if isinstance(found, tuple) else (int(found or 0),)


def content_of(changed: ChangedImage) -> bytes:
    """The bytes of an image that was made to fit."""
    content = b"".join(changed.blocks())
    assert len(content) == changed.size_bytes
    return content


def picture_of(changed: ChangedImage) -> Image.Image:
    """The picture of an image that was made to fit."""
    image = Image.open(io.BytesIO(content_of(changed)))
    image.load()
    assert Image.MIME[image.format or ""] == changed.media_type
    assert image.size == changed.size
    return image


def is_as_it_is(content: bytes, limits: ImageLimits = LIMITS) -> bool:
    """Whether it is sent byte for byte."""
    header = read_header(io.BytesIO(content))
    assert header is not None
    return fits(header, len(content), header.media_type, limits)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_header_says_what_pillow_says(kind: str, mode: str) -> None:
    image = drawn((53, 38), mode)
    content = saved(image if kind != "JPEG" or mode in ("RGB", "L", "1") else image.convert("RGB"), kind)
    header = read_header(io.BytesIO(content))
    assert header is not None
    assert (header.media_type, header.width, header.height) == (FORMATS[kind], 53, 38)
    assert is_as_it_is(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("options", [{"progressive": True}, {"lossless": True}, {"quality": 100}])
def test_header_of_other_encodings(kind: str, options: dict[str, Any]) -> None:
    header = read_header(io.BytesIO(saved(drawn((300, 100)), kind, **options)))
    assert header is not None
    assert (header.width, header.height, header.is_whole) == (300, 100, True)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_cut_off_file_is_noticed(kind: str) -> None:
    content = saved(drawn(), kind)
    for length in range(0, len(content) - (2 if kind != "GIF" else 3), 7):
        header = read_header(io.BytesIO(content[:length]))
        assert header is None or not header.is_whole, length
        if header is not None:
            with pytest.raises(UnusableImage, match=DAMAGED):
                fits(header, length, header.media_type, LIMITS)


@pytest.mark.parametrize("kind", [*FORMATS, "BMP", "TIFF", "AVIF"])
def test_large_image_becomes_smaller(kind: str) -> None:
    content = saved(drawn((400, 300)), kind)
    changed = shrunk(content)
    picture = picture_of(changed).convert("RGB")
    assert picture.size == (200, 150) == sent_size((400, 300), LIMITS)
    assert changed.media_type in LIMITS.media_types
    (red, _, blue), (other_red, _, other_blue) = pixel(picture, (20, 75)), pixel(picture, (180, 75))
    assert min(red, other_blue) > 200
    assert max(blue, other_red) < 100


def gps() -> Image.Exif:
    """EXIF that says where and with what a picture was made, and that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera of Anna"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 14.0)
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_changed_image_is_upright_and_says_nothing_else(kind: str) -> None:
    content = saved(drawn((400, 300)), kind, exif=gps(), **({"comment": b"secret"} if kind == "JPEG" else {}))
    header = read_header(io.BytesIO(content))
    assert header is not None
    if kind == "JPEG":
        assert header.shown_size == (300, 400)
    changed = shrunk(content)
    assert b"Anna" in content
    assert b"Anna" not in content_of(changed)
    assert b"secret" not in content_of(changed)
    picture = picture_of(changed)
    assert not picture.getexif()
    assert picture.size == (150, 200)
    assert pixel(picture.convert("RGB"), (75, 20))[0] > 200  # red was left, now it is above


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(drawn((260, 130)), "JPEG", exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    header = read_header(io.BytesIO(content))
    assert header is not None
    assert header.shown_size == expected.size
    picture = picture_of(shrunk(content))
    assert picture.size == sent_size(expected.size, LIMITS)
    small = expected.resize(picture.size)
    for at in ((10, 10), (picture.width - 10, picture.height - 10)):
        assert all(abs(a - b) < 60 for a, b in zip(pixel(picture, at), pixel(small, at), strict=True))


def frames(kind: str) -> bytes:
    """An animation."""
    return saved(
        drawn(), kind, save_all=True, append_images=[Image.new("RGB", (60, 40), "green")], duration=50
    )


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animation_becomes_its_first_picture(kind: str) -> None:
    content = frames(kind)
    assert not is_as_it_is(content)
    picture = picture_of(shrunk(content))
    assert getattr(picture, "n_frames", 1) == 1
    assert pixel(picture.convert("RGB"), (5, 5))[0] > 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(saved(drawn(mode="CMYK"), "JPEG"), id="cmyk"),
        pytest.param(saved(Image.new("I;16", (60, 40), 40_000), "PNG"), id="16 bits"),
    ],
)
def test_unusual_channels_become_usual_ones(content: bytes) -> None:
    assert not is_as_it_is(content)
    picture = picture_of(shrunk(content))
    assert picture.mode in ("L", "RGB")
    if picture.mode == "L":
        assert abs(pixel(picture, (5, 5))[0] - 156) < 3


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_deep_grey_of_either_order_becomes_grey_of_eight_bits(mode: str) -> None:
    picture = picture_of(shrunk(saved(Image.new(mode, (60, 40), 40_000), "TIFF")))
    assert (picture.mode, pixel(picture, (5, 5))) == ("L", (156,))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_stays_where_it_can(kind: str) -> None:
    image = Image.new("RGBA", (400, 300), (255, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 200, 300), fill=(0, 0, 255, 255))
    content = saved(image, kind)
    picture = picture_of(shrunk(content))
    assert picture.mode == "RGBA"
    assert (pixel(picture, (20, 20))[3], pixel(picture, (190, 20))[3]) == (255, 0)
    only_jpeg = ImageLimits(media_types=frozenset({"image/jpeg"}), longest_side=200)
    flat = picture_of(shrunk(content, only_jpeg))
    assert min(pixel(flat, (190, 20))) > 240  # on white


def noise(size: tuple[int, int]) -> Image.Image:
    """A picture that can't be compressed."""
    return Image.frombytes("RGB", size, random.Random(1).randbytes(size[0] * size[1] * 3))


def test_too_many_bytes_become_fewer() -> None:
    limits = ImageLimits(longest_side=400, max_bytes=60_000)
    content = saved(noise((300, 300)), "PNG")
    assert not is_as_it_is(content, limits)
    changed = shrunk(content, limits)
    assert changed.size_bytes <= 60_000
    assert changed.media_type == "image/jpeg"
    with pytest.raises(UnusableImage, match=TOO_LARGE):
        shrunk(content, ImageLimits(longest_side=400, max_bytes=500))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int, height: int) -> bytes:
    """A small PNG of very many pixels."""
    packer = zlib.compressobj(9)
    packed = (
        b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(min(height, 60_000))) + packer.flush()
    )
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", head), png_chunk(b"IDAT", packed), png_chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (80_000, 1_100)])
def test_bombs_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    content = bomb(min(size[0], 60_000), 100)
    content = content[:16] + struct.pack(">II", *size) + content[24:]
    began = time.monotonic()
    with pytest.raises(UnusableImage):
        shrunk(content)
    assert time.monotonic() - began < 10


def test_text_in_an_image_is_no_bomb() -> None:
    packed = zlib.compress(b"a" * 100_000_000, 9)
    content = saved(drawn((400, 300)), "PNG")
    text = png_chunk(b"zTXt", b"Comment\x00\x00" + packed)
    with_text = content[:33] + text + content[33:]
    try:
        picture_of(shrunk(with_text))
    except UnusableImage:
        pass  # either is well; what counts is that it ends


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" + b"\xff" * 99,
     b"%!PS-Adobe-3.0 EPSF-3.0\n"],
)  # fmt: skip
def test_what_is_no_image_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(UnusableImage) as raised:
        shrunk(content)
    assert raised.value.code in (UNKNOWN, DAMAGED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_cut_off_image_is_damaged(kind: str) -> None:
    content = saved(noise((300, 300)), kind)
    with pytest.raises(UnusableImage):
        shrunk(content[: len(content) // 2])


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_CODE", "import time; time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(UnusableImage, match=TOO_LARGE):
        shrunk(saved(drawn(), "PNG"), LIMITS, wall_s=0.3)
    assert time.monotonic() - began < 20


def test_random_damage_ends_nothing() -> None:
    dice = random.Random(7)
    for kind in FORMATS:
        content = bytearray(saved(noise((64, 64)), kind))
        for _ in range(3):
            content[dice.randrange(len(content))] ^= 0xFF
        header = read_header(io.BytesIO(bytes(content)))
        assert header is None or header.width >= 0
        try:
            shrunk(bytes(content))
        except UnusableImage:
            pass


@pytest.fixture
def modules() -> set[str]:
    """The modules that are loaded after a look at an image that fits."""
    code = (
        "import sys, io\n"
        "from chat_api.documents.images import ImageLimits, fits\n"
        "from chat_api.documents.image_headers import read_header\n"
        "read_header(io.BytesIO(b'x'))\n"
        "print(*sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(output.stdout.split())


def test_pillow_is_not_loaded_by_looking(modules: set[str]) -> None:
    assert not {name for name in modules if name.partition(".")[0] == "PIL"}
