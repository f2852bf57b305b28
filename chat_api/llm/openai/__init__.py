"""OpenAI's chat completions, as OpenAI and many others speak them, with their various deviations."""

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
