"""Keyset pages: `limit`, `after`, `before` and the Link headers that lead on (RFC 8288).

A cursor is the place of an item in the list (its `position`, or its id where it has none), so it stays right
while others write, can be built by a client, and costs the same in a short list and in a long one.
"""

from dataclasses import dataclass
from typing import Any
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
_PLACES = ("limit", "after", "before", "around")


class PageQuerySchema(Schema):
    """Base of the queries of lists; what a cursor is, each list says itself."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={"description": "How many items at the most."},
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
            raise ValidationError({"before": ["Give `after` or `before`, not both."]})


def _position(description: str) -> fields.Integer:
    return fields.Integer(validate=validate.Range(0, MAX_POSITION), metadata={"description": description})


class PositionPageSchema(PageQuerySchema):
    """The query of a list whose items are numbered."""

    after = _position("Only items behind this position.")
    before = _position("Only items in front of this position: the nearest ones, still oldest first.")


class IdPageSchema(PageQuerySchema):
    """The query of a list that is sorted by id, so by the time its items were made."""

    after = IdField(required=False, metadata={"description": "Only items made after the one with this id."})
    before = IdField(required=False, metadata={"description": "Only items made before the one with this id."})


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

    def narrow(self, query: sa.Select[Any], place: Any) -> sa.Select[Any]:
        """Let a query find what lies in the page's direction of its cursor; `place` is the column of the cursors."""
        if self.after is not None:
            query = query.where(place > self.after)
        if self.before is not None:
            query = query.where(place < self.before)
        return query

    def sort(self, query: sa.Select[Any], *columns: Any) -> sa.Select[Any]:
        """Let a query read in the page's direction, one item more than the page holds."""
        order = [column.desc() if self.backwards else column.asc() for column in columns]
        return query.order_by(*order).limit(self.limit + 1)

    def cut(self, items: list[Any]) -> tuple[list[Any], bool]:
        """The page's items in the list's order, from `limit` + 1 fetched ones, and whether there are more."""
        more = len(items) > self.limit
        items = items[: self.limit]
        return (items[::-1] if self.backwards else items), more


def within_page_bytes(
    rows: sa.Select[*tuple[Any, ...]], *place: str, size: str, backwards: bool = False
) -> sa.Select[*tuple[Any, ...]]:
    """The rows of a page up to the one that crosses MAX_PAGE_BYTES, which tells its reader that there are more.

    `size` and `place` name the columns of a row's size in bytes and of its place in the list.
    """
    page = rows.subquery("page")
    order = [page.c[name].desc() if backwards else page.c[name] for name in place]
    running = sa.func.sum(page.c[size]).over(order_by=order).label("running_bytes")
    sized = sa.select(page, running).subquery("sized")
    columns = [column for column in sized.c if column.name != "running_bytes"]
    return sa.select(*columns).where(sized.c.running_bytes - sized.c[size] <= MAX_PAGE_BYTES)


def id_page(page: Page, items: list[Any], schema: Schema) -> Response:
    """The answer of a list that is sorted by id, from what the sorted query found."""
    shown, more = page.cut(items)
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return add_links(json_response(schema.dump(shown)), page, first=first, last=last, more=more)


def add_links(response: Response, page: Page, *, first: Any, last: Any, more: bool) -> Response:
    """Add the Link header. `first` and `last` are the cursors of the page's ends, None on an empty page.

    References are relative to the request's URL, so no Host header can turn them elsewhere.
    """
    if first is None:
        return response
    after = last if more or page.backwards else None
    before = first if (page.backwards and more) or page.after is not None else None
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
    """The same list from another place; a cursor holds nothing that a URL would have to escape."""
    kept = [(other, text) for other, text in request.args.items() if other not in _PLACES]
    filters = f"&{urlencode(kept)}" if kept else ""
    return (
        f'<{request.script_root}{request.path}?limit={page.limit}&{name}={cursor}{filters}>; rel="{relation}"'
    )
