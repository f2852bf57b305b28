"""The yardstick: the least that a Flask application can do, served by the same gunicorn."""

from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/hello")
def hello() -> Response:
    """Answer a constant object."""
    return jsonify(hello="world")
