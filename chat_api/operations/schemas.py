"""The response of the health checks."""

from marshmallow import fields

from ..web.fields import Output


class HealthSchema(Output):
    status = fields.String(metadata={"example": "ok"})
