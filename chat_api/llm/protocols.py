"""The adapters of the protocols that providers speak."""

from types import ModuleType

from . import anthropic, openai
from .request import ChatRequest, Endpoint

PROTOCOLS: dict[str, ModuleType] = {"openai": openai, "anthropic": anthropic}


def protocol_of(endpoint: Endpoint) -> ModuleType:
    """The adapter for an endpoint."""
    return PROTOCOLS[endpoint.api_format]


def parameter_warnings(request: ChatRequest, endpoint: Endpoint) -> tuple[str, ...]:
    """What the provider can't do of what a request's parameters ask for."""
    return tuple(protocol_of(endpoint).translate_parameters(request, endpoint.options).warnings)
