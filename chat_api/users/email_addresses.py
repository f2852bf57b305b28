"""How e-mail addresses are stored and compared."""

import unicodedata


def normalized_email(email: str) -> str:
    """An address as it is stored and compared: in any case the same, and however its letters are composed."""
    return unicodedata.normalize("NFC", email).lower()
