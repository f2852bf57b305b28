"""Of which kinds the tokens of a usage are, under the names that providers have for it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .untrusted_json import as_count, as_dict

# the objects of details, and in them or beside them the counts; the first that is there counts
OBJECTS_OF_PROMPT = ("prompt_tokens_details", "input_tokens_details")
OBJECTS_OF_COMPLETION = ("completion_tokens_details", "output_tokens_details")
CACHED = (
    "cached_tokens",
    "cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "cachedContentTokenCount",
    "cacheReadInputTokens",
)
REASONING = ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount")


class TokenDetails(NamedTuple):
    """How many tokens of the prompt came from a cache, how many of the completion are thoughts; None: not said."""

    cached: int | None
    reasoning: int | None


def details_of(usage: Mapping[str, Any]) -> TokenDetails:
    """The details in a usage of any provider."""
    return TokenDetails(
        _count(usage, OBJECTS_OF_PROMPT, CACHED), _count(usage, OBJECTS_OF_COMPLETION, REASONING)
    )


def _count(usage: Mapping[str, Any], objects: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    for place in (*(as_dict(usage.get(name)) for name in objects), usage):
        for name in names:
            if (count := as_count(place.get(name))) is not None:
                return count
    return None
