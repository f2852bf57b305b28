"""The schemas of searches and their results."""

from marshmallow import fields, validate

from ..conversations.schemas import ConversationSchema
from ..messages.schemas import MessageSchema
from ..web.fields import IdField, Output, Text
from ..web.pagination import PageQuerySchema

QUERY_LANGUAGE = """\
Words that the message or the text of its uploaded documents contains, all of them, in any order; also:

- `"old town"`: a phrase, these words next to each other; a word of several parts, such as `e-mail`, is a phrase, too
- `-hotel` or `-"old town"`: the message does not contain it
- `rest*` or `"old to"*`: a prefix

Case, accents and width are ignored. In scripts without spaces between words, any part of a sentence matches. All \
other characters separate words; there are no syntax errors. At most 64 words, of which the first 40 characters \
count, and at most 8 prefixes."""
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
            "description": "Maximum number of results. A page may have fewer, even none, and a `Link` to the next one."
        },
    )
    sort = fields.String(
        load_default="newest",
        validate=validate.OneOf(["newest", "relevance"]),
        metadata={
            "description": "`newest`: by id, and so by time. `relevance`: the 1,000 newest matches, best match first; "
            "there are no further pages, but `after` continues with older matches."
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
            "description": "An excerpt of the content, or of the text of an attachment: about 200 characters with the "
            "most matches. Plain text, never HTML.",
        }
    )
    matches = fields.List(
        fields.List(fields.Integer(), validate=validate.Length(equal=2)),
        metadata={
            "example": [[6, 14], [15, 18]],
            "description": "The matches in `text`: start and end of each, in Unicode code points.",
        },
    )
    cut_before = fields.Boolean(
        metadata={"example": False, "description": "Whether there is more content before the excerpt."}
    )
    cut_after = fields.Boolean(
        metadata={"example": False, "description": "Whether there is more content after the excerpt."}
    )


class SearchResultSchema(Output):
    may_lack = ("attachment_id", "file_name")

    message = fields.Nested(MessageSchema)
    conversation = fields.Nested(ConversationSchema)
    snippet = fields.Nested(SnippetSchema)
    attachment_id = IdField(
        metadata={
            "description": "The attachment of the message whose text the snippet is from; only present if it is not "
            "from the message itself."
        }
    )
    file_name = fields.String(
        metadata={"example": "lease.pdf", "description": "The name of that attachment."}
    )
