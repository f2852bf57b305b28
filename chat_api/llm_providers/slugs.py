"""Slugs: what stands for a provider in the name of a model, `openrouter/llama-3`."""

import re
from collections.abc import Collection

MAX_LENGTH = 63
SLUG_PATTERN = "^[a-z0-9][a-z0-9._-]{0,62}$"
_OTHERS = re.compile("[^a-z0-9._-]+")
WITHOUT_NAME = "provider"


def slug_of(name: str) -> str:
    """The slug of a name, without looking whether it is taken."""
    slug = _OTHERS.sub("-", name.lower()).strip("-._")
    return slug[:MAX_LENGTH].rstrip("-._") or WITHOUT_NAME


def unique_slug(name: str, provider_id: str) -> str:
    """The slug of a name with an ending of the provider's own."""
    ending = f"-{provider_id[-8:]}"
    return slug_of(name)[: MAX_LENGTH - len(ending)].rstrip("-._") + ending


def free_slug(name: str, taken: Collection[str]) -> str:
    """The slug of a name, with a number where that is taken."""
    slug, number = slug_of(name), 2
    free = slug
    while free in taken:
        ending = f"-{number}"
        free, number = slug[: MAX_LENGTH - len(ending)] + ending, number + 1
    return free
