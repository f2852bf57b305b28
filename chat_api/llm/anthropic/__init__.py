"""Anthropic's Messages API, version 2023-06-01."""

from .reply import parse_json_reply, parse_stream
from .request import completions_path, corrected_body, headers, models_path, request_body

__all__ = [
    "completions_path",
    "corrected_body",
    "headers",
    "models_path",
    "parse_json_reply",
    "parse_stream",
    "request_body",
]
