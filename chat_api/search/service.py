"""Searching a user's messages, and what is shown of those that were found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..conversations import service as conversations
from ..conversations.models import Conversation
from ..database.columns import Id
from ..database.dialect import is_postgres
from ..database.session import db
from ..database.statements import Statement
from ..messages import service as messages
from ..messages.models import Message
from ..web.pagination import MAX_PAGE_BYTES
from . import postgres, sqlite
from .candidates import IndexQuery
from .query import parse
from .ranking import ids_parameter, most_relevant
from .snippets import snippet_of

RANKED = 1000  # so many of the newest matches are sorted by relevance


@dataclass(frozen=True, slots=True)
class Search:
    """What one page of a search asks for."""

    q: str
    limit: int
    sort: str = "newest"
    after: str | None = None
    conversation_id: str | None = None


_MESSAGE = tuple(messages.READ.selected_columns)
_CONVERSATION = tuple(conversations.READ.selected_columns)


def _shown_rows(on_postgres: bool) -> sa.Executable:
    """Messages with their sizes and conversations, in the order of a list of ids. Postgres bounds their size itself."""
    ids: Any = sa.bindparam("ids", type_=sa.Text())
    size_before: Any
    if on_postgres:
        array = sa.cast(ids, postgresql.ARRAY(postgresql.UUID(as_uuid=False)))
        wanted = sa.func.unnest(array).table_valued("value", with_ordinality="key", name="wanted")
        wanted = wanted.render_derived()
        size_before = sa.func.sum(Message.size_bytes).over(order_by=wanted.c.key) - Message.size_bytes
    else:  # read row by row
        wanted = sa.func.json_each(ids).table_valued("value", "key", name="wanted")
        size_before = sa.literal_column("0")
    columns: list[Any] = [*_MESSAGE, Message.size_bytes, *_CONVERSATION]
    is_message = (Message.user_id == sa.bindparam("owner", type_=Id()), Message.id == wanted.c.value)
    is_its = (Conversation.user_id == Message.user_id, Conversation.id == Message.conversation_id)
    rows = (
        sa.select(
            *(column.label(f"column_{number}") for number, column in enumerate(columns)),
            wanted.c.key.label("place"),
            size_before.label("size_before"),
        )
        .select_from(wanted)
        .join(Message, sa.and_(*is_message))
        .join(Conversation, sa.and_(*is_its))
        .subquery("rows")
    )
    shown = list(rows.c)[: len(columns)]
    return sa.select(*shown).where(rows.c.size_before <= MAX_PAGE_BYTES).order_by(rows.c.place)


_SHOWN = Statement(_shown_rows)


def search_messages(*, user_id: str, search: Search) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the messages with the words that are asked for, and the id before which there may be older ones.

    A page ends early rather than grow beyond MAX_PAGE_BYTES, or take long. Raises InvalidInput for a query without
    words, and NotFound where the user has no such conversation.
    """
    query = parse(search.q)
    on_postgres = is_postgres(db.engine)
    by_relevance = search.sort == "relevance"
    count = RANKED if by_relevance else search.limit + 1
    wanted = IndexQuery(user_id, query, count, search.after, search.conversation_id)
    found = postgres.find_newest(wanted) if on_postgres else sqlite.find_newest(wanted)
    ids = found.ids
    if not ids and search.conversation_id:
        conversations.require_conversation(user_id=user_id, conversation_id=search.conversation_id)
    if by_relevance:
        ids = most_relevant(user_id=user_id, message_ids=ids, query=query, count=search.limit)
    page = _page(user_id, ids[: search.limit])
    for item in page:
        item["snippet"] = snippet_of(item["message"]["content"], query)
    if by_relevance:
        return page, None
    if page and (len(ids) > search.limit or page[-1]["message"]["id"] != ids[-1]):
        return page, page[-1]["message"]["id"]
    return page, found.resume_before


def _page(user_id: str, ids: list[str]) -> list[dict[str, Any]]:
    """These messages with their conversations, as many as go on a page."""
    if not ids:
        return []

    def read(rows: Iterable[Any]) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = []
        page_bytes = 0
        for row in rows:
            page_bytes += row[len(_MESSAGE)]
            if page_bytes > MAX_PAGE_BYTES and page:
                break
            page.append(_found(user_id, row))
        return page

    return _SHOWN.read(read, owner=user_id, ids=ids_parameter(ids))


def _found(user_id: str, row: Any) -> dict[str, Any]:
    return {
        "message": messages.shown_row(row[: len(_MESSAGE)]),
        "conversation": conversations.shown(user_id, row[len(_MESSAGE) + 1 :]),
    }
