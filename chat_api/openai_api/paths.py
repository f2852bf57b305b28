"""Paths as clients write them: with slashes that are doubled where a base URL ends with one."""

import re
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_SLASHES = re.compile("/{2,}")


class MergedSlashes:
    """A WSGI application to which several slashes below a prefix are one: a redirect would lose the body of a POST."""

    def __init__(self, app: WSGIApplication, prefix: str) -> None:
        self._app, self._prefix = app, f"{prefix}/"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[Any]:
        path = environ.get("PATH_INFO", "")
        if "//" in path and (merged := _SLASHES.sub("/", path)).startswith(self._prefix):
            environ["PATH_INFO"] = merged
        return self._app(environ, start_response)
