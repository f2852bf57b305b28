"""Providers' own headers: the names are stored as they are, each value encrypted like a key."""

from collections.abc import Iterator, Mapping

import orjson
import sqlalchemy as sa

from ..database.bulk import read_in_batches
from ..database.session import db
from ..errors import InvalidInput, KeyUnreadable
from ..keyring import CannotDecrypt, keyring
from .fields import MAX_HEADERS, MAX_HEADERS_BYTES
from .models import LLMProvider

# a ciphertext is a third longer than its value, and has some 150 characters of its own
MAX_STORED_CHARACTERS = MAX_HEADERS_BYTES * 4 // 3 + MAX_HEADERS * 300


class HeadersUnreadable(KeyUnreadable):
    """No key in ENCRYPTION_KEYS opens a header; only whoever set it has it."""

    def __init__(self) -> None:
        super().__init__(
            "The server can't decrypt the provider's `headers` any more; its owner, or an admin for a shared "
            "provider, has to set them again."
        )


def decrypted_headers(*, provider_id: str, stored: str | None) -> dict[str, str]:
    """The headers to send. Raises HeadersUnreadable."""
    found = {}
    for name, ciphertext in stored_headers(stored).items():
        try:
            value = keyring().decrypt(ciphertext, encryption_context=_context(provider_id, name))
        except CannotDecrypt:
            raise HeadersUnreadable() from None
        found[name] = value.decode()
    return found


def changed_headers(
    *, provider_id: str, stored: str | None, changes: Mapping[str, str | None] | None
) -> str | None:
    """What to store after changes: of a header its new value, None for one that goes; for None all go.

    Headers that are not named stay as they are, because nobody gets their values back to repeat them.
    Raises InvalidInput where they become too many or too long.
    """
    if changes is None:
        return None
    lower = {name.lower() for name in changes}
    headers = {name: value for name, value in stored_headers(stored).items() if name.lower() not in lower}
    for name, value in changes.items():
        if value is not None:
            context = _context(provider_id, name)
            headers[name] = keyring().encrypt(value.encode(), encryption_context=context)
    text = orjson.dumps(headers).decode()
    if len(headers) > MAX_HEADERS:
        raise InvalidInput({"headers": [f"More than {MAX_HEADERS} headers."]})
    if len(text) > MAX_STORED_CHARACTERS:
        raise InvalidInput({"headers": [f"All headers together are longer than {MAX_HEADERS_BYTES} bytes."]})
    return text if headers else None


def stored_headers(stored: str | None) -> dict[str, str]:
    """The names with the ciphertexts of their values."""
    return orjson.loads(stored) if stored else {}


def read_stored(*, limit: int) -> Iterator[list[tuple[str, str]]]:
    """The ids of all providers with headers and what is stored of these, in batches; see `read_in_batches`."""
    headers = LLMProvider.encrypted_headers
    for rows in read_in_batches([LLMProvider.id], headers.is_not(None), limit=limit, also=[headers]):
        yield [(str(provider_id), stored) for provider_id, stored in rows]


def rotate_stored(*, provider_id: str, stored: str) -> dict[str, int]:
    """Encrypt a provider's headers with the first master key; how many were rotated, current and broken.

    Headers that a request changes at the same time keep the newer values: the update matches only what was read.
    """
    counts = {"rotated": 0, "current": 0, "broken": 0}
    headers = stored_headers(stored)
    for name, ciphertext in headers.items():
        try:
            is_current = keyring().is_current(ciphertext)
            headers[name] = ciphertext if is_current else keyring().rotate(ciphertext)
            counts["current" if is_current else "rotated"] += 1
        except CannotDecrypt:
            counts["broken"] += 1
    if counts["rotated"]:
        unchanged = (LLMProvider.id == provider_id, LLMProvider.encrypted_headers == stored)
        fresh = orjson.dumps(headers).decode()
        db.session.execute(sa.update(LLMProvider).where(*unchanged).values(encrypted_headers=fresh))
    return counts


def _context(provider_id: str, name: str) -> tuple[str, str, str]:
    return ("llm_providers", provider_id, name.lower())
