"""Requests of chat.completions: what they say, as messages and parameters of ours. Pure functions."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError

from ..completions.parameters import CompletionParametersSchema
from ..completions.turns import Draft
from ..llm.stream_parser import MAX_TOOL_CALLS
from ..llm.translation import OWN_FIELDS
from ..messages.models import ROLES
from ..messages.parts import MAX_CONTENT_BYTES
from ..web.metadata import complaint_about
from . import ids
from .content_parts import content_of
from .errors import RequestRefused, unknown_conversation
from .given_fields import extras_in, given_in, known_of_tool

MAX_MESSAGES = 10_000
MAX_ID = 255
# of a request, besides what is a parameter of the completion
OWN = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "conversation",
    "n",
    "prompt_cache_key",
    "prompt_cache_retention",
}
# what would change the reply, and can't be done
REFUSED = {
    "functions": "Give `tools` instead, which replaced functions in 2023.",
    "function_call": "Give `tool_choice` instead, which replaced it in 2023.",
    "audio": "Replies are text only.",
    "web_search_options": "Use the provider's own fields for its web search, see docs/providers.md.",
    "prediction": "Predicted outputs are not supported.",
    "system": "Give a message of the role `system` instead.",
}
_PARAMETERS: Schema = CompletionParametersSchema()
_KNOWN = frozenset(_PARAMETERS.fields) - {"extra", "metadata", "store", "n"}
_NOT_EXTRA = frozenset({*_PARAMETERS.fields, *OWN_FIELDS}) - {"tools"}  # of tools a provider has others


def drafts_of(body: Mapping[str, Any]) -> list[Draft]:
    """The messages of a request. Raises RequestRefused."""
    sent = body.get("messages")
    if sent is None:
        raise RequestRefused("messages is missing.", param="messages", code="missing_required_parameter")
    if not isinstance(sent, list) or not 1 <= len(sent) <= MAX_MESSAGES:
        raise RequestRefused(f"messages: a list of 1 to {MAX_MESSAGES} messages.", param="messages")
    return [_draft(message, f"messages[{index}]") for index, message in enumerate(sent)]


def parameters_of(body: Mapping[str, Any], *, takes_extras: bool) -> dict[str, Any]:
    """The parameters of the completion; with `takes_extras` those that this service does not know are passed on.

    null is as if it were not given. Raises RequestRefused.
    """
    given = given_in(body)
    _refuse_unsupported(given)
    values = {name: given[name] for name in _KNOWN & given.keys()}
    _read_tools(values)
    extras = extras_in({name: given[name] for name in given.keys() - _KNOWN - OWN}, known=_NOT_EXTRA)
    if takes_extras:
        if extras:
            values["extra"] = extras
        if "prompt_cache_key" in given:
            values.setdefault("cache", {"key": given["prompt_cache_key"]})
    try:
        loaded: dict[str, Any] = _PARAMETERS.load(values)
    except ValidationError as error:
        raise _refused_field(error) from None
    return loaded


def _refuse_unsupported(given: Mapping[str, Any]) -> None:
    for name, why in REFUSED.items():
        if name in given:
            raise RequestRefused(f"{name} is not supported. {why}", param=name, code="unsupported_parameter")
    if given.get("n", 1) != 1:
        raise RequestRefused(
            "n must be 1: a completion has one reply.", param="n", code="unsupported_parameter"
        )
    modalities = given.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise RequestRefused(
            "modalities: replies are text only.", param="modalities", code="unsupported_parameter"
        )


def _read_tools(values: dict[str, Any]) -> None:
    """Leave out what is not known of tools; and, where there are none, what providers refuse without them."""
    if "tools" in values:
        if isinstance(values["tools"], list):
            values["tools"] = [known_of_tool(tool) for tool in values["tools"]]
        values["tool_choice"] = known_of_tool(values.get("tool_choice"))
        if values["tool_choice"] is None:
            del values["tool_choice"]
        return
    values.pop("parallel_tool_calls", None)
    if values.get("tool_choice") in ("auto", "none"):
        del values["tool_choice"]


def metadata_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a request. Raises RequestRefused."""
    metadata = body.get("metadata")
    if metadata is None:
        return {}
    complaint = complaint_about(metadata) if isinstance(metadata, dict) else "Must be an object."
    if complaint:
        raise RequestRefused(f"metadata: {complaint}", param="metadata")
    return dict(metadata)


def required_metadata_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a request that is about nothing else; null for none. Raises RequestRefused."""
    if "metadata" not in body:
        raise RequestRefused("metadata is missing.", param="metadata", code="missing_required_parameter")
    return metadata_of(body)


def conversation_of(named: Any) -> str | None:
    """The conversation that a request names: an id, or an object with one. Raises RequestRefused."""
    if named is None:
        return None
    if isinstance(named, dict):
        named = named.get("id")
    if not isinstance(named, str):
        raise RequestRefused("conversation must be an id, or an object with one.", param="conversation")
    found = ids.read(named)
    if found is None:
        raise unknown_conversation()
    return found


def flag_of(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """A field that is true or false. Raises RequestRefused."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestRefused(f"{name} must be true or false.", param=name)
    return value


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the usage."""
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestRefused("stream_options must be an object.", param="stream_options")
    return bool((options or {}).get("include_usage"))


def _draft(message: Any, where: str) -> Draft:
    if not isinstance(message, dict):
        raise RequestRefused(f"{where} must be an object.", param=where)
    role = message.get("role")
    if role not in ROLES:
        raise RequestRefused(f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role")
    calls = _calls(message, f"{where}.tool_calls") if role == "assistant" else ()
    given = message.get("content")
    if given is None and role == "assistant":
        given = message["refusal"] if isinstance(message.get("refusal"), str) else ""
    elif given is None and role == "tool":
        given = ""  # of a tool that returns nothing: clients in Go leave out what is empty
    content = content_of(given, f"{where}.content", takes_files=role == "user")
    call_id = None
    if role == "tool":
        call_id = _short_text(message.get("tool_call_id"), f"{where}.tool_call_id")
    return Draft(role, content.text, calls, call_id, parts=content.parts)


def _calls(message: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    if message.get("function_call") is not None:
        at = where.removesuffix("tool_calls") + "function_call"
        raise RequestRefused(
            f"{at} is not supported; give tool_calls.", param=at, code="unsupported_parameter"
        )
    calls = message.get("tool_calls")
    if calls is None:
        return []
    if not isinstance(calls, list) or len(calls) > MAX_TOOL_CALLS:
        raise RequestRefused(f"{where}: a list of at most {MAX_TOOL_CALLS} calls.", param=where)
    return [_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _call(call: Any, where: str) -> dict[str, str]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or (call.get("type") or "function") != "function":
        raise RequestRefused(f"{where} must be the call of a function.", param=f"{where}.type")
    arguments = function.get("arguments")
    if arguments is None:  # of a function without parameters, as above
        arguments = ""
    if not isinstance(arguments, str) or len(arguments.encode()) > MAX_CONTENT_BYTES:
        at = f"{where}.function.arguments"
        raise RequestRefused(f"{at} must be a string of at most {MAX_CONTENT_BYTES} bytes.", param=at)
    return {
        "id": _short_text(call.get("id"), f"{where}.id"),
        "name": _short_text(function.get("name"), f"{where}.function.name"),
        "arguments": arguments,
    }


def _short_text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID:
        raise RequestRefused(f"{where} must be a string of 1 to {MAX_ID} characters.", param=where)
    return value


def _refused_field(error: ValidationError) -> RequestRefused:
    """The first complaint, with the path to it: `tools[0].function.name`."""
    found: Any = error.normalized_messages()
    path = ""
    while isinstance(found, dict) and found:
        name, found = next(iter(found.items()))
        path += f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name)
    message = " ".join(map(str, found)) if isinstance(found, list) else str(found)
    path = path.removesuffix("._schema")
    if path == "cache.key":
        path = "prompt_cache_key"
    return RequestRefused(f"{path}: {message}", param=path)
