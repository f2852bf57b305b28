"""Why a document has no text."""

# codes, which are stored
ENCRYPTED, UNREADABLE, TOO_COMPLEX, TOO_SLOW, TOO_LARGE = (
    "encrypted",
    "unreadable",
    "too_complex",
    "too_slow",
    "too_large",
)
CODES = (ENCRYPTED, UNREADABLE, TOO_COMPLEX, TOO_SLOW, TOO_LARGE)


class Unextractable(Exception):
    """The text can't be taken out, for a reason that is one of CODES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class OutOfTime(Exception):
    """All CPU time is spent: what there is of the text counts."""
