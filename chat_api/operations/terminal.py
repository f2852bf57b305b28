"""Text for a terminal."""

import unicodedata
from typing import Any

import click

# control characters, which begin a terminal's commands; format characters, which reverse or hide what follows; line and
# paragraph separators; lone surrogates
_UNPRINTABLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def printable(text: str) -> str:
    """The text in one line, with each character that a terminal would obey instead of showing it as an escape."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in text
    )


def echo(text: str, **options: Any) -> None:
    """Print a line in which stored or foreign text may stand: all commands print with this."""
    click.echo(printable(text), **options)
