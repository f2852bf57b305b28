"""Anthropic's Messages API, version 2023-06-01."""

from .reply import parse_json_reply, parse_stream
from .request import COMPLETIONS_PATH, corrected_body, headers, request_body

__all__ = [
    "COMPLETIONS_PATH",
    "corrected_body",
    "headers",
    "parse_json_reply",
    "parse_stream",
    "request_body",
]
