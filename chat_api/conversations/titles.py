"""Titles of conversations that were begun without one: the first words of what was said first."""

from collections.abc import Mapping

import sqlalchemy as sa

from ..database.parameters import CONVERSATION_ID, USER_ID, given
from ..database.statements import Statement
from .models import MAX_TITLE_CHARACTERS, Conversation

TITLE = "title"  # in metadata
MAX_AUTOMATIC_CHARACTERS = 60
CUT = "…"

# whoever gives a title meanwhile is right
_SET = Statement(
    sa.update(Conversation)
    .where(Conversation.user_id == USER_ID, Conversation.id == CONVERSATION_ID, Conversation.title == "")
    .values(title=given("title", sa.String()))
)

_REPLACE = Statement(
    sa.update(Conversation)
    .where(
        Conversation.user_id == USER_ID,
        Conversation.id == CONVERSATION_ID,
        Conversation.title == given("old", sa.String()),
    )
    .values(title=given("title", sa.String()))
)


def title_in(metadata: Mapping[str, str]) -> str:
    """The title that metadata name; empty for none."""
    return metadata.get(TITLE, "")[:MAX_TITLE_CHARACTERS]


def first_words(text: str) -> str:
    """The beginning of a text on one line, cut at a word; a text without spaces is cut anywhere."""
    line = " ".join(text[: 10 * MAX_AUTOMATIC_CHARACTERS].split())
    if len(line) <= MAX_AUTOMATIC_CHARACTERS:
        return line
    head = line[: MAX_AUTOMATIC_CHARACTERS - len(CUT) + 1]
    words, space, _ = head.rpartition(" ")
    return (words if space else head[:-1]).rstrip() + CUT


def set_missing_title(*, user_id: str, conversation_id: str, text: str) -> None:
    """Give a conversation that has no title the first words of a text. Inside a transaction."""
    title = first_words(text)
    if title:
        _SET.all(user_id=user_id, conversation_id=conversation_id, title=title)


def replace_words(*, user_id: str, conversation_id: str, old: str, new: str) -> None:
    """Where the title is the first words of the old text, make it those of the new one, or none. In a transaction."""
    title = first_words(old)
    if title:
        _REPLACE.all(user_id=user_id, conversation_id=conversation_id, old=title, title=first_words(new))
