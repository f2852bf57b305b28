"""Endpoints of attachments: /chat/attachments and the list below a message."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from flask import Response, current_app, request

from ..auth import guard
from ..database.columns import now
from ..database.session import db
from ..errors import InvalidInput
from ..idempotency import commits_once
from ..web.blueprint import Blueprint, load, query_parameters
from ..web.cors import is_preflight
from ..web.pagination import Page, PositionPageSchema, listing_response, position_of
from ..web.responses import json_response, location, no_content, require_match
from . import documentation, downloads, links, service
from .schemas import (
    AttachmentSchema,
    ContentQuerySchema,
    CreateAttachmentSchema,
    CreateLinkSchema,
    LinkSchema,
    UploadFieldsSchema,
)
from .upload import receive_once
from .uploads import is_form

blp = Blueprint(
    "attachments",
    __name__,
    url_prefix="/chat",
    description="Attachments: files of a message, or paths of files.",
)
LINK = "chat_api.attachment_link"  # in the environ: the link of this request


@blp.before_request
def use_link() -> None:
    """A download takes a link instead of a token."""
    if request.endpoint != f"{blp.name}.get_content" or "Authorization" in request.headers:
        return
    text = query_parameters().get(links.PARAMETER)
    if text is not None and not is_preflight(request.environ):
        link = links.read_link(text, attachment_id=(request.view_args or {})["attachment_id"])
        request.environ |= {guard.TICKET_CALLER: link.caller, LINK: link}


blp.before_request(guard.require_caller)


def _or_upload(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let a view of JSON receive forms, too."""

    @wraps(view)
    def by_content_type(*args: Any, **kwargs: Any) -> Any:
        return _upload() if is_form() else view(*args, **kwargs)

    return by_content_type


@blp.route("/messages/<id:message_id>/attachments", methods=["GET"])
@blp.arguments(PositionPageSchema, location="query")
@blp.response(200, AttachmentSchema(many=True))
def list_attachments(query: dict[str, Any], message_id: str) -> Response:
    """List the attachments of a message, oldest first.

    At most `limit` of them; the header `Link` leads to the next page.
    """
    page = Page(**query)
    attachments = service.list_attachments(user_id=guard.caller().user_id, message_id=message_id, page=page)
    return listing_response(page, attachments, cursor=position_of, schema=AttachmentSchema(many=True))


@blp.route("/attachments", methods=["POST"])
@blp.links("get_attachment", "delete_attachment", attachment_id="id")
@blp.links("list_attachments", message_id="message_id")
@blp.doc(**documentation.UPLOAD)
@_or_upload
@blp.arguments(CreateAttachmentSchema)
@commits_once
@blp.response(201, AttachmentSchema)
def create_attachment(body: dict[str, str]) -> Any:
    """Upload a file, or attach the client's own path or URL of one to a message.

    With `multipart/form-data` the part `file` is stored, and `file_type` is detected from its content. Without a
    `message_id` the upload is kept for a day, until a message names it in `attachment_ids`. With JSON the service
    stores the path or URL, and never opens it.
    """
    attachment = service.create_attachment(user_id=guard.caller().user_id, **body)
    return attachment, location(f"/chat/attachments/{attachment['id']}")


def _upload() -> Response:
    return receive_once(
        fields_of=lambda fields: load(UploadFieldsSchema(), dict(fields)), respond=_created_response
    )


def _created_response(attachment: dict[str, Any]) -> Response:
    return json_response(
        AttachmentSchema().dump(attachment), 201, location(f"/chat/attachments/{attachment['id']}")
    )


@blp.route("/attachments/<id:attachment_id>", methods=["GET"])
@blp.response(200, AttachmentSchema)
def get_attachment(attachment_id: str) -> dict[str, Any]:
    """Get one of the caller's attachments, also an upload that belongs to no message yet.

    A client that has it already sends its ETag as `If-None-Match` and gets 304.
    """
    return service.get_attachment(user_id=guard.caller().user_id, attachment_id=attachment_id)


@blp.route("/attachments/<id:attachment_id>/content", methods=["GET"])
@blp.header_parameter(**documentation.RANGE)
@blp.problems(412, 416)
@blp.doc(**documentation.CONTENT)
@blp.arguments(ContentQuerySchema, location="query")
def get_content(query: dict[str, str], attachment_id: str) -> Response:
    """Download the content of an upload, or a range of it.

    The ETag is the hash of the content. Browsers save the file and never run it: types that they
    would run are sent as `application/octet-stream`.
    """
    content = service.get_content(user_id=guard.caller().user_id, attachment_id=attachment_id)
    link: links.Link | None = request.environ.get(LINK)
    if link is None:
        return downloads.content_response(content)
    link.require_unused()
    return downloads.content_response(content, before_sending=link.use_and_commit)


@blp.route("/attachments/<id:attachment_id>/link", methods=["POST"])
@blp.arguments(CreateLinkSchema, required=False)
@blp.response(200, LinkSchema)
def create_link(body: dict[str, Any], attachment_id: str) -> Response:
    """Get a URL of an upload's content that needs no token, valid for a short time.

    It is for browsers: images, players and downloads. It is not stored, and ends with the attachment, and with the
    login or the token that created it. A single-use link answers one GET, of the whole content or of a range; HEAD
    does not count.
    """
    service.get_content(user_id=guard.caller().user_id, attachment_id=attachment_id)
    longest: int = current_app.config["MAX_LINK_S"]
    expires_in_s = body.get("expires_in_s", current_app.config["LINK_S"])
    if expires_in_s > longest:
        raise InvalidInput({"expires_in_s": [f"Must be at most {longest}."]})
    expires_at, single_use = now() + timedelta(seconds=expires_in_s), body["single_use"]
    link = links.make_link(attachment_id=attachment_id, expires_at=expires_at, single_use=single_use)
    path = service.path_of(attachment_id=attachment_id)
    made = {
        "url": f"{request.script_root}{path}?{links.PARAMETER}={link}",
        "expires_at": expires_at,
        "single_use": single_use,
    }
    return json_response(LinkSchema().dump(made))


@blp.route("/attachments/<id:attachment_id>/text", methods=["GET"])
@blp.problems(409)
@blp.doc(**documentation.TEXT)
def get_text(attachment_id: str) -> Response:
    """Get the text of an upload, such as a PDF or an office document, as it was extracted for the search.

    Do not trust the text: show it as text, never as HTML. `Document-Text: incomplete` says that the document has more
    text than is stored. Until the text is extracted, shortly after the upload, the answer is 409 `text_not_ready`; for
    a file without text it is 404 `no_text`, whose `detail` says why.
    """
    found = service.get_text(user_id=guard.caller().user_id, attachment_id=attachment_id)
    return downloads.text_response(found.text, is_cut=found.is_cut)


@blp.route("/attachments/<id:attachment_id>", methods=["DELETE"])
@blp.response(204)
def delete_attachment(attachment_id: str) -> Response:
    """Delete an attachment. Its message stays.

    The bytes of an upload are deleted soon afterwards, unless another attachment has the same content. A file that a
    path or URL names is not touched.
    """
    own = {"user_id": guard.caller().user_id, "attachment_id": attachment_id}
    require_match(AttachmentSchema().dump(service.lock_attachment(**own)))
    service.delete_attachment(**own)
    db.session.commit()
    return no_content()
