"""The schemas of an export's lines."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from ..attachments.models import MAX_FILE_PATH
from ..attachments.schemas import CreateAttachmentSchema
from ..completions.erasing import ERASED_KINDS
from ..completions.models import IN_PROGRESS, MAX_WARNING_LENGTH, MAX_WARNINGS
from ..completions.models import STATUSES as COMPLETION_STATUSES
from ..completions.omissions import MAX_LISTED
from ..completions.omissions import REASONS as OMISSION_REASONS
from ..completions.reply_log import KINDS
from ..conversations.models import NATIVE, SOURCES
from ..files.models import MAX_FILE_NAME
from ..llm.client import MAX_PARTS
from ..llm.provider_state import MAX_STATE_BYTES, json_size
from ..llm.sources import MAX_PLACES, MAX_SOURCES, MAX_TITLE_LENGTH, MAX_URL_LENGTH, is_web_url
from ..llm.stream_parser import MAX_TOOL_CALLS
from ..llm_providers.fields import Auth, ExtraBody, Options
from ..llm_providers.schemas import ApiFormat, ContextWindow, EndpointField, Slug
from ..messages.models import MAX_EXTERNAL_ID, OUTPUT_KINDS, ROLES, STATUSES
from ..messages.parts import CreatePartSchema
from ..messages.schemas import MAX_CONTENT_BYTES
from ..web.fields import Flag, IdField, Text, Time, WholeNumber, whole
from ..web.metadata import Metadata, as_stored
from .formats.ids import EPOCH
from .records import ACCOUNT, ATTACHMENT, COMPLETION, CONFIG, CONVERSATION, END, HEADER, MESSAGE, PROVIDER

VERSION = 1
LINES_NAME = "export.ndjson"  # in a zip
SHA256_PATTERN = "[0-9a-f]{64}"
OF_CONTENT = ("file_name", "size_bytes", "sha256")
"""Fields of an attachment that its content has."""
COMPUTED = ("usage", "path")
"""Fields of lines that are no columns."""
MAX_REPLY_BYTES = 16 * 1024 * 1024  # the most that the setting of this name takes
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_MAX_INTEGER = 2**31 - 1
_MAX_POSITION = 2**30  # as many are left for what is appended afterwards
_MAX_EVENT_ID = 2**53 - 1
# of a completion's problem: what providers say of an error is cut to less
MAX_PROBLEM_DEPTH = 16
MAX_PROBLEM_BYTES = 256 * 1024
MAX_STATE_DEPTH = 100
# text and reasoning in turns, and tool calls and sources, each of which may be between two texts
MAX_OUTLINE_PARTS = MAX_PARTS + MAX_TOOL_CALLS + 2 * MAX_SOURCES
_NO_OBJECTS = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")


class Moment(Time):
    """A time with its zone, as a datetime in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": True, **kwargs})

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> datetime:
        moment: datetime = super()._deserialize(value, attr, data, **kwargs)
        if not EPOCH <= moment < _LATEST:
            raise ValidationError("Not a time from 1970 to 9998.")
        return moment.astimezone(UTC)


class OwnIdField(IdField):
    """The id of what a line describes: any UUID but nil and max (RFC 9562, sections 5.9 and 5.10), at which pages of an
    export begin. Those of messages are in order of position, so a message may have any."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text in _NO_OBJECTS:
            raise self.make_error("invalid_id")
        return text


class Number(WholeNumber):
    """A whole number that the tables can hold."""

    def __init__(self, smallest: int, largest: int = _MAX_INTEGER, **kwargs: Any) -> None:
        super().__init__(**{"required": True, "validate": validate.Range(smallest, largest), **kwargs})


class HeaderLine(Schema):
    version = WholeNumber(required=True)
    exported_at = Moment(required=False)


class AccountLine(Schema):
    id = OwnIdField()
    email = fields.String(required=True, allow_none=True)
    role = fields.String(required=True)
    created_at = Moment()


class ProviderLine(Schema):
    id = OwnIdField()
    name = Text(longest=255)
    api_endpoint = EndpointField()
    api_format = ApiFormat(required=True)
    context_window = ContextWindow(required=True)
    slug = Slug()  # an export from before there were any has none
    catalog = Text(longest=64, required=False)  # of a version that may know other vendors
    auth = Auth()
    extra_body = ExtraBody()
    request_options = Options()
    created_at = Moment()


class ConfigLine(Schema):
    id = OwnIdField()
    provider_id = IdField()
    default_model = Text(longest=255, allow_none=True)
    context_window = ContextWindow(required=True)
    created_at = Moment()
    updated_at = Moment()


class MetadataLine(Metadata):
    """Metadata, as the column has them."""

    def __init__(self) -> None:
        super().__init__(attribute="client_metadata", load_default=None)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return as_stored(super()._deserialize(value, attr, data, **kwargs))


class ConversationLine(Schema):
    id = OwnIdField()
    title = Text(shortest=0, longest=255)
    archived = Flag(load_default=False)
    pinned = Flag(load_default=False)
    active_leaf_id = IdField(allow_none=True)
    last_position = Number(0, _MAX_POSITION, required=False, load_default=0)
    metadata = MetadataLine()
    source = fields.String(load_default=NATIVE, validate=validate.OneOf(SOURCES))
    external_id = Text(longest=MAX_EXTERNAL_ID, required=False)
    created_at = Moment()
    updated_at = Moment()


class CallLine(Schema):
    id = Text(shortest=0)
    name = Text(shortest=0)
    arguments = Text(shortest=0)


class PlacesField(fields.List):
    """Where a text refers to a source: pairs of a begin and an end."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fields.Raw(), required=True, validate=validate.Length(max=MAX_PLACES), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        places: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        for place in places:
            is_pair = isinstance(place, list) and len(place) == 2 and all(type(end) is int for end in place)
            if not (is_pair and 0 <= place[0] < place[1] <= _MAX_INTEGER):
                raise ValidationError("Not a list of pairs of a begin and an end.")
        return places


class WebUrl(Text):
    """An http or https URL."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        url: str = super()._deserialize(value, attr, data, **kwargs)
        if not is_web_url(url):
            raise ValidationError("Not an http or https URL.")
        return url


class SourceLine(Schema):
    url = WebUrl(longest=MAX_URL_LENGTH)
    title = Text(longest=MAX_TITLE_LENGTH, allow_none=True)
    places = PlacesField()


class StateField(fields.Dict):
    """What a provider sent with a reply for itself: any JSON that can be sent back to it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keys=fields.String(), required=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        state = super()._deserialize(value, attr, data, **kwargs)
        if _is_deeper(state, MAX_STATE_DEPTH):
            raise ValidationError(f"Nested deeper than {MAX_STATE_DEPTH} levels.")
        if json_size(state) > MAX_STATE_BYTES:
            raise ValidationError(f"Longer than {MAX_STATE_BYTES} bytes as JSON.")
        return state


class ProviderStateLine(Schema):
    provider_id = IdField()
    model = Text(longest=255)
    state = StateField()


class PartLine(CreatePartSchema):
    text = Text(required=False, max_bytes=MAX_REPLY_BYTES)  # of a reply that has files as well


class ErasedField(fields.Dict):
    """Which parts of a message were erased: their kinds by their places, see completions/erasing.py."""

    def __init__(self) -> None:
        place = fields.String(validate=validate.Regexp(r"\A[0-9]{1,6}\Z", error="Not a place."))
        kind = fields.String(validate=validate.OneOf(ERASED_KINDS))
        most = validate.Length(min=1, max=MAX_OUTLINE_PARTS)
        super().__init__(keys=place, values=kind, validate=most)


class MessageLine(Schema):
    id = IdField()
    conversation_id = IdField()
    parent_id = IdField(allow_none=True)
    position = Number(1, _MAX_POSITION)
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    content = Text(shortest=0, max_bytes=MAX_REPLY_BYTES)
    status = fields.String(load_default="completed", validate=validate.OneOf(STATUSES))
    tool_calls = fields.List(fields.Nested(CallLine), validate=validate.Length(min=1))
    tool_call_id = Text(longest=255, required=False)
    sources = fields.List(fields.Nested(SourceLine), validate=validate.Length(min=1, max=MAX_SOURCES))
    parts = fields.List(fields.Nested(PartLine), validate=validate.Length(min=1, max=MAX_OUTLINE_PARTS))
    provider_state = fields.Nested(ProviderStateLine, required=False)
    erased = ErasedField()
    external_id = Text(longest=MAX_EXTERNAL_ID, required=False)
    output_kind = fields.String(validate=validate.OneOf(OUTPUT_KINDS))
    created_at = Moment()


class AttachmentLine(CreateAttachmentSchema):
    id = OwnIdField()
    # of an attachment with content
    file_name = Text(longest=MAX_FILE_NAME, required=False)
    size_bytes = Number(1, _MAX_EVENT_ID, required=False)
    sha256 = fields.String(
        validate=validate.Regexp(whole(SHA256_PATTERN), error="Not a SHA-256 in lower case.")
    )
    # where that is in the zip
    path = Text(longest=MAX_FILE_PATH, required=False)
    created_at = Moment()

    @validates_schema
    def require_all_of_a_content(self, values: dict[str, Any], **kwargs: Any) -> None:
        """A content has a name, a size and a hash."""
        if 0 < sum(name in values for name in OF_CONTENT) < len(OF_CONTENT):
            raise ValidationError({"sha256": [f"Of {', '.join(OF_CONTENT)} there are all or none."]})


class UsageLine(Schema):
    prompt_tokens = Number(0, allow_none=True)
    completion_tokens = Number(0, allow_none=True)
    cached_tokens = Number(0, allow_none=True, required=False)
    reasoning_tokens = Number(0, allow_none=True, required=False)
    estimated = Flag(required=True)


class OutlineField(fields.List):
    """The parts of a reply in their order: pairs of a kind and a length, see completions/reply_log.py."""

    def __init__(self, **kwargs: Any) -> None:
        most = validate.Length(max=MAX_OUTLINE_PARTS)
        super().__init__(fields.Raw(), required=True, allow_none=True, validate=most, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        parts = super()._deserialize(value, attr, data, **kwargs)
        for part in parts:
            if not (
                isinstance(part, list)
                and len(part) == 2
                and part[0] in KINDS
                and type(part[1]) is int
                and 0 <= part[1] <= _MAX_INTEGER
            ):
                raise ValidationError("Not a list of pairs of a kind and a length.")
        return parts


class ProblemField(fields.Dict):
    """A problem (RFC 9457). Other members than its own are kept, but only as deep as readers of JSON can go."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keys=fields.String(), required=True, allow_none=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        problem = super()._deserialize(value, attr, data, **kwargs)
        if _is_deeper(problem, MAX_PROBLEM_DEPTH):
            raise ValidationError(f"Nested deeper than {MAX_PROBLEM_DEPTH} levels.")
        if len(orjson.dumps(problem)) > MAX_PROBLEM_BYTES:
            raise ValidationError(f"Longer than {MAX_PROBLEM_BYTES} bytes as JSON.")
        return problem


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether arrays and objects are nested deeper than that; level by level, as recursion has an end of its own."""
    level = [value]
    for _ in range(depth):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
    return bool(level)


class OmissionLine(Schema):
    attachment_id = IdField()
    reason = fields.String(required=True, validate=validate.OneOf(list(OMISSION_REASONS)))


class CompletionLine(Schema):
    id = OwnIdField()
    conversation_id = IdField()
    parent_id = IdField()
    branch_id = IdField(allow_none=True)
    message_id = IdField()
    provider_id = IdField()
    model = Text(longest=255)
    status = fields.String(
        required=True,
        validate=validate.OneOf([status for status in COMPLETION_STATUSES if status != IN_PROGRESS]),
    )
    finish_reason = Text(shortest=0, longest=64, allow_none=True)
    problem = ProblemField()
    usage = fields.Nested(UsageLine, required=True)
    omitted_messages = Number(0)
    # an export from before there were any has none
    omitted_attachments = fields.List(
        fields.Nested(OmissionLine),
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=MAX_LISTED),
    )
    reasoning = Text(max_bytes=MAX_REPLY_BYTES, allow_none=True)
    # so has one of these
    warnings = fields.List(
        Text(shortest=0, longest=MAX_WARNING_LENGTH),
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=MAX_WARNINGS),
    )
    outline = OutlineField()
    last_event_id = Number(0, _MAX_EVENT_ID, allow_none=True)
    created_at = Moment()
    finished_at = Moment(allow_none=True)


class EndLine(Schema):
    conversations = Number(0, _MAX_EVENT_ID)
    messages = Number(0, _MAX_EVENT_ID)


LINES: dict[str, Schema] = {
    HEADER: HeaderLine(),
    ACCOUNT: AccountLine(),
    PROVIDER: ProviderLine(),
    CONFIG: ConfigLine(),
    CONVERSATION: ConversationLine(),
    MESSAGE: MessageLine(),
    ATTACHMENT: AttachmentLine(),
    COMPLETION: CompletionLine(),
    END: EndLine(),
}


def member_of(sha256: str) -> str:
    """The name of a content in a zip."""
    return f"files/{sha256}"


def content_limit(role: str) -> int:
    """How long a message of this role may be, in bytes. A reply may be longer than what a client appends."""
    return MAX_REPLY_BYTES if role == "assistant" else MAX_CONTENT_BYTES
