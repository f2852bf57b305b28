"""Composes the examples of bodies and answers in the OpenAPI document from those of their fields."""

from typing import Any

from .openapi_components import EXAMPLE_ID

# the ids of examples say what they are ids of: /docs sends those of the caller's own objects instead, see docs.js
_OWN_IDS = "019ab2c4-5d6e-7f80-8000-0000000000"
_KINDS = {
    "user_id": "01",
    "owner_id": "01",
    "conversation_id": "02",
    "message_id": "03",
    "parent_id": "03",
    "active_leaf_id": "03",
    "attachment_id": "04",
    "provider_id": "05",
    "completion_id": "06",
    "token_id": "07",
    "invitation_id": "08",
}


def example_id(name: str) -> str:
    """The id that examples have in a field or parameter of this name."""
    return _OWN_IDS + _KINDS[name] if name in _KINDS else EXAMPLE_ID


def add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give the body and the answers of an operation an example where they have none."""
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [response.get("content", {}) for response in operation["responses"].values()]
    for content in contents:
        for media in content.values():
            if "schema" in media and "example" not in media:
                media["example"] = _example(media["schema"], schemas)


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "example" in schema:
        return schema["example"]
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    for choices in ("allOf", "anyOf", "oneOf"):
        if choices in schema and "properties" not in schema:
            return _example(schema[choices][0], schemas)
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    if "properties" in schema:
        required = schema.get("required", ())
        return {
            name: example_id(name) if field.get("format") == "uuid" else _example(field, schemas)
            for name, field in schema["properties"].items()
            if name in required or _is_usual(field)
        }
    return EXAMPLE_ID if schema.get("format") == "uuid" else "text"


def _is_usual(field: dict[str, Any]) -> bool:
    """Whether examples have this optional field: it has an example, or consists of fields that have one."""
    return not {"example", "$ref", "anyOf", "allOf"}.isdisjoint(field)
