"""What a search for the newest messages is given, and what it gives, whichever database it runs on."""

from dataclasses import dataclass

from ..search_index.lexemes import conversation_lexeme
from .query import Query


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """What is looked for: the newest `count` messages with these words, before the one called `before`."""

    user_id: str
    query: Query
    count: int
    before: str | None = None
    conversation_id: str | None = None

    @property
    def also(self) -> tuple[str, ...]:
        """Lexemes that are required beside the words."""
        return (conversation_lexeme(self.conversation_id),) if self.conversation_id else ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Ids of messages, newest first; and where to go on if not all was looked through, as an id."""

    ids: list[str]
    resume_before: str | None = None
