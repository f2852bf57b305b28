"""Pages as OpenAI's lists have them: `after`, `limit` and `order` in the query, `has_more` in the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from marshmallow import ValidationError

from ..errors import InvalidInput, NotFound
from ..web.blueprint import query_parameters
from ..web.metadata import MAX_FILTERS, gather_filters
from ..web.pagination import MAX_LIMIT, Listing, Page
from .errors import RequestRefused

ORDERS = ("asc", "desc")
BOOLEANS = {"true": True, "false": False}
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

Item = TypeVar("Item")


class PageQuery(NamedTuple):
    """What a list is asked for. `after` is the id of the last item of the page before, as the client has it."""

    limit: int
    is_newest_first: bool
    after: str | None

    def by_id(self, after: str | None, *, last: Any = LAST_ID) -> Page:
        """The page of a list that is sorted by what `after` is; in a list newest first it lies before that."""
        if self.is_newest_first:
            return Page(self.limit, before=after or last)
        return Page(self.limit, after=after)

    def listed(self, listing: Listing[Item]) -> tuple[list[Item], bool]:
        """The items in the order that is asked for, and whether there are more."""
        if self.is_newest_first:
            return listing.items[::-1], listing.has_more_before
        return listing.items, listing.has_more_after


def read_page(*, default_limit: int, max_limit: int, default_order: str = "desc") -> PageQuery:
    """The page that the request asks for; of a very large one the first MAX_LIMIT. Raises RequestRefused."""
    values = query_values()
    limit = values.get("limit") or str(default_limit)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= max_limit):
        raise RequestRefused(f"limit must be a number of 1 to {max_limit}.", param="limit")
    order = values.get("order") or default_order
    if order not in ORDERS:
        raise RequestRefused("order must be asc or desc.", param="order")
    return PageQuery(min(int(limit), MAX_LIMIT), order == "desc", values.get("after") or None)


def query_values() -> Mapping[str, str]:
    """The query's parameters; of one that is repeated the last. Raises InvalidInput."""
    values = {name: texts[-1] for name, texts in query_parameters().lists()}
    if "\x00" in "".join([*values, *values.values()]):
        raise InvalidInput(detail="The query must not contain NUL characters.")
    return values


def filters_in(values: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a query, with the pairs of `metadata[key]=value` as `metadata`. Raises RequestRefused."""
    try:
        return gather_filters(values)
    except ValidationError:
        raise RequestRefused(f"metadata: more than {MAX_FILTERS} pairs.", param="metadata") from None


def flag_in(values: Mapping[str, str], name: str) -> bool | None:
    """A parameter that is true or false, None where it is not given. Raises RequestRefused."""
    text = values.get(name)
    if text not in (None, *BOOLEANS):
        raise RequestRefused(f"{name} must be true or false.", param=name)
    return None if text is None else BOOLEANS[text]


def included() -> set[str]:
    """What the query asks to include, in whichever of the ways that SDKs write lists."""
    found = [
        text
        for name, texts in query_parameters().lists()
        if name in ("include", "include[]")
        for text in texts
    ]
    return {each for text in found for each in text.split(",")}


def page_object(
    query: PageQuery,
    items: Sequence[dict[str, Any]],
    *,
    find: Callable[[Sequence[dict[str, Any]], str], dict[str, Any] | None],
    kind: str,
) -> dict[str, Any]:
    """A page of all of a list, which is oldest first; `find` finds what `after` names. Raises NotFound of the kind."""
    listed = [*items][::-1] if query.is_newest_first else [*items]
    if query.after is not None:
        last = find(listed, query.after)
        if last is None:
            raise NotFound(kind)
        listed = listed[listed.index(last) + 1 :]
    return list_object(listed[: query.limit], has_more=len(listed) > query.limit)


def list_object(items: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page as clients get it."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}
