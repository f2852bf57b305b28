"""The application class: whatever Flask does after a view has returned is best effort, see `errors.BestEffort`.

A response that exists is sent, however its headers, its log line, its count, the end of the session and the release
of slots go: a client that gets an error would send a request again whose work is committed.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import flask
from flask import Flask
from flask.globals import request_ctx
from flask.signals import appcontext_tearing_down, request_tearing_down

from ..errors import BestEffort


class Response(flask.Response):
    """A response all of whose `call_on_close` functions are called, also where one fails."""

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
        with BestEffort("closing a request"):
            super().close()


class Application(Flask):
    """Flask, with each hook after the view and each teardown function as a best effort of its own."""

    request_class = Request
    response_class = Response

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
        names = chain(request_ctx.request.blueprints, (None,))
        return [reversed(functions[name]) for name in names if name in functions]


def _send(signal: Any, sender: Flask, exc: BaseException | None) -> None:
    if signal.receivers:
        with BestEffort("a signal"):
            signal.send(sender, _async_wrapper=partial(sender.ensure_sync), exc=exc)
