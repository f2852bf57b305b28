"""The schemas of conversations."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields

from ..auth.fields import OwnerField
from ..database.columns import TIME_FORMAT
from ..web.fields import UUID_PATTERN, ChangesSchema, Flag, IdField, Output, QueryFlag, Text, Time, whole
from ..web.pagination import PageQuerySchema

MAX_TITLE_CHARACTERS = 255
# years of four digits, so that times sort as text (SQLite has them as text)
CURSOR_PATTERN = (
    "^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}Z_" + UUID_PATTERN.removeprefix("^")
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
            "description": "Only conversations whose title contains this text, whatever case, accents and width."
        },
    )


class CreateConversationSchema(Schema):
    user_id = OwnerField()
    title = Text(
        shortest=0,
        longest=MAX_TITLE_CHARACTERS,
        required=False,
        load_default="",
        metadata={
            "example": "Trip to Lisbon",
            "description": "Without one the conversation gets the first words of its first message as a title, with the"
            " first reply.",
        },
    )


class UpdateConversationSchema(ChangesSchema):
    title = Text(longest=MAX_TITLE_CHARACTERS, required=False, metadata={"example": "Trip to Porto"})
    archived = Flag(
        metadata={
            "description": "Archived conversations are only listed with `archived=true`. Nothing else changes."
        }
    )
    pinned = Flag(metadata={"description": "Pinned conversations are never deleted by retention."})
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
    created_at = Time()
    updated_at = Time(
        metadata={
            "example": "2026-11-23T09:30:00.123456Z",
            "description": "When the last message was appended. Other changes and deletions do not move it.",
        }
    )
