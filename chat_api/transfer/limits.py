"""How large what is read may be, and what an import raises where a file is not what it should be."""

from ..errors import InvalidInput
from ..messages.schemas import MAX_CONTENT_BYTES

# of an export of ChatGPT, which is read conversation by conversation; parsed it takes several times as much
MAX_CONVERSATION_BYTES = 32 * 1024 * 1024
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024  # of a zip: some hundred thousand files
MAX_PROVIDERS = 1000  # in one file; their ids are kept in memory


def longest_line(max_reply_bytes: int) -> int:
    """How long a line of our own may be, in bytes: six times its text where all is escaped, and what is around it."""
    return 8 * max(MAX_CONTENT_BYTES, max_reply_bytes)


class UnreadableFile(InvalidInput):
    """The file can't be read, or not any further."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)
