"""The answers of a turn: all messages of assistants and tools between two of a user, which some clients show as one."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ..database.statements import Statement
from ..web.pagination import Page
from . import active_path
from .active_path import BranchMessage
from .external_ids import Named
from .models import MESSAGE_OF_CLIENT
from .pages import page_of
from .service import list_of_client

ANSWERS = ("assistant", "tool")
MAX_ANSWERS = 1000  # of a turn; more are cut off
_PAGE = 200

Message = dict[str, Any]

_PAGES = {
    (all_branches, backwards): Statement(
        partial(page_of, all_branches=all_branches, backwards=backwards, columns=MESSAGE_OF_CLIENT)
    )
    for all_branches, backwards in ((False, False), (False, True), (True, False))
}


def read_path(*, user_id: str, conversation_id: str, before: int) -> Iterator[Message]:
    """The messages of the active path before a position, newest first, with what clients call them."""
    return _read(user_id, conversation_id, before=before)


def answers_up_to(*, user_id: str, conversation_id: str, message_id: str) -> list[Message]:
    """The answers of the message's turn up to itself, oldest first; none where a user has said it.

    Raises NotFound where the user has no such message in this conversation.
    """
    branch = active_path.find_branch(user_id=user_id, conversation_id=conversation_id, message_id=message_id)
    beside, is_whole = _answers_of(branch.messages)
    found = list_of_client(user_id=user_id, message_ids=[message.id for message in beside])[::-1]
    if not is_whole:
        for message in _read(user_id, conversation_id, before=branch.fork + 1):
            if message["role"] not in ANSWERS or len(found) >= MAX_ANSWERS:
                break
            found.append(message)
    return found[::-1]


def answers_after(*, user_id: str, conversation_id: str, message: Named) -> list[Message]:
    """The answers of the message's turn that follow it, oldest first; where there are several branches the newest."""
    scope = (user_id, conversation_id)
    found: list[Message] = []
    if message.is_on_path:
        for following in _read(*scope, after=message.position):
            if following["role"] not in ANSWERS or len(found) >= MAX_ANSWERS:
                break
            found.append(following)
        return found
    newest_of: dict[str | None, Message] = {}
    for following in _read(*scope, after=message.position, all_branches=True):
        if following["role"] in ANSWERS:
            newest_of[following["parent_id"]] = following
    next_one = newest_of.get(message.id)
    while next_one is not None and len(found) < MAX_ANSWERS:
        found.append(next_one)
        next_one = newest_of.get(next_one["id"])
    return found


def _answers_of(branch: Sequence[BranchMessage]) -> tuple[list[BranchMessage], bool]:
    """The answers with which a branch begins, newest first, and whether something else follows them in it."""
    for index, message in enumerate(branch):
        if message.role not in ANSWERS or index >= MAX_ANSWERS:
            return list(branch[:index]), True
    return list(branch), False


def _read(
    user_id: str,
    conversation_id: str,
    *,
    before: int | None = None,
    after: int | None = None,
    all_branches: bool = False,
) -> Iterator[Message]:
    """Messages page by page: backwards before a position, or forwards after one."""
    is_backwards, has_more = before is not None, True
    while has_more:
        cursor = before if is_backwards else after
        listing = _PAGES[all_branches, is_backwards].read(
            Page(limit=_PAGE, before=before, after=after).reader(MESSAGE_OF_CLIENT.to_values),
            user_id=user_id,
            conversation_id=conversation_id,
            cursor=cursor,
            row_limit=_PAGE + 1,
        )
        if not listing.items:
            return
        if is_backwards:
            has_more, before = listing.has_more_before, listing.items[0]["position"]
            yield from reversed(listing.items)
        else:
            has_more, after = listing.has_more_after, listing.items[-1]["position"]
            yield from listing.items
