"""A projection: the columns of a table that clients see, listed once beside its model.

It gives the select list and the JSON of a row, so a new column is added once for all readers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from .columns import Id

ToJson = Callable[[Sequence[Any]], dict[str, Any]]


class Projection:
    """Columns of a model, in the order in which clients see them.

    Those in `optional` come last in the list; a row in which one is NULL goes without it. Those in `as_json` hold JSON
    text, which becomes part of the answer. `objects` are columns with a JSON object or NULL, which clients see as an
    object, under the name that is given. `known` are not read: the same for all rows, see `without`.
    """

    to_json: ToJson
    """The JSON of a row whose values begin with these columns; where some are known, `to_json_with` makes it.

    In the driver's types: Postgres' has one of its own for ids, which orjson writes as text.
    """

    def __init__(
        self,
        model: Any,
        *names: str,
        optional: tuple[str, ...] = (),
        as_json: tuple[str, ...] = (),
        objects: Mapping[str, str] | None = None,
        known: tuple[str, ...] = (),
    ) -> None:
        self._model, self._always, self._optional = model, names, optional
        self._as_json, self._objects, self._known = as_json, objects or {}, known
        self.names = tuple(name for name in (*names, *optional) if name not in known)
        self.columns: tuple[Any, ...] = tuple(getattr(model, name) for name in self.names)
        kinds = model.__table__.c
        self._booleans = {name for name in names if isinstance(kinds[name].type, sa.Boolean)}
        self._ids = [name for name in names if isinstance(kinds[name].type, Id)]
        # makes `to_json`, from the values of the known columns in their order
        self.to_json_with: Callable[..., ToJson] = self._maker()
        if not known:
            self.to_json = self.to_json_with()

    def without(self, *known: str) -> "Projection":
        """The same without columns that whoever reads the rows knows: all of one conversation have its id."""
        return Projection(
            self._model,
            *self._always,
            optional=self._optional,
            as_json=self._as_json,
            objects=self._objects,
            known=known,
        )

    def to_values(self, row: Sequence[Any], *known: Any) -> dict[str, Any]:
        """As `to_json`, or `to_json_with`, with ids as text, for readers that compare them."""
        item = self.to_json_with(*known)(row)
        for name in self._ids:
            if item[name] is not None:
                item[name] = str(item[name])
        return item

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a row that is known by name; a missing column counts as NULL."""
        return self.to_json(tuple(values.get(name) for name in self.names))

    def _maker(self) -> Callable[..., ToJson]:
        """What makes `to_json`, written out: in a page of 50 messages zip takes 30 us longer, and a call for each
        part of it 5 us. SQLite has 0 and 1 for booleans."""
        places = {name: f"row[{position}]" for position, name in enumerate(self.names)}
        items = ", ".join(
            f"{self._objects.get(name, name)!r}: {self._expression(name, places)}" for name in self._always
        )
        source = f"{{{items}}}"
        if self._optional:
            first, last = len(self.names) - len(self._optional), len(self.names)
            source = f"{source} if row[{first}:{last}] == nothing else with_optional({source}, row)"
        source = f"lambda {', '.join(self._known)}: lambda row: {source}"
        names = {
            "loads": orjson.loads,
            "nothing": (None,) * len(self._optional),
            "with_optional": self._with_optional,
        }
        maker: Callable[..., ToJson]
        maker = eval(source, names)  # noqa: S307 - names of columns  # nosec B307
        return maker

    def _expression(self, name: str, places: Mapping[str, str]) -> str:
        if name in self._known:
            return name
        if name in self._booleans:
            return f"bool({places[name]})"
        if name in self._objects:
            return f"loads({places[name]}) if {places[name]} else {{}}"
        return places[name]

    def _with_optional(self, item: dict[str, Any], row: Sequence[Any]) -> dict[str, Any]:
        first = len(self.names) - len(self._optional)
        for name, value in zip(self._optional, row[first : len(self.names)], strict=True):
            if value is not None:
                item[name] = orjson.loads(value) if name in self._as_json else value
        return item
