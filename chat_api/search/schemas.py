"""The shapes of searches and of what they find."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from ..conversations.schemas import ConversationSchema
from ..fields import IdField, Output, Text
from ..messages.schemas import MessageSchema
from ..pagination import PageQuerySchema

LONGEST_QUERY = 500
DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class SearchQuerySchema(PageQuerySchema):
    q = Text(
        longest=LONGEST_QUERY,
        metadata={
            "example": 'lisbon "old town" -hotel rest*',
            "description": 'Words that are all in the message, "phrases", -exclusions and beginnings with `*`.',
        },
    )
    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={"description": "How many messages at the most."},
    )
    sort = fields.String(
        load_default="newest",
        validate=validate.OneOf(["newest", "relevance"]),
        metadata={"description": "`relevance` sorts the newest thousand matches, and has no further pages."},
    )
    after = IdField(
        required=False, metadata={"description": "Only messages older than the one with this id."}
    )
    conversation_id = IdField(required=False, metadata={"description": "Only messages of this conversation."})

    @validates_schema
    def refuse_pages_of_the_relevant(self, values: dict[str, Any], **kwargs: Any) -> None:
        if "after" in values and values.get("sort") == "relevance":
            raise ValidationError({"after": ["There are no further pages with `sort=relevance`."]})


class SnippetSchema(Output):
    text = fields.String(
        metadata={
            "example": "a walk in the old town of Lisbon",
            "description": "A piece of the content, as it stands there.",
        }
    )
    matches = fields.List(
        fields.List(fields.Integer(), validate=validate.Length(equal=2)),
        metadata={
            "example": [[14, 22], [26, 32]],
            "description": "Where the words stand in `text`: start and end, counted in Unicode code points.",
        },
    )
    cut_before = fields.Boolean(metadata={"description": "Whether the content begins earlier."})
    cut_after = fields.Boolean(metadata={"description": "Whether the content goes on."})


class FoundSchema(Output):
    message = fields.Nested(MessageSchema)
    conversation = fields.Nested(ConversationSchema)
    snippet = fields.Nested(SnippetSchema)
