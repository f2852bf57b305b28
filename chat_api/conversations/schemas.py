"""The schemas of conversations."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, pre_load, validate

from ..auth.fields import OwnerField
from ..database.columns import TIME_FORMAT
from ..web.fields import UUID_PATTERN, ChangesSchema, Flag, IdField, Output, QueryFlag, Text, Time, whole
from ..web.metadata import MAX_FILTERS, METADATA_SCHEMA, Metadata, gather_filters
from ..web.pagination import PageQuerySchema
from .models import MAX_TITLE_CHARACTERS, SOURCES

# years of four digits, so that times sort as text (SQLite has them as text)
CURSOR_PATTERN = (
    "^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}Z_" + UUID_PATTERN.removeprefix("^")
)
_METADATA = (
    "Key-value pairs that the client can filter by: at most 16, with keys of up to 64 characters and values of up"
    " to 512."
)
_CURSOR = whole(CURSOR_PATTERN)


class Recency(fields.String):
    """A cursor of the list of conversations: when one was last used, and its id."""

    default_error_messages = {"invalid_cursor": "Not a cursor of this list: take it from a Link header."}

    def __init__(self, *, description: str) -> None:
        super().__init__(metadata={"description": description, "pattern": CURSOR_PATTERN})

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        moment, _, conversation_id = text.partition("_")
        try:
            used_at = datetime.strptime(moment, TIME_FORMAT)
        except ValueError:  # 30 February
            raise self.make_error("invalid_cursor") from None
        if _CURSOR.match(text) is None:
            raise self.make_error("invalid_cursor")
        return used_at.replace(tzinfo=UTC), conversation_id.lower()


class ListConversationsSchema(PageQuerySchema):
    after = Recency(
        description="Only conversations used less recently than at this cursor, taken from a Link header."
    )
    before = Recency(
        description="Only conversations used more recently than at this cursor: those nearest to it."
    )
    archived = QueryFlag(
        load_default=False,
        metadata={"description": "`true` lists archived conversations instead of the others."},
    )
    pinned = QueryFlag(
        metadata={"description": "Only pinned (`true`) or only unpinned (`false`) conversations."}
    )
    q = Text(
        longest=255,
        required=False,
        metadata={
            "description": "Only conversations whose title contains this text, ignoring case, accents and width."
        },
    )
    source = fields.String(
        validate=validate.OneOf(SOURCES),
        metadata={"description": "Only conversations from this source."},
    )
    metadata = Metadata(
        metadata={
            "maxProperties": MAX_FILTERS,
            "description": "Only conversations whose metadata contain this pair: `metadata[topic]=travel`, up to"
            f" {MAX_FILTERS} times, each with another key.",
        }
    )

    @pre_load
    def gather_metadata(self, values: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Take the pairs of the query together."""
        if "metadata" in values:
            raise ValidationError({"metadata": ["Must be given like metadata[topic]=travel."]})
        return gather_filters(values)


class CreateConversationSchema(Schema):
    user_id = OwnerField()
    title = Text(
        shortest=0,
        longest=MAX_TITLE_CHARACTERS,
        required=False,
        load_default="",
        metadata={
            "example": "Trip to Lisbon",
            "description": "Without one, the title is set to the first words of the first user message when the first "
            "reply is stored.",
        },
    )
    metadata = Metadata(load_default=None, metadata={"description": _METADATA})


class UpdateConversationSchema(ChangesSchema):
    title = Text(longest=MAX_TITLE_CHARACTERS, required=False, metadata={"example": "Trip to Porto"})
    archived = Flag(
        metadata={
            "description": "Archived conversations are only listed with `archived=true`. Archiving changes "
            "nothing else."
        }
    )
    pinned = Flag(metadata={"description": "Pinned conversations are never deleted by retention."})
    metadata = Metadata(
        allow_none=True, metadata={"description": "Replaces all existing pairs; null or {} removes them."}
    )
    active_leaf_id = IdField(
        required=False,
        allow_none=True,
        metadata={
            "description": "The message at which the active path ends, on any branch; it may have descendants."
            " null for an empty path."
        },
    )


class ConversationSchema(Output):
    id = IdField()
    user_id = IdField()
    title = fields.String(metadata={"example": "Trip to Lisbon"})
    archived = fields.Boolean(metadata={"example": False})
    pinned = fields.Boolean(metadata={"example": False})
    message_count = fields.Integer(
        metadata={"example": 2, "description": "Number of messages on all branches."}
    )
    active_leaf_id = IdField(
        allow_none=True,
        metadata={
            "description": "The message at which the active path ends; the next message replies to it."
        },
    )
    metadata = fields.Function(
        lambda conversation: orjson.loads(conversation.client_metadata or "{}"),
        metadata={**METADATA_SCHEMA, "description": _METADATA},
    )
    source = fields.String(
        validate=validate.OneOf(SOURCES),
        metadata={
            "example": "native",
            "description": "Where the conversation came from: this API (`native`), the OpenAI-compatible API (`chat`,"
            " `responses`), the AI SDK (`ui`), or an import of another product's file (`import`).",
        },
    )
    created_at = Time()
    updated_at = Time(
        metadata={
            "example": "2026-11-23T09:30:00.123456Z",
            "description": "When the last message was appended. Other changes and deletions do not move it.",
        }
    )
