"""What parameters become for a provider: fields of the body, and warnings about what it can't do."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# of little to much; a vendor that lacks one gets the nearest that it has, of two equally near ones the greater
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# what a vendor that counts tokens gets for a word, and the other way round: the first that is large enough
BUDGETS = {"none": 0, "minimal": 1024, "low": 4096, "medium": 10_000, "high": 24_000, "xhigh": 32_000}
# what neither a caller nor a provider's owner can set in other words than ours
OWN_FIELDS = ("model", "messages", "stream", "stream_options", "system")
LIMITS = ("max_tokens", "max_completion_tokens")
UNSTORED = ("logprobs", "top_logprobs")


@dataclass(slots=True)
class Translation:
    """The fields that are sent, and what has to be said about them. Filled by the protocol's own functions."""

    vendor: str  # as warnings call it
    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, name: str, text: str) -> None:
        """Say something about a parameter."""
        self.warnings.append(f"{name}: {text}")

    def lacks(self, name: str) -> None:
        """Say that the provider does not have a parameter, which is therefore not sent."""
        self.warn(name, f"{self.vendor} does not have this parameter; it was not sent.")

    def without_refused(
        self, given: Mapping[str, Any], model: str, refused: Container[str]
    ) -> dict[str, Any]:
        """The parameters except for those that the model is known to refuse, which is said."""
        for name in given:
            if name in refused:
                self.warn(name, f"The model {model} does not support it; it was not sent.")
        return {name: value for name, value in given.items() if name not in refused}

    def add_extra(self, given: Mapping[str, Any]) -> None:
        """Send the fields of `extra`, which win over all others; tools are added to the others."""
        extra = given.get("extra") or {}
        tools = [*self.fields.get("tools", ()), *extra.get("tools", ())]
        self.fields = merged(self.fields, extra)
        if tools:
            self.fields["tools"] = tools

    def fit(self, given: Mapping[str, Any], name: str, largest: float) -> None:
        """Send a number, at most the largest that the provider takes."""
        value = given.get(name)
        if value is not None:
            self.fields[name] = min(value, largest)
            if value > largest:
                self.warn(name, f"{self.vendor} takes at most {largest:g}; that was sent.")

    def say_unstored(self, given: Mapping[str, Any]) -> None:
        """Say that what some parameters ask for is nowhere kept, so that they are not sent."""
        for name in UNSTORED:
            if given.get(name):
                self.warn(name, "Log probabilities are not stored, so they were not requested.")


def without_doubles(given: Mapping[str, Any], translation: Translation) -> dict[str, Any]:
    """The parameters with at most one limit and one way to say how much the model thinks."""
    chosen = {name: value for name, value in given.items() if value is not None}
    limits = [chosen[name] for name in LIMITS if name in chosen]
    if len(set(limits)) > 1:
        translation.warn(
            "max_completion_tokens", f"max_tokens was given, too; the smaller is sent: {min(limits)}."
        )
    if len(limits) > 1:
        del chosen["max_completion_tokens"]
        chosen["max_tokens"] = min(limits)
    if "thinking_budget_tokens" in chosen and chosen.pop("reasoning_effort", None) is not None:
        translation.warn("reasoning_effort", "thinking_budget_tokens was given, too, which is what counts.")
    return chosen


def nearest_effort(effort: str, words: Iterable[str]) -> str:
    """The word among these that is nearest to an effort."""
    at = EFFORTS.index(effort)
    return min(words, key=lambda word: (abs(EFFORTS.index(word) - at), -EFFORTS.index(word)))


def effort_of_budget(budget: int) -> str:
    """The effort whose budget is at least this one."""
    return next((effort for effort, tokens in BUDGETS.items() if budget <= tokens), "max")


def budget_of_effort(effort: str) -> int:
    """The tokens for an effort."""
    return BUDGETS.get(effort, BUDGETS["xhigh"])


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both objects in one: where both have a field, an object is merged likewise, anything else is the upper one's."""
    both = dict(below)
    for name, value in above.items():
        known = both.get(name)
        both[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def body_fields(of_provider: Mapping[str, Any], of_request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set for a provider below those of a request, without any that we set ourselves."""
    both = merged(of_provider, of_request)
    return {name: value for name, value in both.items() if name not in OWN_FIELDS}


def allowed_tools(choice: object) -> tuple[str, list[str]] | None:
    """Mode and names of a choice among some of the tools, in OpenAI's form; None if it is another choice."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    allowed = choice["allowed_tools"]
    return allowed["mode"], [tool["function"]["name"] for tool in allowed["tools"]]


def only_tools(tools: list[dict[str, Any]], names: Iterable[str]) -> list[dict[str, Any]]:
    """The functions with these names."""
    wanted = set(names)
    return [tool for tool in tools if tool["function"]["name"] in wanted]
