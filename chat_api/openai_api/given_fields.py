"""Fields of a request as clients send them: empty ones, and ones that this service does not know. Pure functions."""

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import ValidationError

from ..completions.parameters import MAX_TOOLS_BYTES
from ..web.fields import portable
from .errors import RequestRefused

# where clients that have nothing to say send an empty text or list
MAY_BE_EMPTY = (
    "logit_bias",
    "modalities",
    "prompt_cache_key",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "stop",
    "tools",
    "user",
    "verbosity",
)
# where clients of local models say with -1 that there is no limit
MAY_BE_UNLIMITED = ("max_tokens", "max_completion_tokens", "max_output_tokens")
UNLIMITED = -1
BODIES = ("extra_body", "extra")  # objects whose fields are meant to be in the body
TOOL_FIELDS, FUNCTION_FIELDS = ("type", "function"), ("name", "description", "parameters", "strict")


def given_in(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something: null is as if it were not given, and so are some empty or unlimited ones."""
    return {
        name: value for name, value in body.items() if value is not None and not _says_nothing(name, value)
    }


def _says_nothing(name: str, value: Any) -> bool:
    if name in MAY_BE_UNLIMITED:
        return value == UNLIMITED
    return name in MAY_BE_EMPTY and value in ("", [])


def known_of_tool(tool: Any) -> Any:
    """A tool, or the choice of one, without fields that other services have; as it is where it is no function."""
    if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
        return tool
    function = tool["function"]
    known = {name: function[name] for name in FUNCTION_FIELDS if function.get(name) is not None}
    return {**{name: tool[name] for name in TOOL_FIELDS if name in tool}, "function": known}


def extras_in(unknown: Mapping[str, Any], *, known: frozenset[str]) -> dict[str, Any]:
    """The fields that are passed on: those that are not known here. Raises RequestRefused, which names the field."""
    extras = {name: value for name, value in unknown.items() if name not in BODIES}
    places = {name: name for name in extras}
    for body in BODIES:
        inner = unknown.get(body, {})
        if not isinstance(inner, dict):
            raise RequestRefused(f"{body} must be an object.", param=body)
        for name, value in inner.items():
            place = places[name] = f"{body}.{name}"
            if name in known:
                raise RequestRefused(f"{place}: give it beside {body}.", param=place)
            extras[name] = value
    for name, value in extras.items():
        extras[name] = _portable(value, places[name])
    sizes = {name: len(orjson.dumps(value)) for name, value in extras.items()}
    if sum(sizes.values()) > MAX_TOOLS_BYTES:
        place = places[max(sizes, key=sizes.__getitem__)]
        raise RequestRefused(f"{place}: longer than {MAX_TOOLS_BYTES} bytes.", param=place)
    return extras


def _portable(value: Any, place: str) -> Any:
    try:
        return portable(value)
    except ValidationError as error:
        raise RequestRefused(f"{place}: {' '.join(map(str, error.messages))}", param=place) from None
