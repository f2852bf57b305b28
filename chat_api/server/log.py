"""Gunicorn's own log."""

import sys
from typing import Any

from gunicorn import glogging


class Logger(glogging.Logger):
    """A logger without access lines: the application writes its own, with user and route."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing: logconfig_dict would otherwise turn gunicorn's access lines on."""

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log an error; a client that stalled (STALLED_CLIENT_S) is normal and not worth a traceback."""
        if isinstance(sys.exc_info()[1], BlockingIOError | TimeoutError):
            self.info("connection closed: the client stalled")
        else:
            super().exception(msg, *args, **kwargs)
