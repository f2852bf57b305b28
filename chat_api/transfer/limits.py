"""How large what is read may be, and what an import raises where a file is not what it should be."""

from ..errors import InvalidInput

MAX_CONVERSATION_BYTES = (
    64 * 1024 * 1024
)  # of an export of ChatGPT, which is read conversation by conversation
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024  # of a zip: some hundred thousand files
MAX_PROVIDERS = 1000  # in one file; their ids are kept in memory
LINE_OVERHEAD = (
    8  # a text of so many times its bytes in JSON: six where all is escaped, and what is around it
)


class UnreadableFile(InvalidInput):
    """The file can't be read, or not any further."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)
