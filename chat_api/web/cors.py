"""CORS: which pages of other origins may read the answers in a browser (Fetch standard, section 3.3).

Nothing is allowed unless the operator names origins. There are no cookies, so a page needs a token in any case.
"""

import re
from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_cors import CORS

PREFLIGHT_S = 600  # so long a browser remembers a preflight
# besides those that every page can read; a client needs all that an answer may have
EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Document-Text",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
    "Search-Index",
    "WWW-Authenticate",
    "X-Conversation-Id",
    "X-Request-ID",
    "X-Should-Retry",
    "X-Vercel-AI-UI-Message-Stream",
)


def init_app(app: Flask) -> None:
    """Let pages of the origins in CORS_ORIGINS read the answers; without one, requests don't pay for the check."""
    if app.config["CORS_ORIGINS"]:
        CORS(
            app,
            origins=[_exactly(origin) for origin in app.config["CORS_ORIGINS"]],
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            expose_headers=list(EXPOSED_HEADERS),
            max_age=PREFLIGHT_S,
            allow_private_network=False,
        )


def _exactly(origin: str) -> re.Pattern[str]:
    """What matches this origin: as text, Flask-Cors would take the brackets of an IPv6 address for a pattern."""
    return re.compile(re.escape(origin) + r"\Z", re.IGNORECASE)


def is_preflight(environ: Mapping[str, Any]) -> bool:
    """Whether a browser asks if it may send a request. It can't send a token, and no view runs."""
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
