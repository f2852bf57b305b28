"""A projection: the columns of a table that clients see, listed once beside its model.

It gives the select list and the JSON of a row, so a new column is added once for all readers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from .columns import Id


class Projection:
    """Columns of a model, in the order in which clients see them.

    Those in `optional` come last in the list; a row in which one is NULL goes without it. Those in `as_json` hold JSON
    text, which becomes part of the answer.
    """

    def __init__(
        self, model: Any, *names: str, optional: tuple[str, ...] = (), as_json: tuple[str, ...] = ()
    ) -> None:
        self.names = (*names, *optional)
        self.columns: tuple[Any, ...] = tuple(getattr(model, name) for name in self.names)
        self._always = names
        self._optional = [
            (position, name, orjson.loads if name in as_json else None)
            for position, name in enumerate(self.names)
            if name in optional
        ]
        kinds = model.__table__.c
        self._booleans = [name for name in names if isinstance(kinds[name].type, sa.Boolean)]
        self._ids = [name for name in names if isinstance(kinds[name].type, Id)]

    def to_json(self, row: Sequence[Any]) -> dict[str, Any]:
        """The JSON of a row whose values begin with these columns.

        In the driver's types: Postgres' has one of its own for ids, which orjson writes as text.
        """
        item = dict(zip(self._always, row, strict=False))
        for name in self._booleans:  # SQLite has 0 and 1
            item[name] = bool(item[name])
        for position, name, convert in self._optional:
            if (value := row[position]) is not None:
                item[name] = convert(value) if convert else value
        return item

    def to_values(self, row: Sequence[Any]) -> dict[str, Any]:
        """As `to_json`, with ids as text, for readers that compare them."""
        item = self.to_json(row)
        for name in self._ids:
            if item[name] is not None:
                item[name] = str(item[name])
        return item

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a row that is known by name; a missing column counts as NULL."""
        return self.to_json([values.get(name) for name in self.names])
