"""Endpoint of the use of quotas: /chat/usage."""

from typing import Any

from ..auth import guard
from ..web.blueprint import Blueprint
from . import service
from .schemas import QuotasSchema

blp = Blueprint(
    "usage",
    __name__,
    url_prefix="/chat/usage",
    description="What the caller has stored, and how much one user may store.",
)
blp.before_request(guard.require_caller)


@blp.route("", methods=["GET"])
@blp.response(200, QuotasSchema)
def get_usage() -> dict[str, Any]:
    """Get what is used of each quota, and its limit.

    The names are those in `quota` of the error `quota_exceeded`; `tokens` are personal access tokens. Figures may be
    a second old.
    """
    return {**service.get_usage(user_id=guard.caller().user_id)}
