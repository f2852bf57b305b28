"""The parameters of a completion as fields of OpenAI's chat completions, in the words of the vendor."""

from collections.abc import Mapping
from typing import Any

from ..options import RequestOptions
from ..request import ChatRequest
from ..translation import LIMITS, Translation, allowed_tools, only_tools, without_doubles
from .dialects import Dialect, dialect_of
from .reasoning import translate_reasoning

# what is sent under its own name, or the vendor's, as it was given
PLAIN = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "stop", "seed",
         "logit_bias", "verbosity", "parallel_tool_calls", "service_tier", "user", "safety_identifier", "metadata",
         "store", "modalities", "chat_template_kwargs")  # fmt: skip
SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"})


def translate_parameters(request: ChatRequest, options: RequestOptions) -> Translation:
    """The fields that the request's parameters become, and warnings."""
    dialect = dialect_of(options.dialect)
    translation = Translation(dialect.label)
    refused = _refused(request.model, options, dialect)
    accepted = translation.without_refused(request.parameters, request.model, refused)
    given = without_doubles(accepted, translation)
    _translate_limit(given, options, translation)
    translation.fit(given, "temperature", dialect.largest_temperature)
    _translate_plain(given, dialect, translation)
    translate_reasoning(given, request.model, dialect, translation)
    _translate_response_format(given, dialect, translation)
    _translate_tools(given, dialect, translation)
    _translate_cache(request, dialect, translation)
    translation.say_unstored(given)
    translation.add_extra(given)
    return translation


def _refused(model: str, options: RequestOptions, dialect: Dialect) -> set[str]:
    """The parameters that the model is known to refuse."""
    is_fixed = dialect.fixed_sampling is not None and dialect.fixed_sampling.search(model.lower())
    return {*options.without, *(SAMPLING if is_fixed else ())}


def _translate_limit(given: Mapping[str, Any], options: RequestOptions, translation: Translation) -> None:
    for name in LIMITS:
        if given.get(name) is not None:
            field = name if options.limit_field == "as_given" else options.limit_field
            translation.fields[field] = given[name]


def _translate_plain(given: Mapping[str, Any], dialect: Dialect, translation: Translation) -> None:
    for name in PLAIN:
        if given.get(name) is None:
            continue
        if name in dialect.lacks:
            translation.lacks(name)
        else:
            translation.fields[dialect.renamed.get(name, name)] = given[name]


def _translate_response_format(given: Mapping[str, Any], dialect: Dialect, translation: Translation) -> None:
    response_format = given.get("response_format")
    if response_format is None:
        return
    kind = response_format.get("type")
    if kind not in dialect.response_formats and kind in ("json_object", "json_schema"):
        kind = "json_object" if "json_object" in dialect.response_formats else "text"
        translation.warn(
            "response_format",
            f'{dialect.label} does not have "{response_format["type"]}"; "{kind}" was sent, '
            "so describe the form in a message.",
        )
        response_format = {"type": kind}
    translation.fields["response_format"] = response_format


def _translate_tools(given: Mapping[str, Any], dialect: Dialect, translation: Translation) -> None:
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    if (allowed := allowed_tools(choice)) and not dialect.allows_some_tools:
        choice, names = allowed
        tools = only_tools(tools, names)
    if choice == "none" and "none" not in dialect.tool_choices:
        return  # without tools it can't choose one
    if tools:
        translation.fields["tools"] = tools
    if choice is not None:
        translation.fields["tool_choice"] = _tool_choice(choice, dialect, translation)


def _tool_choice(choice: Any, dialect: Dialect, translation: Translation) -> Any:
    if isinstance(choice, str) and choice in dialect.tool_choices:
        return dialect.tool_choices[choice]
    if isinstance(choice, dict) and dialect.can_name_tool:
        return choice
    translation.warn("tool_choice", f'{dialect.label} can\'t be made to call a tool; "auto" was sent.')
    return "auto"


def _translate_cache(request: ChatRequest, dialect: Dialect, translation: Translation) -> None:
    """Most vendors cache prompts by themselves; some take a key that leads to the same machine."""
    cache = request.parameters.get("cache")
    if not cache:
        return
    settings = cache if isinstance(cache, dict) else {}
    if dialect.caching == "key":
        key = settings.get("key") or request.cache_key
        if key:
            translation.fields["prompt_cache_key"] = key
        if dialect.has_cache_retention and settings.get("ttl") == "24h":
            translation.fields["prompt_cache_retention"] = "24h"
    elif dialect.caching == "blocks" and request.model.startswith("anthropic/"):
        translation.fields["cache_control"] = {"type": "ephemeral"}
    elif dialect.caching == "unknown":
        translation.warn(
            "cache", f"Nothing was sent: {dialect.label} caches prompts by itself, or not at all."
        )
