"""Tokens of an external identity provider (OpenID Connect): RS256 or ES256, issuer and audience checked.

Keys come from a PEM file, a JWKS file or a JWKS URL, never from the token (RFC 8725 section 3.10).
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

import jwt
from flask import Flask, current_app
from jwt import PyJWKClient, PyJWKSet

from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError
from ..egress.gate import Gate, HttpRequest
from ..egress.limits import Limits
from ..errors import Unavailable
from ..users import service as users
from ..web.json_body import is_storable
from .tokens import MAX_TOKEN_LENGTH, InvalidToken, has_our_header

EXTENSION = "chat_api.identity_provider"
ALGORITHMS = ["RS256", "ES256"]
CLOCK_SKEW_S = 30
FETCH_TIMEOUT_S = 5
KEEP_KEYS_S = 300
MAX_KEYS_BYTES = 1024 * 1024
REFRESH_INTERVAL_S = 10  # an unknown key id makes us fetch the keys again, but not more often than this


class GatedJWKClient(PyJWKClient):
    """Fetches keys through the gate for outgoing calls. The operator configured the address, so any is allowed."""

    def __init__(self, url: str) -> None:
        super().__init__(url, lifespan=KEEP_KEYS_S, timeout=FETCH_TIMEOUT_S)
        self._gate = Gate(allowed_origins=(url,))

    def fetch_data(self) -> Any:
        request = HttpRequest("GET", self.uri, {"Accept": "application/json"})
        limits = Limits(first_byte_s=FETCH_TIMEOUT_S, idle_s=FETCH_TIMEOUT_S, total_s=FETCH_TIMEOUT_S)
        try:
            response = self._gate.send(request, cancel_token=CancelToken(), limits=limits)
            try:
                content = response.read_all(MAX_KEYS_BYTES) if response.status == 200 else b""
            finally:
                response.close()
        except EgressError as error:
            raise jwt.PyJWKClientConnectionError(error.detail) from None
        keys = json.loads(content)
        if self.jwk_set_cache is not None:
            self.jwk_set_cache.put(keys)
        return keys


class IdentityProvider:
    """The provider's keys, and the check of a token against them."""

    def __init__(self, *, issuer: str, audience: str, keys: str) -> None:
        self.issuer = issuer
        self._audience = audience
        is_url = keys.startswith(("http://", "https://"))
        self._client = GatedJWKClient(keys) if is_url else None
        self._static_keys = [] if self._client else _keys_of_file(Path(keys))
        self._lock = threading.Lock()
        self._refreshed_at = float("-inf")

    def subject(self, token: str) -> str:
        """The subject of a valid token. Raises InvalidToken, or Unavailable if the keys can't be fetched."""
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._key(header.get("kid"), header.get("alg")),
                algorithms=ALGORITHMS,
                issuer=self.issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken() from None
        subject = claims["sub"]
        if not subject or len(subject) > 255 or not is_storable(subject):
            raise InvalidToken()
        return subject

    def _key(self, key_id: str | None, algorithm: str | None) -> Any:
        candidates = [key for key in self._known_keys() if key_id is None or key[0] in (key_id, None)]
        if not candidates and self._client is not None:
            candidates = [key for key in self._refetch() if key[0] == key_id]
        for _, key_algorithms, key in candidates:
            if algorithm in key_algorithms:
                return key
        raise InvalidToken()

    def _known_keys(self) -> list[Any]:
        return self._fetch(refresh=False) if self._client is not None else self._static_keys

    def _refetch(self) -> list[Any]:
        """Fetch the keys again, as they may have been rotated; rate-limited, as anyone can send unknown key ids."""
        with self._lock:
            if time.monotonic() - self._refreshed_at < REFRESH_INTERVAL_S:
                return self._fetch(refresh=False)
            self._refreshed_at = time.monotonic()
            return self._fetch(refresh=True)

    def _fetch(self, *, refresh: bool) -> list[Any]:
        assert self._client is not None  # noqa: S101 - callers checked
        try:
            return _entries(self._client.get_jwk_set(refresh))
        except (jwt.PyJWTError, OSError, ValueError) as error:  # unreachable, not JSON, or without keys
            raise Unavailable("The identity provider's keys could not be fetched; retry.") from error


def _keys_of_file(path: Path) -> list[Any]:
    """(key id, algorithms, key) of each key in a JWKS file, or of the one in a PEM file."""
    text = path.read_text()
    if text.lstrip().startswith("{"):
        return _entries(PyJWKSet.from_dict(json.loads(text)))
    return [(None, ALGORITHMS, text)]


def _entries(keys: PyJWKSet) -> list[Any]:
    """(key id, algorithms, key) of each key that may sign (RFC 7517 section 4.2)."""
    return [
        (key.key_id, [key.algorithm_name], key) for key in keys.keys if key.public_key_use in (None, "sig")
    ]


def init_app(app: Flask) -> None:
    """Give the application its identity provider, if one is configured. Raises OSError for an unreadable key file."""
    if app.config["OIDC_ISSUER"]:
        app.extensions[EXTENSION] = IdentityProvider(
            issuer=app.config["OIDC_ISSUER"],
            audience=app.config["OIDC_AUDIENCE"],
            keys=app.config["OIDC_KEYS"],
        )


def is_external_token(token: str) -> bool:
    """Whether the token's header names an algorithm of identity providers; nothing is verified yet."""
    if has_our_header(token) or EXTENSION not in current_app.extensions or len(token) > MAX_TOKEN_LENGTH:
        return False
    try:
        return jwt.get_unverified_header(token).get("alg") in ALGORITHMS
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False


def check_external_token(token: str) -> tuple[str, str]:
    """User id and role of a valid token; the user is created on first use. Raises InvalidToken."""
    provider: IdentityProvider = current_app.extensions[EXTENSION]
    return users.find_or_create_external_user_and_commit(
        issuer=provider.issuer, subject=provider.subject(token)
    )
