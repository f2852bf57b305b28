"""Gunicorn's own records."""

import sys
from typing import Any

from gunicorn import glogging


class Logger(glogging.Logger):
    """Without access lines: that of a request is the application's, with user and route."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Nothing: a configured logconfig_dict would otherwise turn the stock access line on."""

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A client that stalled (STALLED_CLIENT_S) is a fact of life and not worth a traceback."""
        if isinstance(sys.exc_info()[1], BlockingIOError | TimeoutError):
            self.info("connection closed: the client stalled")
        else:
            super().exception(msg, *args, **kwargs)
