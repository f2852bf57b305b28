"""Titles that are the first words of messages, where these are erased or deleted."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..conversations import titles
from . import service


@contextmanager
def title_follows(*, user_id: str, conversation_id: str) -> Iterator[None]:
    """Around what erases or deletes messages of a locked conversation: a title that was made of the first words is
    made of those that are left, or there is none."""
    before = service.first_words(user_id=user_id, conversation_id=conversation_id)
    yield
    after = service.first_words(user_id=user_id, conversation_id=conversation_id)
    if after != before:
        titles.replace_words(user_id=user_id, conversation_id=conversation_id, old=before, new=after)
