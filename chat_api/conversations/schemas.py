"""The shapes of conversations, in and out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields

from ..database.columns import TIME_FORMAT
from ..web.fields import UUID_PATTERN, ChangesSchema, Flag, IdField, Output, QueryFlag, Text, Time, whole
from ..web.pagination import PageQuerySchema

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
    after = Recency(description="Only conversations further down the list; see the Link header.")
    before = Recency(description="Only conversations further up the list: the nearest ones.")
    archived = QueryFlag(
        load_default=False, metadata={"description": "`true` for the archived ones instead of the others."}
    )
    pinned = QueryFlag(metadata={"description": "Only pinned ones, or only those that are not."})
    q = Text(
        longest=255,
        required=False,
        metadata={"description": "Only those whose title has this text in it, in whatever case."},
    )


class CreateConversationSchema(Schema):
    user_id = IdField(
        metadata={"description": "Whose it is: the caller, or for a trusted back end any user."}
    )
    title = Text(longest=255, metadata={"example": "Trip to Lisbon"})


class UpdateConversationSchema(ChangesSchema):
    title = Text(longest=255, required=False, metadata={"example": "Trip to Porto"})
    archived = Flag(
        metadata={"description": "Put away: only listed with `archived=true`. Nothing else changes."}
    )
    pinned = Flag(metadata={"description": "Kept, however old: retention spares it."})
    active_leaf_id = IdField(
        required=False,
        allow_none=True,
        metadata={
            "description": "The message at which the active path ends: of whatever branch, and not only its last one."
            " null for a path without messages."
        },
    )


class ConversationSchema(Output):
    id = IdField()
    user_id = IdField()
    title = fields.String(metadata={"example": "Trip to Lisbon"})
    archived = fields.Boolean(metadata={"example": False})
    pinned = fields.Boolean(metadata={"example": False})
    message_count = fields.Integer(metadata={"example": 2, "description": "Messages of all branches."})
    active_leaf_id = IdField(
        allow_none=True,
        metadata={"description": "The message at which the active path ends, which the next one answers."},
    )
    created_at = Time()
    updated_at = Time(
        metadata={
            "example": "2026-11-23T09:30:00.123456Z",
            "description": "Moved by each message; not by a new title, nor by archiving, pinning and deleting.",
        }
    )
