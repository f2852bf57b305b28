"""The schemas of completions."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..llm.model_lists import ABILITIES
from ..messages.parts import (
    MAX_CONTENT_BYTES,
    MAX_PARTS,
    ContentField,
    attachment_ids_field,
    attachment_ids_of,
    refuse_attachments,
)
from ..messages.schemas import MessageSchema
from ..web.fields import Flag, IdField, Output, Text, Time, whole
from ..web.hints import Hinted
from .models import STATUSES, USAGE_DETAILS
from .omissions import MAX_LISTED, REASONS
from .parameters import CompletionParametersSchema

POSITION_PATTERN = "^(-1|[0-9]{1,16})$"


class CreateCompletionSchema(Hinted, Schema):
    hints = {
        "messages": "What the conversation has is sent. Put the new message into `content`, or append others with "
        "POST /chat/messages first. The base URL of OpenAI's clients ends with /v1.",
        "prompt": "Put the new message into `content`.",
        "input": "Put the new message into `content`.",
        "system": "Append a message with the role `system` with POST /chat/messages.",
        "instructions": "Append a message with the role `system` with POST /chat/messages.",
        "user_id": "The owner of the conversation is the owner of its completions.",
        "api_key": "Keys are stored once, with POST /chat/user-llm-configs.",
    }

    conversation_id = IdField()
    provider_id = IdField()
    model = Text(
        longest=255,
        required=False,
        load_default=None,
        metadata={
            "example": "gpt-5-mini",
            "description": "Default: the `default_model` of the user's config for the provider.",
        },
    )
    content = ContentField(
        shortest=0,
        max_bytes=MAX_CONTENT_BYTES,
        required=False,
        load_default=None,
        metadata={
            "example": "Where should I eat?",
            "description": "A user message to append first; it is stored before the provider is called. Text, or a "
            f"list of texts and attachments in the order in which they are meant, {MAX_PARTS} at most. Text may be "
            "empty beside attachments. Without `content` and `attachment_ids` the completion replies to the last "
            "message of the active path.",
        },
    )
    attachment_ids = attachment_ids_field()
    parent_id = IdField(
        required=False,
        load_default=None,
        metadata={"description": "Reply to this message instead of the last one of the active path."},
    )
    parameters = fields.Nested(
        CompletionParametersSchema,
        load_default=dict,
        metadata={"example": {"temperature": 0.7, "max_tokens": 1000, "stop": ["\n\n"]}},
    )
    stream = Flag(
        load_default=False,
        metadata={"example": False, "description": "Whether to answer with server-sent events."},
    )
    background = Flag(
        load_default=False,
        metadata={
            "example": False,
            "description": "Answer at once, with 202 and the completion in progress, whose events can be read at "
            "any time.",
        },
    )
    on_disconnect = fields.String(
        load_default="continue",
        validate=validate.OneOf(["continue", "cancel"]),
        metadata={
            "example": "continue",
            "description": "What happens when the client disconnects before the end: `continue` or `cancel` the "
            "completion. With `cancel`, closing only the client's side of the connection counts as disconnecting.",
        },
    )

    @validates_schema
    def require_message(self, values: dict[str, Any], **kwargs: Any) -> None:
        """Raise ValidationError where there is a message that says nothing, or its attachments can't be."""
        ids = attachment_ids_of(values)
        if values.get("content") is not None and not values["content"] and not ids:
            raise ValidationError({"content": ["Must not be empty, except with attachments."]})
        if ids:
            refuse_attachments(values)

    @validates_schema
    def refuse_two_ways(self, values: dict[str, Any], **kwargs: Any) -> None:
        """Raise ValidationError where nobody would wait for what was asked for."""
        if values.get("background") and values.get("stream"):
            raise ValidationError({"background": ["Use only one of `background` and `stream`."]})
        if values.get("background") and values.get("on_disconnect") == "cancel":
            raise ValidationError(
                {"on_disconnect": ["Nobody is connected to a completion in the `background`."]}
            )


class DryRunSchema(Schema):
    dry_run = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata={
            "description": "Return what would be sent to the provider, without sending or storing anything."
        },
    )


class EventsQuerySchema(Schema):
    after = fields.String(
        validate=validate.Regexp(whole(POSITION_PATTERN), error="Not an event id: an integer, or -1."),
        metadata={
            "example": "-1",
            "pattern": POSITION_PATTERN,
            "description": "Only events after the one with this id. The header `Last-Event-ID` takes precedence.",
        },
    )

    ticket = fields.String(
        metadata={
            "description": "Instead of a token: what `POST /chat/completions/{completion_id}/events/ticket` returned."
        }
    )


class TicketSchema(Output):
    ticket = fields.String(metadata={"example": "WyIwMTlhYjJjNC…"})
    url = fields.String(
        metadata={
            "example": "/chat/completions/019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071/events?ticket=WyIwMTlhYjJjNC…",
            "description": "The address of the events, for an `EventSource`.",
        }
    )
    expires_in = fields.Integer(metadata={"example": 60, "description": "Seconds."})


class ProviderRequestSchema(Output):
    method = fields.String(metadata={"example": "POST"})
    url = fields.String(metadata={"example": "https://api.example.com/v1/chat/completions"})
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={
            "example": {"Content-Type": "application/json", "Authorization": "Bearer ****"},
            "description": "The headers, with the API key masked.",
        },
    )
    body = fields.Dict(
        metadata={
            "example": {
                "model": "gpt-5-mini",
                "messages": [{"role": "user", "content": "Where should I eat?"}],
                "stream": True,
            }
        }
    )


def _warnings() -> fields.List:
    return fields.List(
        fields.String(),
        metadata={
            "example": ["temperature: Anthropic's protocol takes at most 1; that was sent."],
            "description": "Which `parameters` were not sent, or not as given, because the provider or the model does "
            "not support them. Each begins with the parameter's name.",
        },
    )


class OmittedAttachmentSchema(Output):
    attachment_id = IdField()
    reason = fields.String(
        validate=validate.OneOf(list(REASONS)),
        metadata={"example": "no_room", "description": "Why; see docs/attachments.md."},
    )


def _omitted_attachments() -> fields.List:
    return fields.List(
        fields.Nested(OmittedAttachmentSchema),
        metadata={
            "example": [],
            "description": "Attachments of the sent messages that were left out of the request, newest first, at most "
            f"{MAX_LISTED}.",
        },
    )


class PreviewSchema(Output):
    request = fields.Nested(ProviderRequestSchema)
    omitted_messages = fields.Integer(
        metadata={"example": 0, "description": "Number of older messages left out to fit the context window."}
    )
    omitted_attachments = _omitted_attachments()
    prompt_tokens = fields.Integer(metadata={"example": 9, "description": "An estimate."})
    warnings = _warnings()


class UsageSchema(Output):
    may_lack = USAGE_DETAILS

    prompt_tokens = fields.Integer(metadata={"example": 16})
    completion_tokens = fields.Integer(metadata={"example": 120})
    total_tokens = fields.Integer(metadata={"example": 136})
    cached_tokens = fields.Integer(
        metadata={
            "example": 8,
            "description": "Prompt tokens that the provider read from its cache; only present if it reports them.",
        }
    )
    reasoning_tokens = fields.Integer(
        metadata={
            "example": 64,
            "description": "Completion tokens that are reasoning; only present if the provider reports them.",
        }
    )
    estimated = fields.Boolean(
        metadata={
            "example": False,
            "description": "true if the provider did not report some or all of these numbers.",
        }
    )


class ReplySchema(MessageSchema):
    """The assistant's message; while the completion is in progress it has no position yet."""

    class Meta:
        exclude = ("tool_call_id",)

    position = fields.Integer(
        allow_none=True, metadata={"example": 2, "description": "null while the completion is in progress."}
    )
    role = fields.String(validate=validate.Equal("assistant"), metadata={"example": "assistant"})
    content = fields.String(metadata={"example": "By the river, at the market hall."})
    status = fields.String(
        validate=validate.OneOf(["in_progress", "completed", "incomplete", "cancelled"]),
        metadata={"example": "completed"},
    )


class CompletionProblemSchema(Output):
    """Why a completion failed or is incomplete: a problem object (RFC 9457) that is stored with it."""

    may_lack = ("retry_after_s",)

    type = fields.String(metadata={"example": "about:blank"})
    title = fields.String(metadata={"example": "Bad Gateway"})
    status = fields.Integer(metadata={"example": 502})
    code = fields.String(metadata={"example": "provider_failed"})
    detail = fields.String(metadata={"example": "The provider answered with an error."})
    retry_after_s = fields.Integer(
        metadata={"example": 5, "description": "Seconds to wait before retrying, if known."}
    )


class CompletionSchema(Output):
    id = IdField()
    conversation_id = IdField()
    parent_id = IdField(metadata={"description": "The message that the completion replies to."})
    provider_id = IdField()
    model = fields.String(metadata={"example": "gpt-5-mini"})
    status = fields.String(validate=validate.OneOf(STATUSES), metadata={"example": "completed"})
    message = fields.Nested(
        ReplySchema,
        allow_none=True,
        metadata={
            "description": "The reply. null if the completion ended without text, and in lists while it is in progress."
        },
    )
    reasoning = fields.String(
        allow_none=True,
        metadata={"example": None, "description": "The model's reasoning before its reply."},
    )
    usage = fields.Nested(
        UsageSchema, allow_none=True, metadata={"description": "null while the completion is in progress."}
    )
    finish_reason = fields.String(
        allow_none=True,
        metadata={
            "example": "stop",
            "description": "`stop` or `tool_calls` for a reply that is whole; `length`, `content_filter` or the "
            "provider's own word for one that is not; or the server's: `cancelled`, `error`, `server_stopped`, "
            "`worker_lost`.",
        },
    )
    omitted_messages = fields.Integer(
        metadata={
            "example": 0,
            "description": "Number of older messages left out to fit the context window.",
        }
    )
    omitted_attachments = _omitted_attachments()
    warnings = _warnings()
    problem = fields.Nested(
        CompletionProblemSchema,
        allow_none=True,
        metadata={
            "example": None,
            "description": "Why the completion failed or is incomplete (RFC 9457); the codes are those of Problem.",
        },
    )
    created_at = Time()
    finished_at = Time(allow_none=True)


class ModelSchema(Output):
    """A model. What the provider does not say of it is missing."""

    may_lack = ("name", "context_window", "max_output_tokens", "abilities")

    id = fields.String(metadata={"example": "gpt-5-mini"})
    name = fields.String(metadata={"example": "GPT-5 mini"})
    context_window = fields.Integer(metadata={"example": 128000, "description": "In tokens."})
    max_output_tokens = fields.Integer(metadata={"example": 16384})
    abilities = fields.List(
        fields.String(validate=validate.OneOf(list(ABILITIES))),
        metadata={
            "example": ["images", "tools"],
            "description": "What the model can do, as the provider names it.",
        },
    )


class CheckProviderSchema(Schema):
    model = Text(
        longest=255,
        required=False,
        load_default=None,
        allow_none=True,
        metadata={"example": "gpt-5-mini", "description": "By default your config's `default_model`."},
    )


class CheckProblemSchema(Output):
    code = fields.String(
        metadata={
            "example": "provider_refused_key",
            "description": "As in the problem of a completion, or `no_model`.",
        }
    )
    detail = fields.String(metadata={"example": "The provider refused the key."})


class CheckStepSchema(Output):
    ok = fields.Boolean(
        allow_none=True, metadata={"example": True, "description": "null: not checked, or unknown."}
    )
    problem = fields.Nested(CheckProblemSchema, allow_none=True)


class ProviderCheckSchema(Output):
    """The result of a check; if a step works, those before it work, too."""

    ok = fields.Boolean(metadata={"example": True, "description": "All three work."})
    address = fields.Nested(CheckStepSchema)
    key = fields.Nested(CheckStepSchema)
    model = fields.Nested(CheckStepSchema)
    model_id = fields.String(allow_none=True, metadata={"example": "gpt-5-mini"})
    url = fields.String(
        metadata={
            "example": "https://api.example.com/v1/chat/completions",
            "description": "The URL that completions are requested from.",
        }
    )
