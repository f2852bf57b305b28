"""Requests of OpenAI's chat completions: addresses, headers, bodies."""

from ..headers import key_headers
from ..history import acceptable, left_out_warnings
from ..request import ChatRequest, Endpoint, RequestBody
from ..translation import body_fields
from ..vendors import BEARER
from .dialects import dialect_of
from .messages import sent_messages
from .parameters import translate_parameters

COMPLETIONS_PATH = "/chat/completions"


def headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The headers of this protocol."""
    return key_headers(endpoint, key, BEARER)


def request_body(request: ChatRequest, endpoint: Endpoint) -> RequestBody:
    """The body of a request. Neither parameters nor the provider's own fields override those that we set ourselves."""
    options = endpoint.options
    left_out = left_out_warnings(request, endpoint)
    request = acceptable(request, endpoint)
    translation = translate_parameters(request, options)
    sent = {
        **body_fields(endpoint.extra_body, translation.fields),
        "model": request.model,
        "messages": sent_messages(request.messages, dialect_of(options.dialect)),
        "stream": options.stream,
    }
    if options.stream and options.stream_options:
        sent["stream_options"] = {"include_usage": True}
    return RequestBody(sent, (*translation.warnings, *left_out))
