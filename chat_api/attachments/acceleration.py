"""Letting nginx send the bytes of a download (https://nginx.org/en/docs/http/ngx_http_proxy_module.html, and there
X-Accel-Redirect): we answer with the headers and with where the file is in an internal location of nginx.

It obeys a Range itself, with the ETag and the date that it has from us. What it would answer differently is sent by us:
a header that is malformed or has several ranges, and conditions that it would compare with the file's own date.
"""

import re
from pathlib import Path

from flask import current_app, request

from ..files.store import storage
from ..web.ranges import Selection

_SIMPLE_RANGE = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII)
_COMPARES = ("If-Match", "If-Unmodified-Since")  # with what the file on the disk has


def redirect_to(name: str, size_bytes: int, selection: Selection) -> str | None:
    """Where nginx finds the file, None where we send it: it is not in the folder that nginx knows, say."""
    location: str = current_app.config["ACCEL_REDIRECT"]
    if not location or request.method != "GET" or any(header in request.headers for header in _COMPARES):
        return None
    if "Range" in request.headers and not (
        selection.status == 206 and _SIMPLE_RANGE.fullmatch(request.headers["Range"])
    ):
        return None
    path = storage().local_path(name)
    return location + name if path is not None and _has_size(path, size_bytes) else None


def _has_size(path: Path, size_bytes: int) -> bool:
    """Whether it is there, all of it."""
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False
