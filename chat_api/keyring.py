"""Encryption of what is secret at rest: provider keys and stored answers; and hashes of what is only recognised.

Fernet (AES-128-CBC with HMAC-SHA256) authenticates a token but not where it stands, so the place it belongs to
is sealed inside: a ciphertext copied to another user or provider does not open there. Several master keys may
be set; the first encrypts, all decrypt, and `flask keys rotate` moves rows to the first.
"""

import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import Flask, current_app

EXTENSION = "chat_api.keyring"
PLACE_BYTES = 32


class CannotDecrypt(Exception):
    """No master key opens it, or it was sealed for another place. The message never holds the secret."""


class Keyring:
    """The master keys of a deployment."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._current = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, secret: bytes, *, place: tuple[str, ...]) -> str:
        """Encrypt for one place, such as `("user_llm_configs", user_id, provider_id)`."""
        return self._all.encrypt(_digest(place) + secret).decode()

    def decrypt(self, sealed: str, *, place: tuple[str, ...]) -> bytes:
        """Decrypt what was encrypted for this place. Raises CannotDecrypt."""
        try:
            opened = self._all.decrypt(sealed)
        except (InvalidToken, ValueError):  # changed, of another key, or never sealed at all
            raise CannotDecrypt("No key in ENCRYPTION_KEYS opens a stored secret.") from None
        if opened[:PLACE_BYTES] != _digest(place):
            raise CannotDecrypt("A stored secret stands in a place that it was not sealed for.")
        return opened[PLACE_BYTES:]

    def is_current(self, sealed: str) -> bool:
        """Whether the first master key opens it."""
        try:
            self._current.decrypt(sealed)
        except (InvalidToken, ValueError):
            return False
        return True

    def rotate(self, sealed: str) -> str:
        """Encrypt it again under the first master key. Raises CannotDecrypt."""
        try:
            return self._all.rotate(sealed).decode()
        except (InvalidToken, ValueError):
            raise CannotDecrypt("No key in ENCRYPTION_KEYS opens a stored secret.") from None


def _digest(place: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(place).encode()).digest()


def init_app(app: Flask) -> None:
    """Give the application its keyring."""
    app.extensions[EXTENSION] = Keyring(app.config["ENCRYPTION_KEYS"])


def keyring() -> Keyring:
    """The current application's keyring."""
    return current_app.extensions[EXTENSION]


def keyed_hash(purpose: str, content: bytes) -> str:
    """A hash that nobody without our secret can compare guesses with; one purpose's never equals another's."""
    secret = current_app.config["JWT_SECRET_KEY"].encode()
    return hmac.new(secret, purpose.encode() + b"\x1f" + content, hashlib.sha256).hexdigest()
