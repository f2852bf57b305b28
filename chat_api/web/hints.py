"""What to do instead, for a field that is not known where it stands but elsewhere."""

from typing import Any

from marshmallow import Schema, fields

UNKNOWN = "Unknown field."


class Hinted:
    """Mixin of a schema that knows what to say of fields that clients of other APIs send."""

    hints: dict[str, str] = {}
    """What to do instead, by the name of the field."""


def with_hints(schema: Schema, messages: dict[str, Any]) -> dict[str, Any]:
    """The messages of a validation, of which those about unknown fields say where the field belongs."""
    nested = {
        name: field.schema for name, field in schema.load_fields.items() if isinstance(field, fields.Nested)
    }
    told: dict[str, Any] = {}
    for name, found in messages.items():
        if found == [UNKNOWN]:
            told[name] = [_hint(name, schema, nested)]
        elif name in nested and isinstance(found, dict):
            told[name] = {
                inner: [_hint_outward(inner, name, nested[name], schema)] if texts == [UNKNOWN] else texts
                for inner, texts in found.items()
            }
        else:
            told[name] = found
    return told


def _hint(name: str, schema: Schema, nested: dict[str, Schema]) -> str:
    """Of a field of the body itself."""
    if isinstance(schema, Hinted) and name in schema.hints:
        return f"{UNKNOWN} {schema.hints[name]}"
    for outer, inner in nested.items():
        if name in inner.load_fields:
            return f"{UNKNOWN} It belongs into `{outer}`."
    return UNKNOWN


def _hint_outward(name: str, outer: str, schema: Schema, body: Schema) -> str:
    """Of a field inside another one."""
    if isinstance(schema, Hinted) and name in schema.hints:
        return f"{UNKNOWN} {schema.hints[name]}"
    if name in body.load_fields:
        return f"{UNKNOWN} It belongs beside `{outer}`, not into it."
    return UNKNOWN
