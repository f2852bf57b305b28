"""A decorator that throttles a view by the client's network."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..web.client_address import client_network
from .throttle import count_attempt_and_commit


def throttled_by_address(setting: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a view to count each request as an attempt by the client's address."""

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def counted(*args: Any, **kwargs: Any) -> Any:
            count_attempt_and_commit(setting, client_network())
            return view(*args, **kwargs)

        return counted

    return decorator
