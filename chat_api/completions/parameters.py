"""The parameters of a completion that clients can set."""

from typing import Any, cast

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate

from ..llm.translation import EFFORTS
from ..web.fields import Flag, Text, WholeNumber, whole
from .parameter_fields import (
    MAX_TOOLS,
    Cache,
    Extra,
    JsonObject,
    Labels,
    LogitBias,
    One,
    Stop,
    StrictFloat,
    ToolChoice,
    ToolSchema,
)

MAX_TOOLS_BYTES = 256 * 1024
TIER_PATTERN = "^[a-z_-]{1,32}$"
_USER = "An id of your end user, so that the provider can detect abuse; it should not identify a person."


def _number(smallest: float, largest: float, example: float) -> fields.Float:
    return StrictFloat(
        validate=validate.Range(smallest, largest), metadata={"example": example, "type": "number"}
    )


def _limit(description: str) -> WholeNumber:
    return WholeNumber(
        validate=validate.Range(1, 10_000_000), metadata={"example": 1000, "description": description}
    )


class CompletionParametersSchema(Schema):
    """What may be said to the provider about the reply; under OpenAI's names, translated for other protocols."""

    class Meta:
        unknown = RAISE

    temperature = _number(0, 2, 0.7)
    top_p = _number(0, 1, 0.9)
    top_k = WholeNumber(
        validate=validate.Range(-1, 1_000_000),
        metadata={
            "example": 40,
            "description": "-1 and 0: of all tokens, as servers of local models have it.",
        },
    )
    min_p = _number(0, 1, 0.05)
    repetition_penalty = _number(0, 2, 1.1)
    presence_penalty = _number(-2, 2, 0)
    frequency_penalty = _number(-2, 2, 0)
    seed = WholeNumber(validate=validate.Range(-(2**53), 2**53), metadata={"example": 7})
    logit_bias = LogitBias()
    max_tokens = _limit(
        "Maximum length of the reply in tokens, reasoning included. Default: the provider's; for Claude the model's."
    )
    max_completion_tokens = _limit("The same as max_tokens.")
    stop = Stop()
    n = One(metadata={"example": 1, "enum": [1], "description": "A completion has one reply."})
    reasoning_effort = fields.String(
        validate=validate.OneOf([*EFFORTS, "default"]),
        metadata={
            "example": "low",
            "description": "How much the model reasons, translated for each provider. `default`: the model's own "
            "default.",
        },
    )
    thinking_budget_tokens = WholeNumber(
        validate=validate.Range(0, 10_000_000),
        metadata={
            "example": 8000,
            "description": "How much the model may reason, in tokens; used instead of reasoning_effort.",
        },
    )
    verbosity = fields.String(
        validate=validate.OneOf(["low", "medium", "high"]), metadata={"example": "medium"}
    )
    response_format = JsonObject(
        metadata={"example": {"type": "json_object"}, "description": "The same as in OpenAI's API."}
    )
    tools = fields.List(fields.Nested(ToolSchema), validate=validate.Length(1, MAX_TOOLS))
    tool_choice = ToolChoice()
    parallel_tool_calls = Flag(metadata={"example": True})
    modalities = fields.List(
        fields.String(validate=validate.OneOf(["text", "audio", "image"])),
        validate=validate.Length(1, 3),
        metadata={"example": ["text"]},
    )
    cache = Cache()
    logprobs = Flag(
        metadata={
            "example": False,
            "description": "Accepted but not requested from the provider, because they are not stored; see `warnings`.",
        }
    )
    top_logprobs = WholeNumber(validate=validate.Range(0, 20), metadata={"example": 0})
    service_tier = fields.String(
        validate=validate.Regexp(whole(TIER_PATTERN), error="Must be 1 to 32 lower-case letters, - and _."),
        metadata={"example": "auto", "pattern": TIER_PATTERN},
    )
    user = Text(required=False, longest=256, metadata={"example": "u-7f3a", "description": _USER})
    safety_identifier = Text(
        required=False, longest=256, metadata={"example": "u-7f3a", "description": _USER}
    )
    metadata = Labels()
    store = Flag(metadata={"example": False, "description": "Whether the provider may keep the reply."})
    chat_template_kwargs = JsonObject(
        metadata={
            "example": {"enable_thinking": False},
            "description": "Arguments of the model's chat template, for vLLM, SGLang and llama.cpp.",
        }
    )
    extra = Extra()

    @post_load
    def refuse_too_much(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        for name in ("tools", "response_format", "chat_template_kwargs", "extra"):
            if name in values and len(orjson.dumps(values[name])) > MAX_TOOLS_BYTES:
                raise ValidationError({name: [f"Longer than {MAX_TOOLS_BYTES} bytes."]})
        values.pop("n", None)
        return values


cast(Extra, CompletionParametersSchema._declared_fields["extra"]).leave_to_others(
    CompletionParametersSchema._declared_fields
)
