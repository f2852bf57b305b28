"""Names of models below /v1: `provider/model`. Which provider a name means."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..llm.model_lists import MAX_MODEL_ID_LENGTH
from ..user_llm_configs.service import Choice
from .errors import RequestRefused

MAX_NAMED = 5  # models that an error names


class Target(NamedTuple):
    """Where a request goes."""

    choice: Choice
    model: str


def asked(body: Mapping[str, Any]) -> str:
    """The name of the model that a request asks for. Raises RequestRefused."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        code = "invalid_value" if name else "missing_required_parameter"
        raise RequestRefused("model must be the name of a model.", param="model", code=code)
    return name


def resolve(name: str, choices: Sequence[Choice]) -> Target:
    """The provider and model that a name means. Raises RequestRefused.

    Own slugs come before shared ones, and these before ids. A name without a known provider is the one
    `default_model` that is equal to it; or a model of the only provider there is.
    """
    prefix, _, rest = name.partition("/")
    for is_meant in (
        lambda choice: not choice.is_shared and choice.slug == prefix,
        lambda choice: choice.is_shared and choice.slug == prefix,
        lambda choice: choice.provider_id == prefix.lower(),
    ):
        if found := next(filter(is_meant, choices), None):
            model = rest or found.default_model
            if model is None:
                raise RequestRefused(
                    f"{prefix} has no default model; name one: {prefix}/…",
                    param="model",
                    code="model_not_found",
                    status=404,
                )
            return _target(found, model)
    equal = [choice for choice in choices if choice.default_model == name]
    if len(equal) > 1:
        names = ", ".join(sorted(choice.name for choice in equal)[:MAX_NAMED])
        raise RequestRefused(
            f"Several providers have this model; put the provider before it: {names}.",
            param="model",
            code="model_ambiguous",
        )
    if equal:
        return _target(equal[0], name)
    if len(choices) == 1:
        return _target(choices[0], name)
    raise _unknown(name, choices)


def _target(choice: Choice, model: str) -> Target:
    if len(model) > MAX_MODEL_ID_LENGTH:
        raise RequestRefused(f"model: at most {MAX_MODEL_ID_LENGTH} characters.", param="model")
    return Target(choice, model)


def _unknown(name: str, choices: Iterable[Choice]) -> RequestRefused:
    known = [f"{choice.prefix}/{choice.default_model or '…'}" for choice in choices][:MAX_NAMED]
    hint = (
        f"Models are named provider/model, such as {', '.join(known)}."
        if known
        else "You have no key for a provider: store one with POST /chat/user-llm-configs."
    )
    return RequestRefused(
        f"There is no such model: {name[:200]}. {hint}", param="model", code="model_not_found", status=404
    )
