"""Composes the examples of bodies and answers in the OpenAPI document from those of their fields."""

from typing import Any

from .openapi_components import EXAMPLE_ID


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
    for choices in ("allOf", "anyOf"):
        if choices in schema and "properties" not in schema:
            return _example(schema[choices][0], schemas)
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    if "properties" in schema:
        required = schema.get("required", ())
        return {
            name: _example(field, schemas)
            for name, field in schema["properties"].items()
            if name in required or _is_usual(field)
        }
    return EXAMPLE_ID if schema.get("format") == "uuid" else "text"


def _is_usual(field: dict[str, Any]) -> bool:
    """Whether examples have this optional field: it has an example, or consists of fields that have one."""
    return not {"example", "$ref", "anyOf", "allOf"}.isdisjoint(field)
