"""URL converters: ids in paths. A malformed id matches no route, and so is a 404."""

from flask import Flask
from werkzeug.routing import BaseConverter

from .fields import UUID_PATTERN


class IdConverter(BaseConverter):
    """The UUID of an object, in lower case whatever the client wrote."""

    regex = UUID_PATTERN.strip("^$")

    def to_python(self, value: str) -> str:
        return value.lower()


def init_app(app: Flask) -> None:
    """Register the converter."""
    app.url_map.converters["id"] = IdConverter
