"""How much Claude thinks: `reasoning_effort` and `thinking_budget_tokens` as `thinking` and `output_config.effort`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..claude_blocks import THINKING, blocks_of
from ..request import ChatMessage
from ..translation import Translation, budget_of_effort, effort_of_budget, nearest_effort
from .models import ModelTraits

EFFORT, BUDGET = "reasoning_effort", "thinking_budget_tokens"
SMALLEST_BUDGET = 1024
# what remains of the reply's limit for the reply itself
SMALLEST_REPLY = 1


def translate_thinking(given: Mapping[str, Any], traits: ModelTraits, translation: Translation) -> None:
    """Add the fields for the effort or the budget that was given, if any. Comes after limit and tools."""
    effort, budget = given.get(EFFORT), given.get(BUDGET)
    if effort in (None, "default") and budget is None:
        return
    name = EFFORT if budget is None else BUDGET
    if effort == "none" or budget == 0:
        _switch_off(name, traits, translation)
    elif traits.thinking == "none":
        translation.warn(name, "The model does not think; it was not sent.")
    elif translation.fields.get("tool_choice", {}).get("type") in ("any", "tool"):
        translation.warn(name, "A model that must call a tool can't think; it was not sent.")
    elif traits.thinking == "budget" or (budget is not None and traits.has_budget):
        tokens = budget_of_effort(effort or "none") if budget is None else budget
        _think_within(tokens, name, translation)
    else:
        if budget is not None:
            translation.warn(name, "The model decides itself how much it thinks; an effort was sent instead.")
        _think_adaptively(effort or effort_of_budget(budget or 0), traits, translation)


def begins_without_thought(messages: Sequence[ChatMessage], *, has_state: bool) -> bool:
    """Whether the last message of the assistant has calls, but does not begin with a thought: another model, or the
    same one when it was not to think, has made them."""
    said = [message for message in messages if message.content.strip() or message.tool_calls or message.parts]
    last = next((index for index in reversed(range(len(said))) if said[index].role == "assistant"), None)
    if last is None or not said[last].tool_calls:
        return False
    while last and said[last - 1].role == "assistant" and not said[last - 1].tool_calls:
        last -= 1  # they are sent as one
    blocks = blocks_of(said[last]) if has_state else []
    return not (blocks and blocks[0]["type"] in THINKING)


def think_later(translation: Translation) -> None:
    """Let a model that was to think within a budget not do so: then it wants its thought before the last calls."""
    if translation.fields.get("thinking", {}).get("type") == "enabled":
        translation.fields["thinking"] = {"type": "disabled"}
        translation.warn(
            EFFORT, "The last tool calls were made without a thought; it thinks again after them."
        )


def _switch_off(name: str, traits: ModelTraits, translation: Translation) -> None:
    if traits.thinking == "always":
        translation.warn(name, 'The model always thinks; the effort "low" was sent.')
        _set_effort("low", translation)
    elif traits.thinking != "none":
        translation.fields["thinking"] = {"type": "disabled"}


def _think_within(tokens: int, name: str, translation: Translation) -> None:
    """A budget must be at least so large, and smaller than the limit of the reply, of which it is a part."""
    limit = translation.fields["max_tokens"]
    if limit <= SMALLEST_BUDGET:
        translation.warn(
            name, f"max_tokens leaves no room for {SMALLEST_BUDGET} tokens of thinking; not sent."
        )
        return
    fitting = max(SMALLEST_BUDGET, min(tokens, limit - SMALLEST_REPLY))
    if name == BUDGET and fitting != tokens:
        translation.warn(
            name, f"{fitting} was sent: it must be at least {SMALLEST_BUDGET}, and below max_tokens."
        )
    translation.fields["thinking"] = {"type": "enabled", "budget_tokens": fitting}


def _think_adaptively(effort: str, traits: ModelTraits, translation: Translation) -> None:
    fitting = nearest_effort(effort, traits.efforts)
    if fitting != effort:
        translation.warn(EFFORT, f'The model does not have "{effort}"; "{fitting}" was sent.')
    _set_effort(fitting, translation)
    kind = "enabled" if traits.thinking == "both" else "adaptive"
    display = {"display": "summarized"} if traits.hides_thoughts else {}
    translation.fields["thinking"] = {"type": kind, **display}


def _set_effort(effort: str, translation: Translation) -> None:
    translation.fields.setdefault("output_config", {})["effort"] = effort
