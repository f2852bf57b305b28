"""Requests for responses: what they say, as parameters of ours and as what answers repeat. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError

from ...completions.parameters import CompletionParametersSchema
from .. import ids
from ..chat_requests import conversation_of, flag_of, metadata_of
from ..errors import RequestRefused
from ..given_fields import given_in
from ..model_names import asked
from ..writable import require_writable
from .tools import as_functions, as_response_format, chosen, echoed_format, echoed_tools

MAX_INSTRUCTIONS_BYTES = 1024 * 1024
MAX_SHORT = 512
TRUNCATIONS = ("auto", "disabled")
# what would change what the model sees, and can't be done
REFUSED = ("context_management", "prompt", "moderation")
# given as they are, under these names or others
AS_GIVEN = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "service_tier", "user")
# of the answer, where nothing is given
DEFAULTS: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "parallel_tool_calls": True,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "user": None,
}
_PARAMETERS: Schema = CompletionParametersSchema()
# names of ours in complaints, and what they are in this dialect
_NAMES = {
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "response_format": "text.format",
    "cache": "prompt_cache_key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """What a request says, besides its input."""

    model: str  # as it was asked for
    parameters: Mapping[str, Any]
    echo: Mapping[str, Any]  # what answers repeat, where it is not the default
    instructions: str | None
    previous_id: str | None  # of the response that is followed up
    conversation_id: str | None
    metadata: Mapping[str, str]
    is_stored: bool
    is_streamed: bool
    is_background: bool
    is_whole: bool  # nothing of the conversation may be left out


def read_request(body: Mapping[str, Any]) -> ResponseRequest:
    """What a body says; null is as if it were not given. Raises RequestRefused."""
    given = given_in(body)
    for name in REFUSED:
        if name in given:
            raise RequestRefused(f"{name} is not supported.", param=name, code="unsupported_parameter")
    model = asked(body)
    is_stored, is_background = flag_of(body, "store", True), flag_of(body, "background", False)
    if is_background and not is_stored:
        raise RequestRefused("store: a response in the background has to be stored.", param="store")
    conversation, previous_id = conversation_of(given.get("conversation")), _previous(given)
    if conversation is not None and previous_id is not None:
        raise RequestRefused(
            "Give conversation or previous_response_id, not both.", param="previous_response_id"
        )
    metadata = metadata_of(body)
    truncation = given.get("truncation", "disabled")
    if truncation not in TRUNCATIONS:
        raise RequestRefused("truncation must be auto or disabled.", param="truncation")
    parameters, echo = _parameters(given)
    echo |= {
        "instructions": _text(given, "instructions", MAX_INSTRUCTIONS_BYTES),
        "metadata": metadata,
        "truncation": truncation,
        "store": is_stored,
        "background": is_background,
        "max_tool_calls": _count(given, "max_tool_calls"),
        "prompt_cache_retention": _text(given, "prompt_cache_retention", MAX_SHORT),
    }
    require_writable(echo)
    return ResponseRequest(
        model=model,
        parameters=parameters,
        echo={name: value for name, value in echo.items() if value != DEFAULTS[name]},
        instructions=echo["instructions"] or None,
        previous_id=previous_id,
        conversation_id=conversation,
        metadata=metadata,
        is_stored=is_stored,
        is_streamed=flag_of(body, "stream", False),
        is_background=is_background,
        is_whole=truncation == "disabled",
    )


def _parameters(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The completion's parameters, and what answers repeat of them."""
    values = {name: given[name] for name in AS_GIVEN if name in given}
    echo = {name: value for name, value in values.items() if name != "service_tier"}
    for name in ("safety_identifier", "top_logprobs"):
        if name in given:
            values[name] = echo[name] = given[name]
    if "max_output_tokens" in given:
        values["max_tokens"] = echo["max_output_tokens"] = given["max_output_tokens"]
    if (key := _text(given, "prompt_cache_key", 64)) is not None:
        echo["prompt_cache_key"] = key
        values["cache"] = {"key": key}
    _add_reasoning(given, values, echo)
    _add_text(given, values, echo)
    _add_tools(given, values, echo)
    loaded = _loaded(values)
    loaded.pop("top_logprobs", None)  # never returned, so nobody needs to be told that they are not requested
    return loaded, echo


def _add_reasoning(given: Mapping[str, Any], values: dict[str, Any], echo: dict[str, Any]) -> None:
    reasoning = _object(given, "reasoning")
    effort = reasoning.get("effort") or None
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    if summary not in (None, "auto", "concise", "detailed"):
        raise RequestRefused(
            "reasoning.summary must be auto, concise or detailed.", param="reasoning.summary"
        )
    echo["reasoning"] = {"effort": effort, "summary": summary}
    if effort is not None:
        values["reasoning_effort"] = effort


def _add_text(given: Mapping[str, Any], values: dict[str, Any], echo: dict[str, Any]) -> None:
    text = _object(given, "text")
    sent = text.get("format") or {"type": "text"}
    echo["text"] = {"format": echoed_format(sent)}
    if (response_format := as_response_format(sent)) is not None:
        values["response_format"] = response_format
    if (verbosity := text.get("verbosity") or None) is not None:  # never null where it was not given
        values["verbosity"] = echo["text"]["verbosity"] = verbosity


def _add_tools(given: Mapping[str, Any], values: dict[str, Any], echo: dict[str, Any]) -> None:
    sent = given.get("tools", [])
    echo["tools"] = echoed_tools(sent)
    echo["parallel_tool_calls"] = flag_of(given, "parallel_tool_calls", True)
    all_functions = as_functions(echo["tools"], sent)
    functions, choice = chosen(given.get("tool_choice"), all_functions)
    if len(functions) < len(all_functions):  # the others are not sent, but repeated in answers
        _loaded({"tools": all_functions})
    if choice is not None:
        echo["tool_choice"] = given["tool_choice"]
    if not functions:
        return
    values["tools"] = functions
    if choice is not None:
        values["tool_choice"] = choice
    if "parallel_tool_calls" in given:
        values["parallel_tool_calls"] = given["parallel_tool_calls"]


def _loaded(values: dict[str, Any]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = _PARAMETERS.load(values)
    except ValidationError as error:
        raise _refused_field(error) from None
    return loaded


def _refused_field(error: ValidationError) -> RequestRefused:
    """The first complaint, with the path to it as this dialect has it: `tools[0].parameters`."""
    found: Any = error.normalized_messages()
    path: list[str] = []
    while isinstance(found, dict) and found:
        name, found = next(iter(found.items()))
        if name == "function" and path[:1] == ["tools"]:
            continue
        name = name if path else _NAMES.get(name, name)
        path.append(f"[{name}]" if isinstance(name, int) else f".{name}" if path else str(name))
    where = "".join(path).removesuffix("._schema")
    if where == "prompt_cache_key.key":
        where = "prompt_cache_key"
    message = " ".join(map(str, found)) if isinstance(found, list) else str(found)
    return RequestRefused(f"{where}: {message}", param=where)


def _previous(given: Mapping[str, Any]) -> str | None:
    named = given.get("previous_response_id")
    if named is None:
        return None
    found = ids.read(named) if isinstance(named, str) else None
    if found is None:
        raise unknown_previous()
    return found


def unknown_previous() -> RequestRefused:
    """There is no response to follow up."""
    return RequestRefused(
        "previous_response_id: there is no such response.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def _object(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name, {})
    if not isinstance(value, dict):
        raise RequestRefused(f"{name} must be an object.", param=name)
    return value


def _text(given: Mapping[str, Any], name: str, most_bytes: int) -> str | None:
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or len(value.encode()) > most_bytes):
        raise RequestRefused(f"{name} must be a string of at most {most_bytes} bytes.", param=name)
    return value


def _count(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise RequestRefused(f"{name} must be a whole number from 1.", param=name)
    return value
