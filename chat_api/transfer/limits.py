"""How large what is read may be, and what an import raises where a file is not what it should be."""

from ..errors import InvalidInput

# of an export of ChatGPT, which is read conversation by conversation; parsed it takes several times as much
MAX_CONVERSATION_BYTES = 32 * 1024 * 1024
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024  # of a zip: some hundred thousand files
MAX_PROVIDERS = 1000  # in one file; their ids are kept in memory
# a line is so many times as long as its text may be: six where all is escaped, and what is around it
LINE_OVERHEAD = 8


class UnreadableFile(InvalidInput):
    """The file can't be read, or not any further."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)
