"""The client's network, and a decorator that throttles a view by it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import request

from .throttle import count_attempt_and_commit, network_of


def client_network() -> str:
    """The network that the request comes from, as throttling counts it."""
    return network_of(request.remote_addr or "unknown")


def throttled_by_address(setting: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a view to count each request as an attempt by the client's address."""

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def counted(*args: Any, **kwargs: Any) -> Any:
            count_attempt_and_commit(setting, client_network())
            return view(*args, **kwargs)

        return counted

    return decorator
