"""Searches a user's messages, and reads those that were found."""

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..conversations import service as conversations
from ..conversations.models import CONVERSATION, IS_VISIBLE, Conversation
from ..database.dialect import is_postgres
from ..database.parameters import USER_ID, given
from ..database.session import db
from ..database.statements import Statement
from ..messages.models import MESSAGE, Message
from ..server.slots import Slots
from ..web.pagination import MAX_PAGE_BYTES, Page
from . import postgres, sqlite
from .candidates import IndexQuery
from .documents import find_matches
from .matching import Matcher
from .query import Query, parse
from .ranking import ids_parameter, most_relevant
from .snippets import Excerpt, beginning_of, excerpt_of

RANKED = 1000  # so many of the newest matches are sorted by relevance
SNIPPETS_S = 0.1  # for the snippets of a page
MAX_SEARCHES_PER_USER = 2  # at the same time, in each worker

search_slots = Slots(
    16,
    full="This server is at its limit of concurrent searches; retry.",
    limit_per_user=MAX_SEARCHES_PER_USER,
    full_for_user=f"You already have {MAX_SEARCHES_PER_USER} searches running here; wait for one to finish.",
)


@dataclass(frozen=True, slots=True)
class Search:
    """What one page of a search asks for."""

    q: str
    limit: int
    sort: str = "newest"
    after: str | None = None
    conversation_id: str | None = None


_WIDTH = len(MESSAGE.columns)  # of a message in a row; its conversation and its size follow


def _rows_of(on_postgres: bool) -> sa.Executable:
    """Messages with conversations and sizes, in the order of a list of ids. Postgres bounds their size itself."""
    ids: Any = given("ids", sa.Text())
    size_before: Any
    if on_postgres:
        array = sa.cast(ids, postgresql.ARRAY(postgresql.UUID(as_uuid=False)))
        listed = sa.func.unnest(array).table_valued("value", with_ordinality="key", name="listed")
        listed = listed.render_derived()
        size_before = sa.func.sum(Message.size_bytes).over(order_by=listed.c.key) - Message.size_bytes
    else:  # read row by row
        listed = sa.func.json_each(ids).table_valued("value", "key", name="listed")
        size_before = sa.literal_column("0")
    columns: list[Any] = [*MESSAGE.columns, *CONVERSATION.columns, Message.size_bytes]
    is_message = (Message.user_id == USER_ID, Message.id == listed.c.value)
    is_its = (Conversation.user_id == Message.user_id, Conversation.id == Message.conversation_id)
    rows = (
        sa.select(
            *(column.label(f"column_{number}") for number, column in enumerate(columns)),
            listed.c.key.label("rank"),
            size_before.label("size_before"),
        )
        .select_from(listed)
        .join(Message, sa.and_(*is_message))
        .join(Conversation, sa.and_(*is_its, IS_VISIBLE))
        .subquery("rows")
    )
    selected = list(rows.c)[: len(columns)]
    return sa.select(*selected).where(rows.c.size_before <= MAX_PAGE_BYTES).order_by(rows.c.rank)


_ROWS = Statement(_rows_of)


def search_messages(*, user_id: str, search: Search) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the messages that match, and the id before which there may be older ones.

    A page ends early rather than grow beyond MAX_PAGE_BYTES, or take long. Raises InvalidInput for a query without
    words, and NotFound where the user has no such conversation.
    """
    query = parse(search.q)
    by_relevance = search.sort == "relevance"
    count = RANKED if by_relevance else search.limit + 1
    index_query = IndexQuery(user_id, query, count, search.after, search.conversation_id)
    found = (postgres if is_postgres(db.engine) else sqlite).find_newest(index_query)
    ids = found.ids
    if by_relevance:
        ids = most_relevant(user_id=user_id, message_ids=ids, query=query, count=search.limit)
    page = _page(user_id, ids[: search.limit])
    if not page and search.conversation_id:
        conversations.require_conversation(user_id=user_id, conversation_id=search.conversation_id)
    _add_snippets(page, user_id, query, is_ranked=by_relevance)
    if by_relevance:
        return page, None
    if page and (len(ids) > search.limit or page[-1]["message"]["id"] != ids[-1]):
        return page, page[-1]["message"]["id"]
    if len(ids) > search.limit:  # these are of conversations that are being imported or deleted
        return page, ids[search.limit - 1]
    return page, found.resume_before


def _add_snippets(page: list[dict[str, Any]], user_id: str, query: Query, *, is_ranked: bool) -> None:
    """Add the snippet of each message, as long as there is time; it is that of a document where the content has less of
    what was searched for.

    Then a page by time ends, and a `Link` goes on. A page by relevance has no further one: the rest of its messages
    get their beginnings as snippets.
    """
    deadline = time.monotonic() + SNIPPETS_S
    matcher = Matcher(query)
    in_documents: dict[str, Excerpt] = {}  # messages whose content is not all that matches
    for index, item in enumerate(page):
        content = item["message"]["content"]
        if index and time.monotonic() > deadline:
            if not is_ranked:
                del page[index:]
                break
            item["snippet"] = beginning_of(content)
            continue
        excerpt = excerpt_of(content, matcher)
        item["snippet"] = excerpt.snippet
        if excerpt.phrases < matcher.count:
            in_documents[item["message"]["id"]] = excerpt
    _add_documents(page, user_id, query, matcher, in_documents)


def _add_documents(
    page: list[dict[str, Any]], user_id: str, query: Query, matcher: Matcher, found: dict[str, Excerpt]
) -> None:
    deadline = time.monotonic() + SNIPPETS_S
    documents = find_matches(
        user_id=user_id, message_ids=list(found), matcher=matcher, query=query, deadline=deadline
    )
    for item in page:
        document = documents.get(item["message"]["id"])
        if document is not None and document.excerpt.phrases > found[item["message"]["id"]].phrases:
            item["snippet"] = document.excerpt.snippet
            item["attachment_id"], item["file_name"] = document.attachment_id, document.file_name


def _page(user_id: str, ids: list[str]) -> list[dict[str, Any]]:
    """These messages with their conversations, as many as go on a page."""
    if not ids:
        return []
    page = Page(len(ids))
    return _ROWS.read(page.reader(_found), user_id=user_id, ids=ids_parameter(ids)).items


def _found(row: Any) -> dict[str, Any]:
    return {
        "message": MESSAGE.to_values(row),
        "conversation": CONVERSATION.to_values(row[_WIDTH:]),
    }
