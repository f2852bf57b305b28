"""The yardstick: the least that a Flask application can do, served by the same gunicorn."""

import hashlib
import io
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

from flask import Flask, Request, Response, jsonify, request


class InMemory(Request):
    """Forms with their files in memory."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> Any:
        return io.BytesIO()


class Hello(Flask):
    request_class = InMemory


app = Hello(__name__)
last_file: dict[str, bytes] = {}


@app.get("/hello")
def hello() -> Response:
    """Answer a constant object."""
    return jsonify(hello="world")


@app.post("/files")
def create_file() -> tuple[Response, int]:
    """Receive a file of a form, hash it and keep it, in memory."""
    content = request.files["file"].read()
    digest = hashlib.sha256(content).hexdigest()
    last_file.clear()
    last_file[digest] = content
    return jsonify(file_path=f"/files/{digest}"), 201


@app.get("/files/<digest>")
def get_file(digest: str) -> Response:
    """Send it."""
    return Response(last_file[digest], mimetype="application/octet-stream")


@app.post("/relay/<int:port>")
def relay(port: int) -> Response:
    """Send a request on to a provider on this machine, and its stream back as it arrives."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/chat/completions", request.get_data())
    answer = connection.getresponse()

    def chunks() -> Iterator[bytes]:
        while chunk := answer.read1(65536):
            yield chunk

    return Response(chunks(), mimetype="text/event-stream")
