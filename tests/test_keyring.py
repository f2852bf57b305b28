"""Encryption at rest: only the right key opens a secret, and only in its own place."""

import pytest
from cryptography.fernet import Fernet

from chat_api.keyring import CannotDecrypt, Keyring

PLACE = ("user_llm_configs", "ada", "provider")
SECRET = b"sk-0123456789abcdef"


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_a_secret_opens_in_its_place() -> None:
    ring = Keyring((new_key(),))
    sealed = ring.encrypt(SECRET, place=PLACE)
    assert ring.decrypt(sealed, place=PLACE) == SECRET
    assert SECRET.decode() not in sealed


def test_the_same_secret_is_never_sealed_the_same_way() -> None:
    ring = Keyring((new_key(),))
    assert len({ring.encrypt(SECRET, place=PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "place",
    [
        ("user_llm_configs", "bob", "provider"),
        ("user_llm_configs", "ada", "another"),
        ("idempotency_keys", "ada", "provider"),
        ("user_llm_configs", "adaprovider"),
        ("user_llm_configs", "provider", "ada"),
        (),
    ],
)
def test_a_secret_opens_in_no_other_place(place: tuple[str, ...]) -> None:
    ring = Keyring((new_key(),))
    with pytest.raises(CannotDecrypt) as caught:
        ring.decrypt(ring.encrypt(SECRET, place=PLACE), place=place)
    assert SECRET.decode() not in str(caught.value)


def test_a_changed_secret_does_not_open() -> None:
    ring = Keyring((new_key(),))
    sealed = ring.encrypt(SECRET, place=PLACE)
    for index in range(0, len(sealed.rstrip("=")) - 1, 7):  # the last character has bits that do not count
        changed = sealed[:index] + ("A" if sealed[index] != "A" else "B") + sealed[index + 1 :]
        with pytest.raises(CannotDecrypt):
            ring.decrypt(changed, place=PLACE)


@pytest.mark.parametrize("sealed", ["", "x", "é", "gAAAAA", SECRET.decode()])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(CannotDecrypt):
        Keyring((new_key(),)).decrypt(sealed, place=PLACE)


def test_the_first_key_seals_and_every_key_opens() -> None:
    old, new = new_key(), new_key()
    sealed = Keyring((old,)).encrypt(SECRET, place=PLACE)
    both = Keyring((new, old))
    assert both.decrypt(sealed, place=PLACE) == SECRET
    assert Keyring((new,)).decrypt(both.encrypt(SECRET, place=PLACE), place=PLACE) == SECRET
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).decrypt(sealed, place=PLACE)


def test_rotating_moves_a_secret_to_the_first_key_and_keeps_its_place() -> None:
    old, new = new_key(), new_key()
    both = Keyring((new, old))
    sealed = Keyring((old,)).encrypt(SECRET, place=PLACE)
    assert not both.is_current(sealed)
    rotated = both.rotate(sealed)
    assert both.is_current(rotated)
    assert Keyring((new,)).decrypt(rotated, place=PLACE) == SECRET
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).decrypt(rotated, place=("user_llm_configs", "bob", "provider"))
    with pytest.raises(CannotDecrypt):
        Keyring((new,)).rotate(sealed)
