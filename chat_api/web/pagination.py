"""Keyset pages: `limit`, `after`, `before` and the Link headers that lead on (RFC 8288).

A cursor is an item's `position`, or its id where it has none. So it stays right while others write, can be built by a
client, and costs the same in a short list and in a long one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Response, request
from marshmallow import Schema, ValidationError, fields, pre_load, validate, validates_schema

from .fields import IdField
from .responses import json_response

DEFAULT_LIMIT = 200
MAX_LIMIT = 1000
MAX_PAGE_BYTES = 4 * 1024 * 1024
FIRST_ID = "00000000-0000-0000-0000-000000000000"  # where a list that is sorted by id begins
MAX_POSITION = 2**53 - 1  # what every JSON client can count to
_CURSORS = ("limit", "after", "before", "around")

Item = TypeVar("Item")
Row = Sequence[Any]


class PageQuerySchema(Schema):
    """Base of the queries of lists; what a cursor is, each list says itself."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={"description": "Maximum number of items."},
    )

    @pre_load
    def refuse_loose_numbers(self, values: dict[str, str], **kwargs: Any) -> dict[str, str]:
        """Python's int() also takes "+5", " 5" and "1_000"; a query says 5."""
        for name, field in self.fields.items():
            text = values.get(name)
            if isinstance(field, fields.Integer) and text is not None:
                if not (text.isascii() and text.isdigit() and len(text) <= 16):
                    raise ValidationError({name: ["Not a whole number."]})
        return values

    @validates_schema
    def refuse_both_directions(self, values: dict[str, Any], **kwargs: Any) -> None:
        if "after" in values and "before" in values:
            raise ValidationError({"before": ["Use either `after` or `before`, not both."]})


def _position(description: str) -> fields.Integer:
    return fields.Integer(validate=validate.Range(0, MAX_POSITION), metadata={"description": description})


class PositionPageSchema(PageQuerySchema):
    """The query of a list whose items are numbered."""

    after = _position("Only items after this position.")
    before = _position("Only items before this position: those nearest to it, still oldest first.")


class IdPageSchema(PageQuerySchema):
    """The query of a list that is sorted by id, so by the time its items were made."""

    after = IdField(
        required=False, metadata={"description": "Only items created after the one with this id."}
    )
    before = IdField(
        required=False, metadata={"description": "Only items created before the one with this id."}
    )


@dataclass(frozen=True, slots=True)
class Page:
    """What one page asks for."""

    limit: int
    after: Any = None
    before: Any = None

    @property
    def backwards(self) -> bool:
        """Whether it reads towards the beginning of the list."""
        return self.before is not None

    def narrow(self, query: sa.Select[Any], column: Any) -> sa.Select[Any]:
        """Let a query find what lies in the page's direction of its cursor; `column` is the one of the cursors."""
        if self.after is not None:
            query = query.where(column > self.after)
        if self.before is not None:
            query = query.where(column < self.before)
        return query

    def sort(self, query: sa.Select[Any], *columns: Any) -> sa.Select[Any]:
        """Let a query read in the page's direction, one item more than the page holds."""
        order = [column.desc() if self.backwards else column.asc() for column in columns]
        return query.order_by(*order).limit(self.limit + 1)

    def listing(self, items: list[Item]) -> "Listing[Item]":
        """The page's items in the list's order, from up to `limit` + 1 that were fetched in the page's direction."""
        return self._listing(items[: self.limit], has_more=len(items) > self.limit)

    def reader(self, as_item: Callable[[Row], Item]) -> Callable[[Iterable[Row]], "Listing[Item]"]:
        """What reads a page's rows, each with its size in bytes after its columns.

        A page ends early rather than grow beyond MAX_PAGE_BYTES, but never without an item.
        """

        def read(rows: Iterable[Row]) -> "Listing[Item]":
            items: list[Item] = []
            page_bytes, limit = 0, self.limit
            for row in rows:
                page_bytes += row[-1]
                if len(items) == limit or (page_bytes > MAX_PAGE_BYTES and items):
                    return self._listing(items, has_more=True)
                items.append(as_item(row))
            return self._listing(items, has_more=False)

        return read

    def _listing(self, items: list[Item], *, has_more: bool) -> "Listing[Item]":
        if self.backwards:  # whoever comes from a later page can go back there
            return Listing(items[::-1], has_more_before=has_more, has_more_after=bool(items))
        return Listing(items, has_more_before=self.after is not None, has_more_after=has_more)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """The items of one page in the list's order, and whether others come before and after them."""

    items: list[Item]
    has_more_before: bool
    has_more_after: bool


def within_page_bytes(
    rows: sa.Select[*tuple[Any, ...]], *cursor: str, size: str, backwards: bool = False
) -> sa.Select[*tuple[Any, ...]]:
    """The rows of a page up to the one that crosses MAX_PAGE_BYTES, from which its reader knows that there are more.

    `size` and `cursor` name the columns of a row's size in bytes and of its cursor.
    """
    page = rows.subquery("page")
    order = [page.c[name].desc() if backwards else page.c[name] for name in cursor]
    running = sa.func.sum(page.c[size]).over(order_by=order).label("running_bytes")
    sized = sa.select(page, running).subquery("sized")
    columns = [column for column in sized.c if column.name != "running_bytes"]
    return sa.select(*columns).where(sized.c.running_bytes - sized.c[size] <= MAX_PAGE_BYTES)


def id_of(item: Any) -> str:
    """The cursor of a list that is sorted by id."""
    return item["id"] if isinstance(item, dict) else item.id


def position_of(item: Any) -> int:
    """The cursor of a list whose items are numbered."""
    return item["position"] if isinstance(item, dict) else item.position


def listing_response(
    page: Page, listing: Listing[Any], *, cursor: Callable[[Any], Any], schema: Schema | None = None
) -> Response:
    """The answer of a list, with the Link header that leads on. `cursor` gives that of an item.

    Without a schema the items are plain values already. References are relative to the request's URL, so no Host
    header can change them.
    """
    response = json_response(listing.items if schema is None else schema.dump(listing.items))
    before = cursor(listing.items[0]) if listing.items and listing.has_more_before else None
    after = cursor(listing.items[-1]) if listing.items and listing.has_more_after else None
    return add_link_header(response, page, before=before, after=after)


def add_link_header(response: Response, page: Page, *, before: Any, after: Any) -> Response:
    """Add the Link header: on from the cursor `after`, and back from `before`; None where there is nothing."""
    links = []
    if after is not None:
        links.append(_link("next", page, "after", after))
    if before is not None:
        links.append(_link("prev", page, "before", before))
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def _link(relation: str, page: Page, name: str, cursor: Any) -> str:
    """The same list from another cursor; one holds nothing that a URL would have to escape."""
    filters = _filters(request.query_string)
    return (
        f'<{request.script_root}{request.path}?limit={page.limit}&{name}={cursor}{filters}>; rel="{relation}"'
    )


@lru_cache(maxsize=512)
def _filters(query_string: bytes) -> str:
    """What the request's query says besides the cursors, to go on with in a link; clients repeat the same few."""
    kept = [(name, text) for name, text in request.args.items() if name not in _CURSORS]
    return f"&{urlencode(kept)}" if kept else ""
