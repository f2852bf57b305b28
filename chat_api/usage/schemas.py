"""The response of the use of quotas."""

from marshmallow import fields

from ..web.fields import Output


class QuotaSchema(Output):
    used = fields.Integer(metadata={"example": 12})
    limit = fields.Integer(metadata={"example": 100_000})


class QuotasSchema(Output):
    conversations = fields.Nested(QuotaSchema)
    messages = fields.Nested(QuotaSchema)
    message_bytes = fields.Nested(QuotaSchema)
    attachments = fields.Nested(QuotaSchema)
    file_bytes = fields.Nested(QuotaSchema)
    attachment_drafts = fields.Nested(QuotaSchema)
    completions = fields.Nested(QuotaSchema)
    providers = fields.Nested(QuotaSchema)
    configs = fields.Nested(QuotaSchema)
    stored_responses = fields.Nested(QuotaSchema)
    tokens = fields.Nested(QuotaSchema)
