"""Metadata: a few pairs of texts that a client keeps with an object and finds it by, with OpenAI's limits."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import ValidationError, fields

from .fields import STORABLE_PATTERN

MAX_PAIRS = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512
MAX_FILTERS = 4  # of a list
QUERY_PATTERN = re.compile(r"metadata\[(.+)\]\Z", re.DOTALL)

METADATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "example": {"topic": "travel"},
    "maxProperties": MAX_PAIRS,
    "propertyNames": {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS, "pattern": STORABLE_PATTERN},
    "additionalProperties": {
        "type": "string",
        "maxLength": MAX_VALUE_CHARACTERS,
        "pattern": STORABLE_PATTERN,
    },
}


class Metadata(fields.Dict):
    """An object of texts. In a PATCH it replaces what there was; null and {} leave none."""

    longest_json = MAX_PAIRS * (MAX_KEY_CHARACTERS + MAX_VALUE_CHARACTERS) * 12  # with all as escapes

    def __init__(self, **kwargs: Any) -> None:
        metadata = {**METADATA_SCHEMA, **kwargs.pop("metadata", {})}
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        pairs: dict[str, str] = super()._deserialize(value, attr, data, **kwargs)
        if complaint := complaint_about(pairs):
            raise ValidationError(complaint)
        return pairs


def complaint_about(pairs: Mapping[str, Any]) -> str | None:
    """What is wrong with metadata, or None."""
    if len(pairs) > MAX_PAIRS:
        return f"More than {MAX_PAIRS} pairs."
    for key, value in pairs.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            return f"A key has 1 to {MAX_KEY_CHARACTERS} characters."
        if not isinstance(value, str):
            return "A value is a text."
        if "\x00" in key + value:
            return "Must not contain a NUL character."
        if len(value) > MAX_VALUE_CHARACTERS:
            return f"A value has {MAX_VALUE_CHARACTERS} characters at most."
    return None


def as_stored(pairs: Mapping[str, str] | None) -> str | None:
    """As a column has them; None for none."""
    return orjson.dumps(pairs).decode() if pairs else None


def gather_filters(values: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a query, with those like `metadata[topic]=travel` together as `metadata`."""
    found = {name: QUERY_PATTERN.match(name) for name in values}
    pairs = {match[1]: values[name] for name, match in found.items() if match}
    others = {name: values[name] for name, match in found.items() if not match}
    if not pairs:
        return others
    if len(pairs) > MAX_FILTERS:
        raise ValidationError({"metadata": [f"More than {MAX_FILTERS} pairs."]})
    return {**others, "metadata": pairs}
