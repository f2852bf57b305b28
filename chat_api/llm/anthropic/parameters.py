"""The parameters of a completion as fields of Anthropic's Messages API."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..options import RequestOptions
from ..request import ChatRequest
from ..translation import Translation, allowed_tools, only_tools, without_doubles
from .formats import json_instruction, output_format
from .models import ALL_EFFORTS, ModelTraits, traits_of
from .thinking import begins_without_thought, think_later, translate_thinking

TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
SERVICE_TIERS = {"auto": "auto", **dict.fromkeys(("default", "standard", "standard_only"), "standard_only")}
LACKS = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "logit_bias",
         "verbosity", "store", "metadata", "chat_template_kwargs")  # fmt: skip
SAMPLING = ("temperature", "top_p", "top_k")
LONG_CACHE = ("1h", "24h")


@dataclass(slots=True)
class ClaudeTranslation(Translation):
    """What goes into other fields than those of the parameters."""

    instruction: str = ""  # to add to the system prompt
    cache_control: dict[str, str] | None = None  # for the ends of tools, system prompt and messages
    tool_choice: dict[str, Any] | None = None  # sent where there are tools, whoever adds them

    def add_extra(self, given: Mapping[str, Any]) -> None:
        """The same, and mark the last tool where prompts are cached."""
        Translation.add_extra(
            self, given
        )  # a dataclass with slots is another class than the one that super() knows
        if self.cache_control and (tools := self.fields.get("tools")):
            tools[-1] = {**tools[-1], "cache_control": self.cache_control}


def translate_parameters(request: ChatRequest, options: RequestOptions) -> ClaudeTranslation:
    """The fields that the request's parameters become, and warnings."""
    traits = _known_traits(request.model, options)
    translation = ClaudeTranslation("Anthropic's protocol")
    accepted = translation.without_refused(request.parameters, request.model, options.without)
    given = without_doubles(accepted, translation)
    limit = given.get("max_tokens") or given.get("max_completion_tokens")
    translation.fields["max_tokens"] = limit or traits.max_tokens
    _translate_stop(given, translation)
    _translate_tools(given, traits, translation)
    translate_thinking(given, traits, translation)
    if begins_without_thought(request.messages, has_state=options.state):
        think_later(translation)
    _translate_sampling(given, traits, translation)
    _translate_response_format(given, traits, translation)
    _translate_identity(given, translation)
    _translate_cache(given, translation)
    translation.say_unstored(given)
    for name in LACKS:
        if given.get(name) is not None:
            translation.lacks(name)
    translation.add_extra(given)
    return translation


def _known_traits(model: str, options: RequestOptions) -> ModelTraits:
    """What the table says of the model, corrected by what its server has complained about."""
    traits = traits_of(model)
    if options.max_output is not None:
        traits = replace(traits, max_tokens=options.max_output)
    if options.thinking == "adaptive" and traits.thinking != "always":
        traits = replace(
            traits, thinking="adaptive", efforts=traits.efforts or ALL_EFFORTS, hides_thoughts=True
        )
    elif options.thinking == "budget":
        traits = replace(traits, thinking="budget")
    return traits


def _translate_stop(given: Mapping[str, Any], translation: Translation) -> None:
    stop = given.get("stop") or []
    texts = [stop] if isinstance(stop, str) else stop
    if sent := [text for text in texts if text.strip()]:
        translation.fields["stop_sequences"] = sent
    if len(sent) < len(texts):
        translation.warn("stop", f"{translation.vendor} does not take blank sequences; they were not sent.")


def _translate_sampling(given: Mapping[str, Any], traits: ModelTraits, translation: Translation) -> None:
    """Models that think choose their words themselves; others want one of two ways to be told how."""
    names = [name for name in SAMPLING if given.get(name) is not None]
    if "top_k" in names and given["top_k"] < 1:
        names.remove("top_k")  # of all tokens: so it is where nothing is sent
    thinks = translation.fields.get("thinking", {}).get("type") not in (None, "disabled")
    for name in names:
        if not traits.has_sampling:
            translation.warn(name, "The model does not support it; it was not sent.")
        elif thinks and (name, given[name]) != ("temperature", 1):
            translation.warn(name, "A model that reasons does not support it; it was not sent.")
        elif name == "top_p" and "temperature" in names and traits.one_of_sampling:
            translation.warn(
                name, "The model supports only one of temperature and top_p; only temperature was sent."
            )
        elif name == "temperature":
            translation.fit(given, name, 1)
        else:
            translation.fields[name] = given[name]


def _translate_response_format(
    given: Mapping[str, Any], traits: ModelTraits, translation: ClaudeTranslation
) -> None:
    wanted = given.get("response_format") or {}
    kind = wanted.get("type")
    if kind not in ("json_object", "json_schema"):
        return
    if kind == "json_schema" and traits.has_formats and (sent := output_format(wanted)):
        translation.fields.setdefault("output_config", {})["format"] = sent
        return
    translation.instruction = json_instruction(wanted)
    translation.warn(
        "response_format",
        "The model is instructed to answer in this format, but the provider does not enforce it.",
    )


def _translate_tools(given: Mapping[str, Any], traits: ModelTraits, translation: ClaudeTranslation) -> None:
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    if allowed := allowed_tools(choice):
        choice, names = allowed
        tools = only_tools(tools, names)
    if tools:
        translation.fields["tools"] = [_tool(tool["function"], traits) for tool in tools]
    if not traits.has_formats and any(tool["function"].get("strict") for tool in tools):
        translation.warn("tools", "The model does not know strict; it was not sent.")
    sent = _tool_choice(choice)
    if sent and sent["type"] in ("any", "tool") and not traits.can_force_tools:
        translation.warn("tool_choice", 'The model can\'t be made to call a tool; "auto" was sent.')
        sent = {"type": "auto"}
    if given.get("parallel_tool_calls") is False and (sent or {}).get("type") != "none":
        sent = {**(sent or {"type": "auto"}), "disable_parallel_tool_use": True}
    translation.tool_choice = sent
    if sent and (tools or (given.get("extra") or {}).get("tools")):
        translation.fields["tool_choice"] = sent


def _tool(function: dict[str, Any], traits: ModelTraits) -> dict[str, Any]:
    sent = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    if description := function.get("description"):
        sent["description"] = description
    if function.get("strict") and traits.has_formats:
        sent["strict"] = True
    return sent


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, dict):
        return {"type": "tool", "name": choice["function"]["name"]}
    return {"type": TOOL_CHOICES[choice]} if choice in TOOL_CHOICES else None


def _translate_identity(given: Mapping[str, Any], translation: Translation) -> None:
    """Who asks, and at what price."""
    if user := given.get("safety_identifier") or given.get("user"):
        translation.fields["metadata"] = {"user_id": user}
    if tier := given.get("service_tier"):
        if tier in SERVICE_TIERS:
            translation.fields["service_tier"] = SERVICE_TIERS[tier]
        else:
            translation.warn("service_tier", f'{translation.vendor} does not have "{tier}"; it was not sent.')
    if given.get("modalities") not in (None, ["text"]):
        translation.lacks("modalities")


def _translate_cache(given: Mapping[str, Any], translation: ClaudeTranslation) -> None:
    if cache := given.get("cache"):
        ttl = cache.get("ttl") if isinstance(cache, dict) else None
        translation.cache_control = {"type": "ephemeral", **({"ttl": "1h"} if ttl in LONG_CACHE else {})}
        if ttl == "24h":
            translation.warn("cache", f"{translation.vendor} caches for an hour at most; that was sent.")
