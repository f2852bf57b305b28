"""Messages of a conversation page by page: its active path, or all branches."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..conversations import service as conversations
from ..conversations.models import is_in_visible
from ..database.parameters import CONVERSATION_ID, MESSAGE_ID, ROW_LIMIT, USER_ID, given
from ..database.projection import Projection
from ..database.statements import Call, Row, Statement
from ..errors import InvalidInput, NotFound
from ..web.pagination import Listing, Page, within_page_bytes
from .conditions import IN_CONVERSATION, IN_VISIBLE, ON_PATH
from .models import MESSAGE_OF_CONVERSATION, MESSAGE_SIZE, MESSAGE_TO_SEND, Message


def page_of(
    on_postgres: bool, *, all_branches: bool, backwards: bool, columns: Projection = MESSAGE_OF_CONVERSATION
) -> sa.Executable:
    """The statement of a page by keyset.

    Postgres hands over whole results, so there the statement itself bounds their size; SQLite is read row by row, and
    a window would copy every content first.
    """
    cursor = given("cursor", sa.BigInteger())
    rows = (
        sa.select(*columns.columns, MESSAGE_SIZE.label("size"))
        .where(
            *IN_CONVERSATION,
            is_in_visible(USER_ID, CONVERSATION_ID),
            Message.position < cursor if backwards else Message.position > cursor,
        )
        .order_by(Message.position.desc() if backwards else Message.position)
        .limit(ROW_LIMIT)
    )
    if not all_branches:
        rows = rows.where(ON_PATH)
    if not on_postgres:
        return rows
    return within_page_bytes(rows, "position", size="size", backwards=backwards)


_PAGES = {
    (all_branches, backwards): Statement(partial(page_of, all_branches=all_branches, backwards=backwards))
    for all_branches in (False, True)
    for backwards in (False, True)
}
_TO_SEND = Statement(partial(page_of, all_branches=False, backwards=True, columns=MESSAGE_TO_SEND))
# by the key alone, see active_path
_POSITION_OF = Statement(
    sa.select(Message.conversation_id, Message.position, ON_PATH).where(
        Message.user_id == USER_ID, Message.id == MESSAGE_ID, IN_VISIBLE
    )
)


def list_messages(
    *, user_id: str, conversation_id: str, page: Page, all_branches: bool = False
) -> Listing[dict[str, Any]]:
    """A page of the active path, or of all branches, oldest first. Raises NotFound for an unknown conversation."""
    listing = _PAGES[all_branches, page.backwards].read(
        page.reader(MESSAGE_OF_CONVERSATION.to_json_with(conversation_id)),
        user_id=user_id,
        conversation_id=conversation_id,
        cursor=page.before if page.backwards else page.after or 0,
        row_limit=page.limit + 1,
    )
    if not listing.items:  # only an empty page needs to ask whether there is such a conversation
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    return listing


def list_to_send(*, user_id: str, conversation_id: str, before: int, limit: int) -> Listing[dict[str, Any]]:
    """The page of the active path before a position, oldest first, with what only providers get.

    Of an unknown conversation it is empty: who begins a completion locks the conversation anyway, and finds out.
    """
    (statement, parameters), read = reading_to_send(
        user_id=user_id, conversation_id=conversation_id, before=before, limit=limit
    )
    return statement.read(read, **parameters)


def reading_to_send(
    *, user_id: str, conversation_id: str, before: int, limit: int
) -> tuple[Call, Callable[[Iterable[Row]], Listing[dict[str, Any]]]]:
    """The same for Postgres in a round trip with other statements: what is to be run, and what reads its rows."""
    scope = {"user_id": user_id, "conversation_id": conversation_id}
    call = _TO_SEND, {**scope, "cursor": before, "row_limit": limit + 1}
    return call, Page(limit=limit, before=before).reader(MESSAGE_TO_SEND.to_values)


def list_around(
    *, user_id: str, conversation_id: str, message_id: str, limit: int, all_branches: bool = False
) -> Listing[dict[str, Any]]:
    """A message between its neighbours.

    Raises NotFound, and InvalidInput for a message that is not on the active path, unless `all_branches`.
    """
    scope: dict[str, Any] = {
        "user_id": user_id,
        "conversation_id": conversation_id,
        "all_branches": all_branches,
    }
    row = _POSITION_OF.first(user_id=user_id, message_id=message_id)
    if row is None or str(row[0]) != conversation_id:
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
        raise NotFound("message in this conversation")
    _, position, is_on_path = row
    if not (is_on_path or all_branches):
        detail = (
            "This message is not on the active path: use `branch=all`, or set `active_leaf_id` to it first."
        )
        raise InvalidInput({"around": [detail]})
    older = list_messages(page=Page(limit=(limit + 1) // 2, before=position + 1), **scope)
    if not older.items or older.items[-1]["position"] != position:  # deleted since, or left by the path
        raise NotFound("message in this conversation")
    newer = list_messages(page=Page(limit=max(limit - len(older.items), 1), after=position), **scope)
    if limit == len(older.items):
        return Listing(older.items, has_more_before=older.has_more_before, has_more_after=bool(newer.items))
    return Listing(
        older.items + newer.items,
        has_more_before=older.has_more_before,
        has_more_after=newer.has_more_after,
    )
