"""Encryption at rest of provider keys and stored responses, and keyed hashes of values that are only compared.

Fernet (AES-128-CBC with HMAC-SHA256) authenticates a ciphertext but takes no associated data, so a digest of the
encryption context (the row that the secret belongs to) is encrypted with it: a ciphertext copied to another user or
provider does not decrypt there. Several master keys may be set; the first encrypts, all decrypt, and
`flask keys rotate` re-encrypts rows with the first.
"""

import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import Flask, current_app

EXTENSION = "chat_api.keyring"
DIGEST_BYTES = 32


class CannotDecrypt(Exception):
    """No master key decrypts it, or its encryption context is another. The message never contains the secret."""


class Keyring:
    """The master keys of a deployment."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._current = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, secret: bytes, *, encryption_context: tuple[str, ...]) -> str:
        """Encrypt for one encryption context, such as `("user_llm_configs", user_id, provider_id)`."""
        return self._all.encrypt(_digest(encryption_context) + secret).decode()

    def decrypt(self, ciphertext: str, *, encryption_context: tuple[str, ...]) -> bytes:
        """Decrypt what was encrypted for this encryption context. Raises CannotDecrypt."""
        try:
            decrypted = self._all.decrypt(ciphertext)
        except (InvalidToken, ValueError):  # modified, of another key, or not a ciphertext
            raise CannotDecrypt("No key in ENCRYPTION_KEYS decrypts a stored secret.") from None
        if decrypted[:DIGEST_BYTES] != _digest(encryption_context):
            raise CannotDecrypt("A stored secret was encrypted for another row.")
        return decrypted[DIGEST_BYTES:]

    def is_current(self, ciphertext: str) -> bool:
        """Whether the first master key decrypts it."""
        try:
            self._current.decrypt(ciphertext)
        except (InvalidToken, ValueError):
            return False
        return True

    def opens(self, ciphertext: str) -> bool:
        """Whether one of the master keys decrypts it."""
        try:
            self._all.decrypt(ciphertext)
        except (InvalidToken, ValueError):
            return False
        return True

    def rotate(self, ciphertext: str) -> str:
        """Re-encrypt with the first master key. Raises CannotDecrypt."""
        try:
            return self._all.rotate(ciphertext).decode()
        except (InvalidToken, ValueError):
            raise CannotDecrypt("No key in ENCRYPTION_KEYS decrypts a stored secret.") from None


def _digest(encryption_context: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(encryption_context).encode()).digest()


def init_app(app: Flask) -> None:
    """Give the application its keyring."""
    app.extensions[EXTENSION] = Keyring(app.config["ENCRYPTION_KEYS"])


def keyring() -> Keyring:
    """The current application's keyring."""
    return current_app.extensions[EXTENSION]


def keyed_hash(purpose: str, content: bytes) -> str:
    """An HMAC, so that nobody without our secret can test guesses. Hashes for different purposes never match."""
    secret = current_app.config["JWT_SECRET_KEY"].encode()
    return hmac.new(secret, purpose.encode() + b"\x1f" + content, hashlib.sha256).hexdigest()
