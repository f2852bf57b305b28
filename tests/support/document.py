"""The OpenAPI document, walked by tests that hold for all operations."""

from collections.abc import Iterator
from typing import Any

from flask import Flask

from tests.support.api import Api

METHODS = ("get", "post", "put", "patch", "delete")
ANY_ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


def operations(app: Flask) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of all that is documented."""
    for path, item in Api(app).get("/openapi.json").get_json()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def named(app: Flask, status: str) -> set[str]:
    """The names of the operations that may answer this status."""
    return {
        operation["operationId"] for _, _, operation in operations(app) if status in operation["responses"]
    }
