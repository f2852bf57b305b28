"""The application class: whatever Flask does after a view has returned is best effort, see `errors.BestEffort`.

A response that exists is sent, however its headers, its log line, its count, the end of the session and the release
of slots go: a client that gets an error would send a request again whose work is committed.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Self

import flask
from flask import Flask
from flask.globals import request_ctx
from flask.signals import appcontext_tearing_down, request_tearing_down
from werkzeug.datastructures import Headers
from werkzeug.routing import Rule

from ..errors import BestEffort
from .known_routes import KnownRoutes, Routes

# made once: they keep nothing, and each request would make them anew
_HOOK = BestEffort("a hook after the request")
_REQUEST_TEARDOWN = BestEffort("a teardown of the request")
_CONTEXT_TEARDOWN = BestEffort("a teardown of the application context")


class Response(flask.Response):
    """A response all of whose `call_on_close` functions are called, also where one fails."""

    @classmethod
    def whole(cls, body: bytes, *headers: tuple[str, str]) -> Self:
        """One with status 200 and these headers, as `__init__` makes it in several times as long: that looks
        whether they hold line ends, as gunicorn does once more."""
        response = cls.__new__(cls)
        response.headers = Headers()
        response.headers._list = [*headers, ("Content-Length", str(len(body)))]
        response._status, response._status_code = "200 OK", 200
        response.response, response.direct_passthrough, response._on_close = [body], False, []
        return response

    def get_wsgi_response(self, environ: Any) -> Any:
        """What the server sends. A whole body goes out as it is: werkzeug copies and searches the headers, whose
        Location is a URI already, and wraps the body, which nobody waits for."""
        is_whole = self.status_code in (200, 201) and self.is_sequence and not self._on_close
        if is_whole and environ["REQUEST_METHOD"] != "HEAD":
            headers = self.headers.to_wsgi_list()
            for name, _ in headers:
                if name == "Content-Length":
                    return self.response, self.status, headers
        return super().get_wsgi_response(environ)

    def close(self) -> None:
        """Called by the server when the response is sent, or the client has left."""
        close = getattr(self.response, "close", None)
        for step in (close, *self._on_close) if close is not None else self._on_close:
            with BestEffort("closing a response"):
                step()


class Request(flask.Request):
    """A request whose temporary files may fail to close."""

    def close(self) -> None:
        """Called by Flask when the response is made."""
        if "files" in self.__dict__:  # a form was read
            with BestEffort("closing a request"):
                super().close()


class Route(Rule):
    """A route that is matched. The code that builds addresses is written when one is built, which nothing here does:
    for all routes it would take 15 ms of each start."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_builder = super()._compile_builder

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            return compile_builder(append_unknown)(rule, **values)

        return build


class Application(Flask):
    """Flask, with each hook after the view and each teardown function as a best effort of its own."""

    request_class = Request
    response_class = Response
    url_rule_class = Route

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known_routes = KnownRoutes()

    def create_url_adapter(self, request: flask.Request | None) -> Any:
        """What finds the route of a request."""
        if request is None:
            return super().create_url_adapter(None)
        return Routes(self.url_map, request, self._known_routes)

    def preprocess_request(self) -> Any:
        """Run the hooks before the view, until one has a response; as Flask does, which looks for more."""
        if self.url_value_preprocessors:
            return super().preprocess_request()
        functions = self.before_request_funcs
        for name in (None, *reversed(request_ctx.request.blueprints)):
            for function in functions.get(name, ()):
                if (response := function()) is not None:
                    return response
        return None

    def process_response(self, response: Any) -> Any:
        """Let all hooks have the response; it is sent without what a failing one would have added."""
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]
        hooks = self._of_blueprints(context.request.blueprints, self.after_request_funcs)
        for hook in chain(context._after_request_functions, *hooks):
            with _HOOK:
                response = hook(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """End what belongs to the request."""
        if self.teardown_request_funcs:
            blueprints = request_ctx.request.blueprints
            for function in chain(*self._of_blueprints(blueprints, self.teardown_request_funcs)):
                with _REQUEST_TEARDOWN:
                    function(exc)
        _send(request_tearing_down, self, exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """End what belongs to the application context, such as the session of the database."""
        for function in reversed(self.teardown_appcontext_funcs):
            with _CONTEXT_TEARDOWN:
                function(exc)
        _send(appcontext_tearing_down, self, exc)

    @staticmethod
    def _of_blueprints(
        blueprints: list[str], functions: dict[Any, list[Callable[..., Any]]]
    ) -> Iterable[Iterable[Callable[..., Any]]]:
        """The functions of these blueprints, then the application's; each in reverse order of registration."""
        return [reversed(functions[name]) for name in (*blueprints, None) if name in functions]


def _send(signal: Any, sender: Flask, exc: BaseException | None) -> None:
    if signal.receivers:
        with BestEffort("a signal"):
            signal.send(sender, _async_wrapper=sender.ensure_sync, exc=exc)
