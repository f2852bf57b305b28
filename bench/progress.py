"""Says on stderr what is going on: in a terminal on one line, which the next one overwrites."""

import sys


def progress(text: str) -> None:
    """Say it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr)


def clear_progress() -> None:
    """Make room for what is printed next."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
