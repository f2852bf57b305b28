"""What runs in the process that decodes one image: the file is its standard input, the new image its standard output.

It has no settings, no secrets and no database. How it went is one JSON object on its standard error.
"""

import io
import json
import os
import resource
import sys
import warnings
from importlib import import_module
from typing import Any

from .images import CPU_S, DAMAGED, MAX_PIXELS, TOO_LARGE, UNKNOWN

MEMORY_BYTES = 1024 * 1024 * 1024
# the formats that are decoded, and the modules that do
FORMATS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "AVIF": "AvifImagePlugin",
}
QUALITIES = (88, 75, 60, 40)
LARGE_PNG_BYTES = 1024 * 1024  # a picture without transparency is smaller as JPEG from here on
MAX_PROFILE_BYTES = 64 * 1024
_OTHER_SIXTEEN_BITS = ("I;16B", "I;16L", "I;16N")  # of which Pillow can do less


def main() -> None:
    """Write the image so that no side is longer than the first argument, and it has at most so many bytes as the second
    says; the third lists the media types that are taken."""
    _limit_process()
    try:
        result, content = _made(int(sys.argv[1]), int(sys.argv[2]), set(sys.argv[3].split(",")))
    except MemoryError:
        result, content = {"error": TOO_LARGE}, b""
    os.write(2, json.dumps(result).encode())
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    os._exit(0)


def _limit_process() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024 * 1024,) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def _made(longest_side: int, max_bytes: int, media_types: set[str]) -> tuple[dict[str, Any], bytes]:
    from PIL import Image, UnidentifiedImageError

    for name in FORMATS.values():
        import_module(f"PIL.{name}")
    Image.MAX_IMAGE_PIXELS = None  # the limit is checked here, after a JPEG has been told to decode less
    warnings.simplefilter("ignore")
    try:
        image = Image.open(sys.stdin.buffer, formats=list(FORMATS))
        image.draft("RGB", (longest_side, longest_side))
        if image.width * image.height > MAX_PIXELS:
            return {"error": TOO_LARGE}, b""
        image.load()
        is_drawn = image.format not in ("JPEG", "MPO", "WEBP", "AVIF")
        orientation = image.getexif().get(0x0112, 1)
        made = _turned(_plain(image), orientation)
        made.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
        media_type, content = _encoded(made, is_drawn, max_bytes, media_types)
    except UnidentifiedImageError:
        return {"error": UNKNOWN}, b""
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, AttributeError):
        return {"error": DAMAGED}, b""
    except Image.DecompressionBombError:
        return {"error": TOO_LARGE}, b""
    if not content:
        return {"error": TOO_LARGE}, b""
    return {"media_type": media_type, "width": made.width, "height": made.height}, content


def _plain(image: Any) -> Any:
    """The image in eight bits of grey or of three colours, with transparency where it has some; nothing else of it."""
    profile = image.info.get("icc_profile", b"") if image.mode in ("RGB", "RGBA") else b""
    if image.mode in _OTHER_SIXTEEN_BITS:
        image = image.convert("I")
    if image.mode in ("I;16", "I"):
        made = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode in ("RGB", "L"):
        made = image
        if image.info.get("transparency") is not None:
            made = image.convert("RGBA")
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        made = image.convert("RGBA")
    elif image.mode == "P":
        made = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        made = image.convert("L")
    else:
        made = image.convert("RGB")
    if made.mode == "RGBA" and made.getchannel("A").getextrema()[0] == 255:
        made = made.convert("RGB")
    made.info = {"icc_profile": profile} if 0 < len(profile) <= MAX_PROFILE_BYTES else {}
    return made


def _turned(image: Any, orientation: int) -> Any:
    """The image as it is to be shown."""
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    if orientation not in ways:
        return image
    turned = image.transpose(ways[orientation])
    turned.info = image.info
    return turned


def _encoded(image: Any, is_drawn: bool, max_bytes: int, media_types: set[str]) -> tuple[str, bytes]:
    """The image's media type and bytes; no bytes where it can't be made small enough."""
    from PIL import Image

    profile = image.info.get("icc_profile")
    has_alpha = image.mode == "RGBA"
    if "image/png" in media_types and (has_alpha or is_drawn or "image/jpeg" not in media_types):
        content = _saved(image, "PNG", icc_profile=profile)
        if len(content) <= (max_bytes if has_alpha else min(max_bytes, LARGE_PNG_BYTES)):
            return "image/png", content
        if "image/jpeg" not in media_types:
            return "image/png", content if len(content) <= max_bytes else b""
    if has_alpha:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    for quality in QUALITIES:
        content = _saved(image, "JPEG", quality=quality, optimize=True, icc_profile=profile)
        if len(content) <= max_bytes:
            return "image/jpeg", content
    return "image/jpeg", b""


def _saved(image: Any, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()
