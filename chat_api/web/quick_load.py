"""Loading what is valid, which is nearly all that arrives, without marshmallow's bookkeeping for errors.

For a message that costs a fifth. The fields and rules are the schema's own, and whatever they refuse, or is not as
simple as assumed here, is loaded again by the schema, which says what is wrong.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, missing
from marshmallow.decorators import POST_LOAD, PRE_LOAD, VALIDATES, VALIDATES_SCHEMA

Loader = Callable[[dict[str, Any]], dict[str, Any]]


def loader_of(schema: Schema) -> Loader:
    """What loads an object as `schema.load` does. Raises ValidationError."""
    hooks = schema._hooks
    rules = hooks[VALIDATES_SCHEMA]
    is_simple = (
        not (hooks[PRE_LOAD] or hooks[POST_LOAD] or hooks[VALIDATES])
        and not any(of_many or options["pass_original"] for _, of_many, options in rules)
        and all(map(_is_simple, schema.load_fields.values()))
        and (schema.unknown, schema.partial, schema.many) == (RAISE, None, False)
    )
    return _quick(schema, [getattr(schema, name) for name, *_ in rules]) if is_simple else schema.load


def _is_simple(field: fields.Field[Any]) -> bool:
    return not (field.pre_load or field.post_load or field.data_key or "." in (field.attribute or ""))


def _quick(schema: Schema, rules: list[Callable[..., Any]]) -> Loader:
    known = [
        (
            name,
            field.attribute or name,
            field._deserialize,
            field.validators,
            field.allow_none,
            field.required,
            field.load_default,
        )
        for name, field in schema.load_fields.items()
    ]

    def load(values: dict[str, Any]) -> dict[str, Any]:
        loaded: dict[str, Any] = {}
        unknown = len(values)
        try:
            for name, attribute, deserialize, validators, may_be_null, is_required, default in known:
                value = values.get(name, missing)
                if value is missing:
                    if is_required:
                        break
                    if default is not missing:
                        loaded[attribute] = default() if callable(default) else default
                    continue
                unknown -= 1
                if value is not None:
                    loaded[attribute] = value = deserialize(value, name, values)
                    for validate in validators:
                        validate(value)
                elif may_be_null:
                    loaded[attribute] = None
                else:
                    break
            else:
                if not unknown:
                    for rule in rules:
                        rule(loaded, partial=None, many=False, unknown=RAISE)
                    return loaded
        except ValidationError:
            pass
        whole: dict[str, Any] = schema.load(values)
        return whole

    return load
