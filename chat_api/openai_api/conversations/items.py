"""The items of a conversation: those of the messages of its active path, page by page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...completions.turns import Draft, append_stored, stored_within_quota
from ...database.session import db
from ...errors import NotFound
from ...messages import pages
from ...messages import service as messages
from ...search_index.writer import Words, words_of
from ...web.pagination import MAX_POSITION, Page
from .. import ids
from ..items_out import Item, find_item
from ..pages import PageQuery
from ..shown_files import Address
from ..stored_items import items_of


class Found(NamedTuple):
    """An item, and the message that it belongs to."""

    items: list[Item]  # of the message
    place: int  # of the item among them
    message: dict[str, Any]

    @property
    def item(self) -> Item:
        """The item."""
        return self.items[self.place]


def list_items(
    *, user_id: str, conversation_id: str, query: PageQuery, address: Address | None = None
) -> tuple[list[Item], bool]:
    """A page of the items, and whether there are more. Raises NotFound, also for an item that it should follow.

    `address` is that of a picture in them.
    """
    cursor = MAX_POSITION if query.is_newest_first else 0
    found: list[Item] = []
    if query.after is not None:
        cursor, found = _rest_of_message(user_id, conversation_id, query, address)
    while len(found) <= query.limit:
        count = query.limit + 1 - len(found)
        page = Page(count, before=cursor) if query.is_newest_first else Page(count, after=cursor)
        listing = pages.list_messages(user_id=user_id, conversation_id=conversation_id, page=page)
        if not listing.items:
            break
        stored = [{**message, "id": str(message["id"])} for message in listing.items]
        items = items_of(user_id=user_id, stored=stored, address=address)
        found += items[::-1] if query.is_newest_first else items
        has_more = listing.has_more_before if query.is_newest_first else listing.has_more_after
        if not has_more:
            break
        cursor = listing.items[0 if query.is_newest_first else -1]["position"]
    return found[: query.limit], len(found) > query.limit


def _rest_of_message(
    user_id: str, conversation_id: str, query: PageQuery, address: Address | None
) -> tuple[int, list[Item]]:
    """The position of the message whose item the page follows, and those of its items that come after that."""
    named = query.after or ""
    wanted = ids.read_item(named)
    if wanted is None:
        raise NotFound("item")
    message = _on_path(user_id, conversation_id, wanted.message_id)
    items = items_of(user_id=user_id, stored=[message], address=address)
    if query.is_newest_first:
        items.reverse()
    place = next((place for place, item in enumerate(items) if item == find_item(items, named)), None)
    if place is None:
        raise NotFound("item")
    return message["position"], items[place + 1 :]


def get_item(*, user_id: str, conversation_id: str, named: str, address: Address | None = None) -> Found:
    """An item of the conversation. Raises NotFound."""
    wanted = ids.read_item(named)
    if wanted is None:
        raise NotFound("item")
    message = _on_path(user_id, conversation_id, wanted.message_id)
    items = items_of(user_id=user_id, stored=[message], address=address)
    item = find_item(items, named)
    if item is None:
        raise NotFound("item")
    return Found(items, items.index(item), message)


def _on_path(user_id: str, conversation_id: str, message_id: str) -> dict[str, Any]:
    try:
        message = messages.get_message(user_id=user_id, message_id=message_id)
    except NotFound:
        raise NotFound("item") from None
    is_its = str(message["conversation_id"]) == conversation_id
    if not is_its or not messages.is_on_path(user_id=user_id, message_id=message_id):
        raise NotFound("item")
    return message


def append(
    *, user_id: str, conversation_id: str, drafts: Sequence[Draft], words: Sequence[Words]
) -> list[dict[str, Any]]:
    """Append messages at the end of the active path, all in the session's transaction, and return them.

    A client that keeps a conversation itself also sends it as the history of requests, and then appends the replies.
    So these are not recognised: what came of such a request would be in the conversation twice. Raises NotFound and
    QuotaExceeded.
    """
    db.session.connection()  # begins the transaction
    rows = stored_within_quota(user_id=user_id, drafts=drafts)
    return append_stored(
        user_id=user_id, conversation_id=conversation_id, rows=rows, words=words, is_recognised=False
    )


def all_words_of(drafts: Sequence[Draft]) -> list[Words]:
    """The words of messages, by which they are found; computed before the transaction."""
    return [words_of(draft.content) for draft in drafts]
