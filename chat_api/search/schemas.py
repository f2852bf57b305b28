"""The shapes of searches and of what they find."""

from marshmallow import fields, validate

from ..conversations.schemas import ConversationSchema
from ..messages.schemas import MessageSchema
from ..web.fields import IdField, Output, Text
from ..web.pagination import PageQuerySchema

QUERY_LANGUAGE = """\
Words, all of which are in the message, in any order; also:

- `"old town"`: these words next to each other; so is a word of several parts, such as `e-mail`
- `-hotel` or `-"old town"`: not in the message
- `rest*` or `"old to"*`: begins so

Case, accents and width make no difference. In scripts without spaces between words any part of a sentence is found. \
Whatever else is typed separates words; there are no errors of syntax. At most 64 words, of which the first 40 \
characters count."""
LONGEST_QUERY = 500
DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class SearchQuerySchema(PageQuerySchema):
    q = Text(
        longest=LONGEST_QUERY,
        metadata={
            "example": '"should i" eat* -hotel',
            "description": QUERY_LANGUAGE,
        },
    )
    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={
            "description": "How many messages at the most. There may be fewer, even none, and a `Link` to further ones."
        },
    )
    sort = fields.String(
        load_default="newest",
        validate=validate.OneOf(["newest", "relevance"]),
        metadata={
            "description": "`newest`: by id, so by time. `relevance`: the newest thousand matches, those first that "
            "are most about the words; there are no further pages, but `after` leads to older ones."
        },
    )
    after = IdField(
        required=False, metadata={"description": "Only messages older than the one with this id."}
    )
    conversation_id = IdField(required=False, metadata={"description": "Only messages of this conversation."})


class SnippetSchema(Output):
    text = fields.String(
        metadata={
            "example": "Where should I eat?",
            "description": "A piece of the content, as it stands there: about 200 characters with the most matches.",
        }
    )
    matches = fields.List(
        fields.List(fields.Integer(), validate=validate.Length(equal=2)),
        metadata={
            "example": [[6, 14], [15, 18]],
            "description": "Where the words stand in `text`: start and end, counted in Unicode code points.",
        },
    )
    cut_before = fields.Boolean(
        metadata={"example": False, "description": "Whether the content begins earlier."}
    )
    cut_after = fields.Boolean(metadata={"example": False, "description": "Whether the content goes on."})


class FoundSchema(Output):
    message = fields.Nested(MessageSchema)
    conversation = fields.Nested(ConversationSchema)
    snippet = fields.Nested(SnippetSchema)
