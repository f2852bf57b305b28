"""The addresses that the service listens on: whether they are free, and how people reach them."""

import errno
import socket
from collections.abc import Iterable
from typing import Any


class CannotListen(Exception):
    """The service can't listen on an address; the message is a sentence that says why and what to do."""


def require_free(addresses: Iterable[Any]) -> None:
    """Check that a server can listen on gunicorn's `addresses`. Raises CannotListen.

    gunicorn itself tries five times in as many seconds and logs eleven lines about it.
    """
    for address in addresses:
        if not isinstance(address, tuple):
            continue  # a Unix socket or a descriptor
        host, port = address
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            raise CannotListen(_reason(host, port, error)) from error


def documentation_url(address: tuple[Any, ...]) -> str:
    """Where a browser on this machine finds the documentation of a service that listens there."""
    host, port = address[:2]
    # recognized, not listened on
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104
    return f"http://[{host}]:{port}/docs" if ":" in host else f"http://{host}:{port}/docs"


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop the process that listens there, or set PORT to another one, "
            f"as in `PORT={port + 1 if port < 65535 else 8000} make run`."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this account has: set PORT to one above 1023."
    return f"Can't listen on HOST {host}, PORT {port}: {error.strerror}."
