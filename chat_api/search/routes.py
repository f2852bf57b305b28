"""Endpoint of search: /chat/search."""

from typing import Any

from flask import Response

from ..auth import guard
from ..web.blueprint import Blueprint
from ..web.pagination import Page, add_link_header
from ..web.responses import json_response
from . import service
from .schemas import FoundSchema, SearchQuerySchema

blp = Blueprint(
    "search",
    __name__,
    url_prefix="/chat/search",
    description="Search: the caller's messages by the words in them.",
)
blp.before_request(guard.require_caller)


DESCRIPTION = """\
A message is found as soon as it is stored, and no longer as soon as it is deleted; a reply that is being written, \
when it has ended. Messages of all branches are found. `GET /chat/conversations/{id}/messages` with `around` and \
`branch=all` shows a message that was found amid its neighbours.

A search that takes long ends with what it has found so far, and its `Link` goes on: follow that, not the number of \
messages on a page."""


@blp.route("", methods=["GET"])
@blp.arguments(SearchQuerySchema, location="query")
@blp.response(200, FoundSchema(many=True))
@blp.doc(description=DESCRIPTION)
def search_messages(query: dict[str, Any]) -> Response:
    """Find messages by words, "phrases", -exclusions and beginnings*, newest first."""
    found, after = service.search_messages(user_id=guard.caller().user_id, search=service.Search(**query))
    return add_link_header(json_response(found), Page(query["limit"]), before=None, after=after)
