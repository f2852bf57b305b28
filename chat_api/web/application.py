"""The application class: whatever Flask does after a view has returned is best effort, see `errors.BestEffort`.

A response that exists is sent, however its headers, its log line, its count, the end of the session and the release
of slots go: a client that gets an error would send a request again whose work is committed.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import flask
from flask import Flask
from flask.globals import request_ctx
from flask.signals import appcontext_tearing_down, request_tearing_down
from werkzeug.routing import MapAdapter, Rule
from werkzeug.wsgi import get_host

from ..errors import BestEffort


class Response(flask.Response):
    """A response all of whose `call_on_close` functions are called, also where one fails."""

    def get_wsgi_response(self, environ: Any) -> Any:
        """What the server sends. A whole body goes out as it is: werkzeug copies and searches the headers, whose
        Location is a URI already, and wraps the body, which nobody waits for."""
        is_whole = self.status_code in (200, 201) and self.is_sequence and not self._on_close
        if is_whole and environ["REQUEST_METHOD"] != "HEAD":
            headers = self.headers.to_wsgi_list()
            if any(name == "Content-Length" for name, _ in headers):
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

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Bind the routes to a request as Flask does where there is one host. It looks for parts of the environment
        that the request has read already, and encodes the host's name."""
        if request is None:
            return super().create_url_adapter(None)
        host, path, query = get_host(request.environ), request.path, request.query_string.decode("latin-1")
        return MapAdapter(
            self.url_map, host, request.root_path, "", request.scheme, path, request.method, query
        )

    def process_response(self, response: Any) -> Any:
        """Let all hooks have the response; it is sent without what a failing one would have added."""
        hooks = chain(request_ctx._after_request_functions, *self._of_request(self.after_request_funcs))
        for hook in hooks:
            with BestEffort("a hook after the request"):
                response = hook(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """End what belongs to the request."""
        for function in chain(*self._of_request(self.teardown_request_funcs)):
            with BestEffort("a teardown of the request"):
                function(exc)
        _send(request_tearing_down, self, exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """End what belongs to the application context, such as the session of the database."""
        for function in reversed(self.teardown_appcontext_funcs):
            with BestEffort("a teardown of the application context"):
                function(exc)
        _send(appcontext_tearing_down, self, exc)

    def _of_request(
        self, functions: dict[Any, list[Callable[..., Any]]]
    ) -> Iterable[Iterable[Callable[..., Any]]]:
        """The functions of the request's blueprints, then the application's; each in reverse order of registration."""
        if not functions:
            return ()
        names = chain(request_ctx.request.blueprints, (None,))
        return [reversed(functions[name]) for name in names if name in functions]


def _send(signal: Any, sender: Flask, exc: BaseException | None) -> None:
    if signal.receivers:
        with BestEffort("a signal"):
            signal.send(sender, _async_wrapper=sender.ensure_sync, exc=exc)
