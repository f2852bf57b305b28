"""Endpoint of search: /chat/search."""

from typing import Any

from flask import Response

from ..auth import guard
from ..web.blueprint import Blueprint
from ..web.pagination import Page, add_link_header
from ..web.responses import json_response
from . import backlog, service
from .schemas import SearchQuerySchema, SearchResultSchema

blp = Blueprint(
    "search",
    __name__,
    url_prefix="/chat/search",
    description="Full-text search over the caller's messages.",
)
blp.before_request(guard.require_caller)


INDEX_HEADER = {
    "description": "`incomplete` while some of the caller's messages are not indexed yet; else not sent.",
    "schema": {"type": "string", "const": "incomplete"},
}
DESCRIPTION = """\
A message can be found as soon as it is stored, and no longer once it is deleted; a provider's reply, when the \
completion has ended. Messages on all branches are found. `GET /chat/conversations/{id}/messages` with `around` and \
`branch=all` returns a result with the messages around it.

After some upgrades the service indexes existing messages in the background, newest first. Until all of the caller's \
are indexed, responses have the header `Search-Index: incomplete`.

A search that takes long returns what it has found so far, and a `Link` to the rest: follow it until there is none, \
whatever the number of messages on a page."""


@blp.route("", methods=["GET"])
@blp.arguments(SearchQuerySchema, location="query")
@blp.response(200, SearchResultSchema(many=True), headers={"Search-Index": INDEX_HEADER})
@blp.doc(description=DESCRIPTION)
def search_messages(query: dict[str, Any]) -> Response:
    """Search messages by words, "phrases", -exclusions and prefixes*, newest first."""
    user_id = guard.caller().user_id
    with service.search_slots.take(user_id):
        # looked up first: what is missing when the search begins may be missed, what is indexed later does no harm
        headers = {} if backlog.is_complete(user_id=user_id) else {"Search-Index": "incomplete"}
        found, after = service.search_messages(user_id=user_id, search=service.Search(**query))
    return add_link_header(
        json_response(found, headers=headers), Page(query["limit"]), before=None, after=after
    )
