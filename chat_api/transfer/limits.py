"""How much may be read of one file, and what an import raises where that ends or a file is not what it should be.

An honest export stays far below each of these; a file made to be expensive costs what an honest one of its size does.
"""

from ..errors import InvalidInput
from ..messages.schemas import MAX_CONTENT_BYTES

# of an export of ChatGPT, which is read conversation by conversation; parsed it takes several times as much
MAX_CONVERSATION_BYTES = 12 * 1024 * 1024
MAX_NODES = 50_000  # of a conversation of ChatGPT
MAX_ELEMENTS = 100_000  # of an export of ChatGPT: conversations, or what stands in their place
# Of JSON that is parsed at once: a conversation of ChatGPT, or a line of our own. A completion's may have most of all:
# three for each part of its outline, and one for each two bytes of its problem.
MAX_VALUES = 500_000
# JSON of more than this is parsed one at a time: of a conversation on the whole machine, of a line in each process
LARGE_BYTES = 256 * 1024
MAX_FAULTS = 1000  # after them nothing more is read
# of a zip
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_ENTRIES = 50_000
MAX_RATIO = (
    100  # to how many times its size it may unpack; text of conversations unpacks to 5 to 20 times its size
)
ALWAYS_UNPACKED_BYTES = 1024 * 1024
# CPU time for reading, without storing; an ordinary export takes 0.05 to 0.3 s per MiB
READING_S = 5.0
READING_S_PER_MIB = 1.0
# time for storing, also where it waits for the database and others: SQLite takes 1 to 2 s per MiB, half of it rests
STORING_S = 120.0
STORING_S_PER_MIB = 30.0
MAX_PROVIDERS = 1000  # in one file; their ids are kept in memory

TOO_MANY_ERRORS, TOO_MANY_CONVERSATIONS = "too_many_errors", "too_many_conversations"
TOO_SLOW, UNPACKS_TOO_FAR = "too_slow", "unpacks_too_far"
REASONS = (TOO_MANY_ERRORS, TOO_MANY_CONVERSATIONS, TOO_SLOW, UNPACKS_TOO_FAR)


def longest_line(max_reply_bytes: int) -> int:
    """How long a line of our own may be, in bytes: six times its text where all is escaped, and what is around it."""
    return 8 * max(MAX_CONTENT_BYTES, max_reply_bytes)


class UnreadableFile(InvalidInput):
    """The file can't be read, or not any further; of a zip, one of the files in it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)


class ReadingEnded(InvalidInput):
    """A limit is reached: nothing more is read, whatever the file still has."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail=detail)
        self.reason = reason
