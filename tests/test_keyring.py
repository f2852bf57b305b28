"""Encryption at rest: only the right key opens a secret, and only in its own context."""

import pytest
from cryptography.fernet import Fernet

from chat_api.keyring import CannotDecrypt, Keyring

CONTEXT = ("user_llm_configs", "ada", "provider")
SECRET = b"sk-0123456789abcdef"


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_a_secret_decrypts_in_its_context() -> None:
    ring = Keyring((new_key(),))
    ciphertext = ring.encrypt(SECRET, encryption_context=CONTEXT)
    assert ring.decrypt(ciphertext, encryption_context=CONTEXT) == SECRET
    assert SECRET.decode() not in ciphertext


def test_the_same_secret_is_never_encrypted_the_same_way() -> None:
    ring = Keyring((new_key(),))
    assert len({ring.encrypt(SECRET, encryption_context=CONTEXT) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "context",
    [
        ("user_llm_configs", "bob", "provider"),
        ("user_llm_configs", "ada", "another"),
        ("idempotency_keys", "ada", "provider"),
        ("user_llm_configs", "adaprovider"),
        ("user_llm_configs", "provider", "ada"),
        (),
    ],
)
def test_a_secret_decrypts_in_no_other_context(context: tuple[str, ...]) -> None:
    ring = Keyring((new_key(),))
    with pytest.raises(CannotDecrypt) as caught:
        ring.decrypt(ring.encrypt(SECRET, encryption_context=CONTEXT), encryption_context=context)
    assert SECRET.decode() not in str(caught.value)


def test_a_changed_secret_does_not_decrypt() -> None:
    ring = Keyring((new_key(),))
    ciphertext = ring.encrypt(SECRET, encryption_context=CONTEXT)
    for index in range(
        0, len(ciphertext.rstrip("=")) - 1, 7
    ):  # the last character has bits that do not count
        changed = ciphertext[:index] + ("A" if ciphertext[index] != "A" else "B") + ciphertext[index + 1 :]
        with pytest.raises(CannotDecrypt):
            ring.decrypt(changed, encryption_context=CONTEXT)


@pytest.mark.parametrize("ciphertext", ["", "x", "é", "gAAAAA", SECRET.decode()])
def test_what_was_never_encrypted_does_not_decrypt(ciphertext: str) -> None:
    with pytest.raises(CannotDecrypt):
        Keyring((new_key(),)).decrypt(ciphertext, encryption_context=CONTEXT)


def test_the_first_key_seals_and_every_key_opens() -> None:
    old, new = new_key(), new_key()
    ciphertext = Keyring((old,)).encrypt(SECRET, encryption_context=CONTEXT)
    both = Keyring((new, old))
    assert both.decrypt(ciphertext, encryption_context=CONTEXT) == SECRET
    assert (
        Keyring((new,)).decrypt(both.encrypt(SECRET, encryption_context=CONTEXT), encryption_context=CONTEXT)
        == SECRET
    )
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).decrypt(ciphertext, encryption_context=CONTEXT)


def test_rotating_moves_a_secret_to_the_first_key_and_keeps_its_context() -> None:
    old, new = new_key(), new_key()
    both = Keyring((new, old))
    ciphertext = Keyring((old,)).encrypt(SECRET, encryption_context=CONTEXT)
    assert not both.is_current(ciphertext)
    rotated = both.rotate(ciphertext)
    assert both.is_current(rotated)
    assert Keyring((new,)).decrypt(rotated, encryption_context=CONTEXT) == SECRET
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).decrypt(rotated, encryption_context=("user_llm_configs", "bob", "provider"))
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).rotate(ciphertext)
