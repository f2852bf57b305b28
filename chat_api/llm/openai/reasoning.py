"""How much a model thinks before it answers: `reasoning_effort` and `thinking_budget_tokens` in each vendor's form."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..translation import Translation, budget_of_effort, effort_of_budget, merged, nearest_effort
from .dialects import Dialect

EFFORT, BUDGET = "reasoning_effort", "thinking_budget_tokens"
DEFAULT = "default"  # what the model does by itself

# the models of vendors whose others can only be switched
_KIMI_WITH_EFFORT = re.compile(r"kimi-k([3-9]|\d\d)")
_GLM_WITH_EFFORT = re.compile(r"glm-(5\.[2-9]|[6-9]|\d\d)")

Fields = dict[str, Any]


def translate_reasoning(
    given: Mapping[str, Any], model: str, dialect: Dialect, translation: Translation
) -> None:
    """Add the fields for the effort or the budget that was given, if any."""
    effort, budget = given.get(EFFORT), given.get(BUDGET)
    if effort == DEFAULT and dialect.has_default_effort:
        translation.fields[EFFORT] = DEFAULT
    elif effort not in (None, DEFAULT) or budget is not None:
        style = _STYLES[dialect.reasoning]
        found = style(effort, budget, _Target(model, dialect, translation))
        translation.fields = merged(
            found, translation.fields
        )  # what was given in the vendor's own words wins


class _Target:
    """Whom a request goes to."""

    def __init__(self, model: str, dialect: Dialect, translation: Translation) -> None:
        self.model = model.lower()
        self.dialect = dialect
        self.translation = translation

    def effort(self, effort: str | None, budget: int | None) -> str:
        """The vendor's word for an effort or a budget; says so where it is not quite what was asked for."""
        word = effort if effort is not None else effort_of_budget(budget or 0)
        fitting = nearest_effort(word, self.dialect.efforts)
        if budget is not None:
            self.warn(BUDGET, f'has no budget for thinking; the effort "{fitting}" was sent.')
        elif fitting != word:
            self.warn(EFFORT, f'does not have "{word}"; "{fitting}" was sent.')
        return fitting

    def warn(self, name: str, text: str) -> None:
        """Say something about the vendor."""
        self.translation.warn(name, f"{self.dialect.label} {text}")


def _effort(effort: str | None, budget: int | None, target: _Target) -> Fields:
    return {EFFORT: target.effort(effort, budget)}


def _gemini(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if budget is None:
        return _effort(effort, budget, target)
    thinking = {"thinking_budget": budget, "include_thoughts": budget > 0}
    return {"extra_body": {"google": {"thinking_config": thinking}}}


def _openrouter(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if budget:
        return {"reasoning": {"max_tokens": budget}}
    return {"reasoning": {"effort": effort if budget is None else "none"}}


def _deepseek(effort: str | None, budget: int | None, target: _Target) -> Fields:
    """It takes every word for an effort, and maps it itself."""
    if effort == "none" or budget == 0:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled"}, EFFORT: target.effort(effort, budget)}


def _moonshot(effort: str | None, budget: int | None, target: _Target) -> Fields:
    return _switch(effort, budget, target, has_effort=bool(_KIMI_WITH_EFFORT.search(target.model)))


def _zai(effort: str | None, budget: int | None, target: _Target) -> Fields:
    return _switch(effort, budget, target, has_effort=bool(_GLM_WITH_EFFORT.search(target.model)))


def _switch(effort: str | None, budget: int | None, target: _Target, *, has_effort: bool) -> Fields:
    if effort == "none" or budget == 0:
        return {"thinking": {"type": "disabled"}}
    if has_effort:
        return {"thinking": {"type": "enabled"}, EFFORT: target.effort(effort, budget)}
    name = BUDGET if budget is not None else EFFORT
    target.warn(name, "has no degrees of thinking for this model; it was switched on.")
    return {"thinking": {"type": "enabled"}}


def _dashscope(effort: str | None, budget: int | None, target: _Target) -> Fields:
    tokens = budget_of_effort(effort or "none") if budget is None else budget
    return {"enable_thinking": True, "thinking_budget": tokens} if tokens else {"enable_thinking": False}


def _together(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if effort == "none" or budget == 0:
        return {"reasoning": {"enabled": False}}
    return _effort(effort, budget, target)


def _fireworks(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if budget:
        return {"thinking": {"type": "enabled", "budget_tokens": max(budget, 1024)}}
    return _effort("none" if budget == 0 else effort, None, target)


def _vllm(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if effort == "none" or budget == 0:
        return {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}
    switched_on = {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}
    return {**switched_on, "thinking_token_budget": budget} if budget else {**switched_on, EFFORT: effort}


def _llamacpp(effort: str | None, budget: int | None, target: _Target) -> Fields:
    if effort == "none" or budget == 0:
        return {"chat_template_kwargs": {"enable_thinking": False}}
    if budget:
        return {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": budget}
    return {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": effort}}


_STYLES: Mapping[str, Callable[[str | None, int | None, _Target], Fields]] = {
    "effort": _effort,
    "gemini": _gemini,
    "openrouter": _openrouter,
    "deepseek": _deepseek,
    "moonshot": _moonshot,
    "zai": _zai,
    "dashscope": _dashscope,
    "together": _together,
    "fireworks": _fireworks,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
}
