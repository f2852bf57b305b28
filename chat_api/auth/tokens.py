"""Our own tokens: access and refresh tokens (JWT, HS256) and personal access tokens (random).

flask-jwt-extended creates the JWTs and checks every unusual one. Before it comes a check of exactly the header that
it writes, because its general check costs more than the database query of a whole request.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import PyJWTError

from ..database.columns import new_id
from ..errors import Unauthorized
from ..extensions import ISSUER
from ..users.models import ROLES
from ..web.fields import is_uuid

MAX_TOKEN_LENGTH = 8190  # as long as the server lets a header be
MOST_REMEMBERED = 1024  # tokens of ours whose signature is not checked again, in each worker: about 2 MiB
PERSONAL_PREFIX = "chat_pat_"
MAX_PERSONAL_TOKENS = 50  # of one user
# of a personal access token, by its user's role: the more it may do, the sooner it has to be replaced
MAX_PERSONAL_DAYS = {"user": 3650, "service": 365, "admin": 90}

# {"alg":"HS256","typ":"JWT"} as PyJWT writes it
_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode() + "."


class InvalidToken(Unauthorized):
    """The token is malformed, foreign, expired, revoked or of the wrong kind: the same response for all."""

    def __init__(self, detail: str = "The token is invalid or has expired.") -> None:
        super().__init__(detail, error="invalid_token")


def make_pair(*, user_id: str, role: str, login_id: str, refresh_token_id: str) -> tuple[str, str]:
    """An access token, and a refresh token with this id."""
    access = create_access_token(user_id, additional_claims={"sid": login_id, "role": role})
    refresh = create_refresh_token(user_id, additional_claims={"sid": login_id, "jti": refresh_token_id})
    return access, refresh


def has_our_header(token: str) -> bool:
    """Whether the token starts with the header that we write."""
    return token.startswith(_HEADER)


def read_token(token: str, *, kind: str, secret: str) -> Mapping[str, Any]:
    """The claims of a valid token of this kind ("access" or "refresh"), signed with our secret. Raises InvalidToken.

    One algorithm, the kind, the issuer and the times are checked (RFC 8725 sections 3.1, 3.8, 3.11), and that the
    claims are of the types that we write: whoever has the secret may have written others.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidToken()
    is_ours = has_our_header(token)
    claims = _claims_of_ours(token, kind, secret) if is_ours else _checked(_read_unusual(token), kind)
    if not _is_valid_now(claims):
        raise InvalidToken()
    return claims


@lru_cache(maxsize=MOST_REMEMBERED)
def _claims_of_ours(token: str, kind: str, secret: str) -> Mapping[str, Any]:
    """What is true of a token for ever: that it is one of ours, and what it says. Errors are not remembered."""
    return _checked(_read_ours(token, secret), kind)


def _checked(claims: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    if claims.get("type") != kind or claims.get("iss") != ISSUER:
        raise InvalidToken()
    if not all(is_uuid(str(claims.get(name))) for name in ("sub", "sid", "jti")):
        raise InvalidToken()
    if kind == "access" and claims.get("role") not in ROLES:
        raise InvalidToken()
    return MappingProxyType(dict(claims))


def _is_valid_now(claims: Mapping[str, Any]) -> bool:
    """Whether it has begun and not expired (RFC 7519 sections 4.1.4 and 4.1.5)."""
    begins_at, expires_at = claims.get("nbf", 0), claims.get("exp")
    if isinstance(begins_at, bool) or not isinstance(begins_at, int | float):
        return False
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return False
    return begins_at <= time.time() < expires_at


def _read_ours(token: str, secret: str) -> Mapping[str, Any]:
    """Check a token that has exactly our header: the signature first, so that only what we wrote is parsed."""
    signed, _, signature = token.rpartition(".")
    try:
        mac = _keyed_hash(secret).copy()
        mac.update(signed.encode("ascii"))
        if not hmac.compare_digest(base64.urlsafe_b64encode(mac.digest()), signature.encode("ascii") + b"="):
            raise InvalidToken()
        payload = signed[len(_HEADER) :]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error):  # not ASCII, not base64, not JSON
        raise InvalidToken() from None
    if not isinstance(claims, dict):
        raise InvalidToken()
    return claims


@cache
def _keyed_hash(secret: str) -> hmac.HMAC:
    """The HMAC before its message: copying it saves the key setup, which costs more than a short message."""
    return hmac.new(secret.encode(), digestmod="sha256")


def _read_unusual(token: str) -> dict[str, Any]:
    try:
        return decode_token(token)
    except (PyJWTError, JWTExtendedException, ValueError, TypeError, RecursionError):
        raise InvalidToken() from None


def make_secret(prefix: str, *, user_id: str) -> tuple[str, str, str]:
    """A random secret of a user's new row: the secret, the row's id, and the hash to store.

    The secret contains the ids of its user and row, so that looking it up needs no index over all users.
    """
    row_id, secret = new_id(), secrets.token_urlsafe(32)
    names = (user_id + row_id).replace("-", "")
    return f"{prefix}{names}_{secret}", row_id, hash_secret(secret)


def read_secret(prefix: str, text: str) -> tuple[str, str, str]:
    """User id, row id and hash of what `make_secret` made. Raises InvalidToken if malformed."""
    names, _, secret = text.removeprefix(prefix).partition("_")
    if (
        not text.startswith(prefix)
        or len(names) != 64
        or not set(names) <= set("0123456789abcdef")
        or not secret.isascii()
    ):
        raise InvalidToken()
    return _uuid(names[:32]), _uuid(names[32:]), hash_secret(secret)


def hash_secret(secret: str) -> str:
    """SHA-256: enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
