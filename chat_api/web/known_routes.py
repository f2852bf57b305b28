"""Routes that were found before, by what is left of a path without its ids."""

import re
from functools import cached_property
from typing import Any

from flask import Request
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wsgi import get_host

from .fields import UUID_PATTERN

_ID = re.compile(f"({UUID_PATTERN.strip('^$')})")
_PARAMETER = re.compile("<(?:([^:>]+):)?([^>]+)>")
KnownRoutes = dict[tuple[str, ...], tuple[Rule, tuple[str, ...]]]
"""By method and the texts around the ids of a path: its rule, and the names of the ids."""


class Routes:
    """The routes, bound to a request. All but `match` is werkzeug's own adapter, which is made when it is needed.

    A path whose texts around the ids are known has the same rule as the one before, so it is not looked for: werkzeug
    goes through the path part by part, with a pattern for each id. Other routes are remembered as little as paths
    that werkzeug would correct, so there are at most two for each rule and method: with and without a slash at the end.
    """

    def __init__(self, routes: Map, request: Request, known: KnownRoutes) -> None:
        self._routes, self._request, self._known = routes, request, known

    def match(self, *args: Any, **options: Any) -> tuple[Rule, dict[str, Any]]:
        """The rule for the request's path and method, and its arguments. Raises werkzeug's exceptions."""
        if args or options != {"return_rule": True}:
            return self._adapter.match(*args, **options)
        path, method = self._request.path, self._request.method
        texts = _ID.split(path)  # texts and ids in turn
        ids = [id_.lower() for id_ in texts[1::2]]
        shape = (method, *texts[::2])
        known = self._known.get(shape)
        if known is not None:
            return known[0], dict(zip(known[1], ids, strict=True))
        rule, arguments = self._adapter.match(return_rule=True)
        names = _names_of_ids(rule)
        if names is not None and list(arguments.items()) == list(zip(names, ids, strict=False)):
            if len(ids) == len(names) and "//" not in path:
                self._known[shape] = rule, names
        return rule, dict(arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    @cached_property
    def _adapter(self) -> MapAdapter:
        """Bound as Flask does where there is one host, which looks for parts of the environment that the request has
        read already, and encodes the host's name."""
        request = self._request
        host, query = get_host(request.environ), request.query_string.decode("latin-1")
        return MapAdapter(
            self._routes, host, request.root_path, "", request.scheme, request.path, request.method, query
        )


def _names_of_ids(rule: Rule) -> tuple[str, ...] | None:
    """The names of a rule's parameters if all are ids."""
    parameters = _PARAMETER.findall(rule.rule)
    if any(converter != "id" for converter, _ in parameters):
        return None
    return tuple(name for _, name in parameters)
