"""The shapes of conversations, in and out."""

from marshmallow import Schema, fields

from ..fields import IdField, Output, Text, Time


class CreateConversationSchema(Schema):
    user_id = IdField(
        metadata={"description": "Whose it is: the caller, or for a trusted back end any user."}
    )
    title = Text(longest=255, metadata={"example": "Trip to Lisbon"})


class ConversationSchema(Output):
    id = IdField()
    user_id = IdField()
    title = fields.String(metadata={"example": "Trip to Lisbon"})
    message_count = fields.Integer(metadata={"example": 2})
    created_at = Time()
    updated_at = Time()
