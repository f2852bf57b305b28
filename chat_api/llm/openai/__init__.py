"""OpenAI's chat completions, as OpenAI and many others speak them, with their various deviations."""

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
