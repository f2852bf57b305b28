"""Messages of a conversation page by page: its active path, or all branches."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ..conversations import service as conversations
from ..database.statements import Statement
from ..errors import InvalidInput, NotFound
from ..web.pagination import MAX_PAGE_BYTES, Page, within_page_bytes
from .active_path import HERE, MESSAGE, ON_PATH, OWNER
from .models import Message
from .service import shown


def _page(on_postgres: bool, *, all_branches: bool, backwards: bool) -> sa.Executable:
    """A page by keyset. Postgres hands over whole results, so there the statement itself bounds their size;
    SQLite is read row by row, and a window would copy every content first."""
    cursor = sa.bindparam("cursor", type_=sa.BigInteger())
    rows = (
        sa.select(
            Message.id,
            Message.parent_id,
            Message.position,
            Message.role,
            Message.content,
            Message.status,
            Message.created_at,
            Message.tool_calls,
            Message.tool_call_id,
            Message.size_bytes,
        )
        .where(*HERE, Message.position < cursor if backwards else Message.position > cursor)
        .order_by(Message.position.desc() if backwards else Message.position)
        .limit(sa.bindparam("limit_", type_=sa.Integer()))
    )
    if not all_branches:
        rows = rows.where(ON_PATH)
    if not on_postgres:
        return rows
    return within_page_bytes(rows, "position", size="size_bytes", backwards=backwards)


def _statement(all_branches: bool, backwards: bool) -> Statement:
    return Statement(lambda on_postgres: _page(on_postgres, all_branches=all_branches, backwards=backwards))


_PAGES = {(every, back): _statement(every, back) for every in (False, True) for back in (False, True)}
# by the key alone, see branches
_PLACE = Statement(
    sa.select(Message.conversation_id, Message.position, ON_PATH).where(
        Message.user_id == OWNER, Message.id == MESSAGE
    )
)


def list_messages(
    *, user_id: str, conversation_id: str, page: Page, all_branches: bool = False
) -> tuple[list[dict[str, Any]], bool]:
    """A page of the active path, or of all branches, oldest first; and whether there are more in its direction.

    A page ends early rather than grow beyond MAX_PAGE_BYTES. Raises NotFound where the user has no such
    conversation.
    """

    def read(rows: Iterable[Any]) -> tuple[list[dict[str, Any]], bool]:
        messages: list[dict[str, Any]] = []
        page_bytes = 0
        for message_id, *row, size_bytes in rows:
            page_bytes += size_bytes
            if len(messages) == page.limit or (page_bytes > MAX_PAGE_BYTES and messages):
                return messages, True
            messages.append(shown(message_id, conversation_id, *row))
        return messages, False

    messages, more = _PAGES[all_branches, page.backwards].read(
        read,
        owner=user_id,
        conversation=conversation_id,
        cursor=page.before if page.backwards else page.after or 0,
        limit_=page.limit + 1,
    )
    if not messages:  # only an empty page needs to ask whether there is such a conversation
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
    if page.backwards:
        messages.reverse()
    return messages, more


def list_around(
    *, user_id: str, conversation_id: str, message_id: str, limit: int, all_branches: bool = False
) -> tuple[list[dict[str, Any]], bool, bool]:
    """A message amid its neighbours, and whether there are more in front of them and behind them.

    Raises NotFound, and InvalidInput for a message that is not on the active path, unless all branches are asked for.
    """
    place: dict[str, Any] = {
        "user_id": user_id,
        "conversation_id": conversation_id,
        "all_branches": all_branches,
    }
    row = _PLACE.first(owner=user_id, message=message_id)
    if row is None or str(row[0]) != conversation_id:
        conversations.require_conversation(user_id=user_id, conversation_id=conversation_id)
        raise NotFound("message in this conversation")
    _, position, is_on_path = row
    if not (is_on_path or all_branches):
        told = "This message is not on the active path: ask with `branch=all`, or let `active_leaf_id` lead there."
        raise InvalidInput({"around": [told]})
    older, more_older = list_messages(page=Page(limit=(limit + 1) // 2, before=position + 1), **place)
    if not older or older[-1]["position"] != position:  # deleted meanwhile, or left by the path
        raise NotFound("message in this conversation")
    newer, more_newer = list_messages(page=Page(limit=max(limit - len(older), 1), after=position), **place)
    if limit == len(older):
        return older, more_older, bool(newer)
    return older + newer, more_older, more_newer
