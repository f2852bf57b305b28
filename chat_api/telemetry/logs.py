"""Structured logs: one JSON object per line, on standard output, never with a body, token or key.

Tracebacks are written without the values that database errors quote, see `errors.describe`.
"""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Flask, g, has_request_context

from ..errors import database_errors, describe

# the attributes of every LogRecord; any other was passed as `extra`
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, so that a line break in a message can't forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if has_request_context() and "request_id" in g:
            line["request_id"] = g.request_id
        line.update((name, value) for name, value in record.__dict__.items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = safe_traceback(record.exc_info[1])
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode("utf-8", "replace")


def safe_traceback(error: BaseException) -> list[str]:
    """The frames of an error and its causes, each with class and message, without values from the database."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < 200:
        frames = traceback.extract_tb(current.__traceback__)
        lines += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        is_from_database = isinstance(current, database_errors())
        lines.append(describe(current) if is_from_database else f"{type(current).__name__}: {current}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines


def init_app(app: Flask) -> None:
    """Log to standard output, as JSON lines, from the configured level up."""
    logger = logging.getLogger("chat_api")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(app.config["LOG_LEVEL"])
