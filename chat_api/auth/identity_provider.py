"""Tokens of an external identity provider (OpenID Connect): RS256 or ES256, issuer and audience checked.

Keys come from a PEM file, a JWKS file, a JWKS URL or where the issuer's discovery document says; never from the token
(RFC 8725 section 3.10).
"""

import time
from pathlib import Path
from typing import Any

import jwt
from flask import Flask, current_app

from ..users import service as users
from ..web.json_body import is_storable
from .provider_keys import ALGORITHMS, DiscoveredKeys, FileKeys, RemoteKeys
from .tokens import MAX_TOKEN_LENGTH, InvalidToken, has_our_header

EXTENSION = "chat_api.identity_provider"
CLOCK_SKEW_S = 30
READ_ERRORS = (jwt.PyJWTError, ValueError, TypeError, RecursionError)


class IdentityProvider:
    """The provider's keys, and the check of a token against them."""

    def __init__(self, *, issuer: str, audience: str, keys: str, proxy: str = "") -> None:
        self.issuer = issuer
        self._audience = audience
        self._keys: RemoteKeys | FileKeys
        if not keys:
            self._keys = DiscoveredKeys(issuer, proxy=proxy)
        elif keys.startswith(("http://", "https://")):
            self._keys = RemoteKeys(keys, proxy=proxy)
        else:
            self._keys = FileKeys(Path(keys))

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a valid token. Raises InvalidToken, or Unavailable if the keys can't be fetched."""
        key_id, algorithm = self._unverified(token)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(key_id, algorithm),
                algorithms=ALGORITHMS,
                issuer=self.issuer,
                audience=self._audience,
                leeway=CLOCK_SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except READ_ERRORS:
            raise InvalidToken() from None
        subject = claims["sub"]
        if not subject or len(subject) > 255 or not is_storable(subject):
            raise InvalidToken()
        return claims

    def _unverified(self, token: str) -> tuple[str | None, str | None]:
        """Key id and algorithm of a token that says it is for us and still valid. Raises InvalidToken.

        Whatever a token says, anybody may have written; but only for one that could be valid are keys fetched.
        """
        try:
            parts = jwt.decode_complete(token, options={"verify_signature": False})
            header, claims = parts["header"], parts["payload"]
            audience = claims.get("aud")
            is_for_us = claims.get("iss") == self.issuer and (
                audience == self._audience or (isinstance(audience, list) and self._audience in audience)
            )
            is_over = float(claims.get("exp") or 0) < time.time() - CLOCK_SKEW_S
        except (*READ_ERRORS, AttributeError, OverflowError):
            raise InvalidToken() from None
        if not is_for_us or is_over:
            raise InvalidToken()
        return header.get("kid"), header.get("alg")

    def _key(self, key_id: str | None, algorithm: str | None) -> Any:
        for key in self._keys.find(key_id):
            if algorithm in key.algorithms:
                return key.value
        raise InvalidToken()


def init_app(app: Flask) -> None:
    """Give the application its identity provider, if one is configured. Raises OSError for an unreadable key file."""
    if app.config["OIDC_ISSUER"]:
        app.extensions[EXTENSION] = IdentityProvider(
            issuer=app.config["OIDC_ISSUER"],
            audience=app.config["OIDC_AUDIENCE"],
            keys=app.config["OIDC_KEYS"],
            proxy=app.config["OUTGOING_PROXY"],
        )


def is_external_token(token: str) -> bool:
    """Whether the token's header names an algorithm of identity providers; nothing is verified yet."""
    if has_our_header(token) or EXTENSION not in current_app.extensions or len(token) > MAX_TOKEN_LENGTH:
        return False
    try:
        return jwt.get_unverified_header(token).get("alg") in ALGORITHMS
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False


def check_external_token(token: str) -> tuple[str, str, float | None]:
    """User id and role of a valid token, and when its user proved who they are; created on first use.

    Raises InvalidToken.
    """
    provider: IdentityProvider = current_app.extensions[EXTENSION]
    claims = provider.claims(token)
    user_id, role = users.find_or_create_external_user_and_commit(
        issuer=provider.issuer, subject=claims["sub"]
    )
    return user_id, role, _proved_at(claims)


def _proved_at(claims: dict[str, Any]) -> float | None:
    """When the user logged in at the provider (OpenID Connect Core, section 2), or else when it made the token."""
    moment = claims.get("auth_time", claims.get("iat"))
    if not isinstance(moment, int | float) or moment > time.time() + CLOCK_SKEW_S:
        return None
    return float(moment)
