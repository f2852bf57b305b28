"""Anthropic's Messages API, version 2023-06-01."""

from .parameters import translate_parameters
from .reply import parse_json_reply, parse_stream
from .request import COMPLETIONS_PATH, headers, request_body

__all__ = [
    "COMPLETIONS_PATH",
    "headers",
    "parse_json_reply",
    "parse_stream",
    "request_body",
    "translate_parameters",
]
