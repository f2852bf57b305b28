"""The quick way to load gives what the schemas give, for whatever is sent."""

import random
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from chat_api.database.columns import new_id
from chat_api.messages.schemas import CreateMessageSchema
from chat_api.transfer.schemas import LINES
from chat_api.web.quick_load import loader_of

TIME = "2026-11-23T09:30:00.123456Z"
ID = new_id()
VALUES: list[Any] = [
    *(ID, ID.upper(), TIME, "user", "tool", "completed", "Hello", "", "x" * 300, "image/png", "https://example.org/"),
    *(0, 1, -1, 2.0, 2.5, 2**31, 2**70, True, False, None),
    *([], {}, [{}], [{"id": "a", "name": "b", "arguments": "{}"}], {"provider_id": ID, "model": "m", "state": {}}),
]  # fmt: skip
LIKELY = {
    "role": "user",
    "content": "Hello",
    "position": 3,
    "title": "A title",
    "status": "completed",
    "last_position": 3,
    "archived": False,
    "metadata": {"topic": "travel"},
    "source": "import",
}
SCHEMAS = [*LINES.values(), CreateMessageSchema()]


def result_of(load: Any, values: dict[str, Any]) -> Any:
    try:
        return load(values)
    except ValidationError as error:
        return error.normalized_messages()


def likely(name: str) -> Any:
    return TIME if name.endswith("_at") else ID if name.endswith("id") else LIKELY.get(name, "text")


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: type(schema).__name__)
def test_it_loads_what_the_schema_loads(schema: Schema) -> None:
    chance, load = random.Random(15), loader_of(schema)
    loaded_names = {field.attribute or name for name, field in schema.load_fields.items()}
    valid = 0
    for _ in range(3000):
        values = {
            name: chance.choice(VALUES) if chance.random() < 0.1 else likely(name)
            for name, field in schema.load_fields.items()
            if chance.random() < (0.98 if field.required else 0.3)
        }
        if chance.random() < 0.05:
            values["unknown"] = 1
        expected = result_of(schema.load, dict(values))
        assert result_of(load, dict(values)) == expected, values
        valid += expected.keys() <= loaded_names and not any(map(is_message, expected.values()))
    assert valid or type(schema).__name__ not in ("MessageLine", "ConversationLine", "CreateMessageSchema")


def is_message(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


class Doubled(Schema):
    number = fields.Integer(required=True)

    @post_load
    def double(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"number": values["number"] * 2}


class Renamed(Schema):
    number = fields.Integer(data_key="count", attribute="amount")


class Ruled(Schema):
    first = fields.Integer(required=True, validate=[validate.Range(1), validate.Range(max=9)])
    second = fields.Integer(load_default=5)

    @validates_schema
    def require_order(self, values: dict[str, Any], **kwargs: Any) -> None:
        if values["first"] > values["second"]:
            raise ValidationError({"second": ["Less than first."]})


@pytest.mark.parametrize(
    ("schema", "values", "expected"),
    [
        (Doubled(), {"number": 2}, {"number": 4}),
        (Renamed(), {"count": 2}, {"amount": 2}),
        (Ruled(), {"first": 4}, {"first": 4, "second": 5}),
        (Ruled(), {"first": 6}, {"second": ["Less than first."]}),
        (Ruled(), {"first": 10, "second": 20}, {"first": ["Must be less than or equal to 9."]}),
    ],
)
def test_hooks_names_and_rules_count(schema: Schema, values: dict[str, Any], expected: Any) -> None:
    assert result_of(loader_of(schema), values) == expected == result_of(schema.load, values)
