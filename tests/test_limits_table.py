"""The table of limits in docs/security.md: its figures are those of the settings, the code and the files we ship."""

import re
from dataclasses import dataclass

import pytest

from chat_api.attachments import sendable, uploads
from chat_api.attachments import slots as attachment_slots
from chat_api.auth import passwords, provider_keys
from chat_api.completions import context, parameters, preparing, reply_files, sent_files
from chat_api.documents import images
from chat_api.egress import connection, response
from chat_api.egress.limits import RESPONSE_BYTES
from chat_api.idempotency.decorator import MAX_KEY_LENGTH, MAX_STORED_BYTES
from chat_api.llm import (
    base64_content,
    client,
    model_lists,
    provider_check,
    provider_state,
    response_body,
    stream_parser,
    untrusted_json,
)
from chat_api.llm_providers import fields as provider_fields
from chat_api.messages import tool_results
from chat_api.messages.schemas import MAX_CONTENT_BYTES, MAX_TOOL_CALLS, MAX_TOOL_CALLS_BYTES
from chat_api.openai_api import addresses, items_in
from chat_api.openai_api.embeddings import routes as embeddings
from chat_api.search import query
from chat_api.search import schemas as search_schemas
from chat_api.search import service as search_service
from chat_api.server import arrival, pace, slots
from chat_api.transfer import import_report, limits
from chat_api.transfer import schemas as transfer_schemas
from chat_api.transfer import slots as transfer_slots
from chat_api.web import blueprint, echo, fields, json_body, pagination, request_body
from config import Config
from tests.support.server import REPOSITORY

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
QUANTITY = re.compile(r"(?<![\w/.])(\d[\d,]*)(?: (KiB|MiB|GiB))?")
# settings that bound nothing that a client could use up
NO_LIMITS = {"WEB_CONCURRENCY", "GRACEFUL_TIMEOUT_S", "DATABASE_POOL_SIZE"}
NGINX = (REPOSITORY / "deploy" / "nginx.conf").read_text()


@dataclass(frozen=True)
class Row:
    what: str
    default: str
    setting: str
    answer: str

    @property
    def figures(self) -> list[int]:
        """The numbers of the default, in bytes where a unit says so."""
        return [
            int(number.replace(",", "")) * UNITS.get(unit, 1)
            for number, unit in QUANTITY.findall(self.default)
        ]


def rows() -> list[Row]:
    lines = (REPOSITORY / "docs" / "security.md").read_text().splitlines()
    begin = lines.index("| --- | --- | --- | --- |") + 1
    table = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        table.append(Row(*(cell.strip() for cell in line.strip("|").split("|"))))
    return table


TABLE = rows()

# by the beginning of a row: the figures of the code that it must name, in this order
CODE = {
    "body of a request that carries neither": [request_body.SMALL_BODY_BYTES],
    "names and values in a JSON body": [json_body.MAX_VALUES],
    "images in a response of `/v1`": [addresses.MAX_DATA_BYTES],
    "items that a request below `/v1` refers to": [items_in.MAX_REFERRED_BYTES],
    "names and values in a request for embeddings": [embeddings.MAX_VALUES],
    "digits of an integer": [json_body.MAX_DIGITS],
    "such bodies that a worker receives": [slots.MAX_RECEIVING, slots.MAX_RECEIVING_PER_CLIENT],
    "time in which a request's head": [arrival.ARRIVAL_S],
    "files that a worker receives for an import": [transfer_slots.MAX_UPLOADS, transfer_slots.MAX_PER_USER],
    "files that a worker receives as attachments": [
        attachment_slots.MAX_UPLOADS,
        attachment_slots.MAX_PER_USER,
    ],
    "large contents of attachments": [
        attachment_slots.MAX_DOWNLOADS,
        attachment_slots.MAX_DOWNLOADS_PER_USER,
    ],
    "the form of an upload, without": [uploads.MAX_FORM_BYTES, uploads.MAX_PARTS],
    "exports and imports that a worker runs": [transfer_slots.MAX_PER_WORKER, transfer_slots.MAX_PER_USER],
    "searches that a worker runs": [16, search_service.MAX_SEARCHES_PER_USER],
    "a search:": [search_schemas.LONGEST_QUERY, query.MOST_PREFIXES, search_schemas.MAX_LIMIT],
    "items of a page": [pagination.MAX_LIMIT],
    "bytes of a page": [pagination.MAX_PAGE_BYTES],
    "content of a message": [MAX_CONTENT_BYTES],
    "`tool_calls` of a message": [MAX_TOOL_CALLS, MAX_TOOL_CALLS_BYTES],
    "what goes back to a provider": [provider_state.MAX_STATE_BYTES, provider_state.MAX_STATE_ITEMS],
    "messages among which the call": [tool_results.MAX_DISTANCE],
    "`tools`, and `response_format`": [parameters.MAX_TOOLS_BYTES, fields.MAX_DEPTH],
    "characters of an `Idempotency-Key`": [MAX_KEY_LENGTH],
    "passwords that a worker checks or hashes": [passwords.MAX_WAITING, passwords.MAX_WAITING_PER_CLIENT],
    "requests of a worker that wait for such a fetch": [provider_keys.MAX_WAITING],
    "the directory of a zip": [limits.MAX_ENTRIES, limits.MAX_DIRECTORY_BYTES],
    "errors of an import": [limits.MAX_FAULTS, import_report.MAX_ERRORS],
    "conversations in an export of another product": [limits.MAX_ELEMENTS],
    "a conversation of another product": [limits.MAX_CONVERSATION_BYTES, limits.MAX_VALUES, limits.MAX_NODES],
    "conversations of other products of more than 256 KiB": [1, 1],
    "what a zip unpacks to": [limits.MAX_RATIO],
    "what errors repeat": [echo.MAX_CHARACTERS, blueprint.MAX_ERRORS],
    "events of a provider's stream": [stream_parser.MAX_FRAMES, stream_parser.MAX_EMPTY_BYTES],
    "tool calls of a reply": [stream_parser.MAX_TOOL_CALLS],
    "parts of a reply": [client.MAX_PARTS],
    "parts of an imported completion's": [transfer_schemas.MAX_OUTLINE_PARTS],
    "bytes of such a response": [MAX_STORED_BYTES],
    "items of a list, and objects": [untrusted_json.MAX_ITEMS, untrusted_json.MAX_CONTAINERS],
    "chunks of a provider's response": [response.MAX_SMALL_CHUNKS],
    "a provider's whole response": [
        RESPONSE_BYTES,
        response.MAX_HEAD_BYTES,
        client.MAX_MODELS_BYTES,
        model_lists.MAX_MODELS,
        model_lists.MAX_PAGES,
    ],
    "images, audio and video of a reply": [Config.MAX_REPLY_FILE_BYTES, reply_files.MAX_FILES],
    "a line or a JSON document of a provider": [
        response_body.JSON_BYTES_PER_REPLY_BYTE,
        base64_content.MAX_INLINE_BYTES,
    ],
    "headers of a provider": [
        provider_fields.MAX_HEADERS,
        provider_fields.MAX_HEADER_VALUE_LENGTH,
        provider_fields.MAX_HEADERS_BYTES,
    ],
    "`extra_body` of a provider": [provider_fields.MAX_EXTRA_BODY_BYTES],
    "requests of a check": [3, int(provider_check.CHECK_S)],
    "lookups of providers' names": [connection.MAX_LOOKUPS, connection.MAX_LOOKUPS_PER_DOMAIN],
    "what is read and sent of a conversation": [Config.MAX_CONTEXT_BYTES, context.MAX_MESSAGES],
    "the same in number, in all and of one message": [sent_files.MAX_FILES, sendable.MAX_OF_MESSAGE],
    "pixels of an image": [images.MAX_PIXELS, images.MAX_PROCESSES],
    "requests whose files a worker prepares": [preparing.MAX_PREPARING, preparing.MAX_PREPARING_PER_USER],
    "time for preparing the files": [int(preparing.LONGEST_S)],
}
SHIPPED = {
    "in nginx: connections of one address": r"limit_conn +chat_api_connections 200;",
    "in nginx: requests of one address": r"rate=100r/s;[\s\S]*zone=chat_api_requests burst=200 ",
    "in nginx: registrations and logins": r"rate=10r/s;[\s\S]*zone=chat_api_accounts burst=20 ",
    "in nginx: imports and exports": r"limit_conn +chat_api_imports 4;",
}


def row_that_begins(words: str) -> Row:
    found = [row for row in TABLE if row.what.startswith(words)]
    assert len(found) == 1, (words, found)
    return found[0]


def test_table_is_the_beginning_of_the_page() -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text()
    assert re.findall("^#+ .*", text, re.MULTILINE)[:2] == ["# Security", "## Limits"]
    assert len(TABLE) > 50
    assert all(row.what and row.default and row.answer for row in TABLE)


@pytest.mark.parametrize("words", CODE)
def test_figures_are_those_of_the_code(words: str) -> None:
    figures = row_that_begins(words).figures
    assert figures[: len(CODE[words])] == CODE[words]


@pytest.mark.parametrize("words", SHIPPED)
def test_figures_are_those_of_nginx(words: str) -> None:
    assert re.search(SHIPPED[words], NGINX)
    assert {str(figure) for figure in row_that_begins(words).figures} <= set(
        re.findall("[0-9]+", SHIPPED[words])
    )


def test_figures_are_those_of_the_settings() -> None:
    compared = set()
    for row in TABLE:
        for name in re.findall("`([A-Z_]+)`", row.setting):
            default = getattr(Config, name, None)
            if isinstance(default, int):
                assert row.figures[0] == default, row
            elif isinstance(default, str) and (limit := re.fullmatch(r"(\d+) per (.+)", default)):
                period = limit[2].removeprefix("an ")
                assert row.default in (f"{limit[1]} in {period}", f"{limit[1]} in an {period}"), row
            else:
                continue
            compared.add(name)
    limiting = {
        name
        for name in Config.__dataclass_fields__
        if re.search("^MAX_|_LIMIT_|_TIMEOUT_S$|_WAIT_S$|^THREADS$|^CLIENT_", name) and name not in NO_LIMITS
    }
    assert limiting <= compared, f"without a row of their own: {sorted(limiting - compared)}"


def test_share_of_a_user() -> None:
    assert row_that_begins("such requests of one user").figures == [Config().requests_per_user]


def test_rate_of_slow_clients_begins_after_the_grace() -> None:
    assert f"after {pace.GRACE_S:.0f} s" in row_that_begins("rate at which a client").what


def test_longest_password_is_one_that_the_table_need_not_name() -> None:
    """Hashing takes the same for all of them."""
    assert passwords.LONGEST * json_body.LONGEST_ESCAPE < request_body.SMALL_BODY_BYTES
