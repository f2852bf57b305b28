"""What the models that speak Anthropic's protocol can do: a table of data, by family and version.

From Anthropic's documents. A model in no row is one of another vendor, or has a name of its own.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What the translation of parameters has to know of a model."""

    max_tokens: int  # the longest reply, thoughts included
    # "budget": a number of tokens; "adaptive": the model decides, within an effort; "always": so, and it can't be
    # switched off; "both": `thinking` is a switch beside an effort, as DeepSeek has it
    thinking: Literal["none", "budget", "adaptive", "always", "both"] = "budget"
    efforts: tuple[str, ...] = ()  # of output_config
    has_budget: bool = False  # takes a number of tokens although it is adaptive
    hides_thoughts: bool = False  # unless they are asked for
    has_sampling: bool = True  # temperature, top_p, top_k
    one_of_sampling: bool = False  # temperature or top_p, not both
    has_formats: bool = False  # output_config.format, and strict tools
    can_force_tools: bool = True


_V3 = ModelTraits(max_tokens=4096, thinking="none")
_V35 = replace(_V3, max_tokens=8192)
_V37 = ModelTraits(max_tokens=64_000)
_OPUS_4 = ModelTraits(max_tokens=32_000)
_V41 = replace(_OPUS_4, one_of_sampling=True)
_V45 = ModelTraits(max_tokens=64_000, one_of_sampling=True, has_formats=True)
_V46 = replace(
    _V45, max_tokens=128_000, thinking="adaptive", efforts=("low", "medium", "high", "max"), has_budget=True
)
_V47 = replace(_V46, has_budget=False, efforts=ALL_EFFORTS, hides_thoughts=True, has_sampling=False)
_V55 = replace(_V47, thinking="always", can_force_tools=False)
_FAMILIES = "opus|sonnet|haiku|fable|mythos"

# the newest row first: a model has the traits of the first row whose version is not above its own
_CLAUDE: tuple[tuple[frozenset[str], tuple[int, int], ModelTraits], ...] = (
    (frozenset({"fable", "mythos"}), (0, 0), _V55),
    (frozenset(), (5, 5), _V55),
    (frozenset(), (4, 7), _V47),
    (frozenset(), (4, 6), _V46),
    (frozenset(), (4, 5), _V45),
    (frozenset({"opus"}), (4, 1), _V41),
    (frozenset({"opus"}), (4, 0), _OPUS_4),
    (frozenset(), (4, 0), _V37),
    (frozenset(), (3, 7), _V37),
    (frozenset(), (3, 5), _V35),
    (frozenset(), (0, 0), _V3),
)
# models of others that have an endpoint of this protocol
_OTHERS = (
    (
        re.compile("deepseek"),
        ModelTraits(max_tokens=64_000, thinking="both", efforts=("low", "high", "max")),
    ),
)
UNKNOWN = ModelTraits(max_tokens=32_000)

_NAME_FIRST = re.compile(rf"claude-({_FAMILIES})-(\d{{1,2}})(?!\d)(?:[-.](\d{{1,2}})(?!\d))?")
_VERSION_FIRST = re.compile(rf"claude-(\d{{1,2}})(?:[-.](\d{{1,2}}))?-({_FAMILIES})")


def traits_of(model: str) -> ModelTraits:
    """The traits of a model, whatever stands around its name: `us.anthropic.claude-sonnet-4-5-20250929-v1:0`."""
    name = model.lower()
    if found := _NAME_FIRST.search(name):
        return _of_claude(found[1], int(found[2]), int(found[3] or 0))
    if found := _VERSION_FIRST.search(name):
        return _of_claude(found[3], int(found[1]), int(found[2] or 0))
    return next((traits for pattern, traits in _OTHERS if pattern.search(name)), UNKNOWN)


def _of_claude(family: str, major: int, minor: int) -> ModelTraits:
    return next(
        traits
        for families, since, traits in _CLAUDE
        if (not families or family in families) and (major, minor) >= since
    )
