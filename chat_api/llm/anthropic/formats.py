"""Replies of a given form: a JSON schema that the provider enforces, or else words in the system prompt."""

from typing import Any

import orjson

from ..untrusted_json import as_dict


def output_format(response_format: dict[str, Any]) -> dict[str, Any] | None:
    """OpenAI's `response_format` as `output_config.format`; None if it has no schema."""
    schema = as_dict(response_format.get("json_schema")).get("schema")
    return {"type": "json_schema", "schema": _closed(schema)} if isinstance(schema, dict) else None


def json_instruction(response_format: dict[str, Any]) -> str:
    """What a model is told that can't be bound to a schema."""
    schema = as_dict(response_format.get("json_schema")).get("schema")
    if isinstance(schema, dict):
        text = orjson.dumps(schema).decode()
        return f"Answer with one JSON object and nothing else. It must match this JSON Schema: {text}"
    return "Answer with one JSON object and nothing else."


def _closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` in each object that does not say it, which the API requires."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if closed.get("type") == "object" and not isinstance(closed.get("additionalProperties"), bool | dict):
        closed["additionalProperties"] = False
    return closed
