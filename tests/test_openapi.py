"""The OpenAPI document says what the service does, all of it, and its page needs nobody else's server."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from flask import Flask

from chat_api.completions.models import IN_PROGRESS, STATUSES
from chat_api.errors import ERROR_CODES
from tests.support.api import Api

METHODS = ("get", "post", "put", "patch", "delete")
NOT_IN_DOCUMENT = {
    "documentation.get_openapi": "the document itself",
    "documentation.get_root": "leads to its page",
    "swagger_ui.show": "its page",
    **dict.fromkeys(
        (
            "openai.list_openai_models",
            "openai.get_openai_model",
            "openai.create_chat_completion",
            "openai.create_legacy_completion",
            "openai_unprefixed",
            "openai_stored_chats.list_chat_completions",
            "openai_stored_chats.get_chat_completion",
            "openai_stored_chats.update_chat_completion",
            "openai_stored_chats.delete_chat_completion",
            "openai_stored_chats.list_chat_completion_messages",
            "openai_responses.create_response",
            "openai_responses.get_response",
            "openai_responses.delete_response",
            "openai_responses.list_input_items",
            "openai_responses.cancel_response",
            "openai_responses.count_input_tokens",
            "openai_responses.compact_response",
            "openai_conversations.list_openai_conversations",
            "openai_conversations.create_openai_conversation",
            "openai_conversations.get_openai_conversation",
            "openai_conversations.update_openai_conversation",
            "openai_conversations.delete_openai_conversation",
            "openai_conversations.list_openai_items",
            "openai_conversations.create_openai_items",
            "openai_conversations.get_openai_item",
            "openai_conversations.delete_openai_item",
            "openai_embeddings.create_embeddings",
            "openai_files.list_files",
            "openai_files.create_file",
            "openai_files.get_file",
            "openai_files.get_file_content",
            "openai_files.delete_file",
        ),
        "OpenAI's document describes it; docs/openai.md says what is different",
    ),
    **dict.fromkeys(
        ("ai_sdk.send_ui_message", "ai_sdk.get_chat", "ai_sdk.resume_ui_stream", "ai_sdk.stop_ui_stream"),
        "its path is a setting, and the AI SDK knows it by itself: docs/ai-sdk.md",
    ),
}
WITHOUT_BODY = ("refresh", "log_out", "cancel_completion", "create_ticket", "create_link", "check_provider")
CALLS_A_PROVIDER = ("create_completion", "list_models")
Operation = dict[str, Any]


@pytest.fixture
def document(stranger: Api) -> dict[str, Any]:
    return stranger.get("/openapi.json").get_json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What a reference points at."""
    while "$ref" in found:
        target: Any = document
        for name in found["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        found = target
    return found


def media_of(document: dict[str, Any], operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands, and the media type object of the body and of each answer."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield "body", media
    for status, response in operation["responses"].items():
        for media in resolved(document, response).get("content", {}).values():
            yield status, media


def test_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()


def test_validation_would_find_a_fault(document: dict[str, Any]) -> None:
    broken = copy.deepcopy(document)
    broken["paths"]["/chat/messages"]["post"]["responses"] = []
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    pending: list[Any] = [document]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            resolved(document, current)
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)


def test_document_has_every_route_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in NOT_IN_DOCUMENT
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_every_operation_is_named_and_described(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert operation["summary"].endswith("."), (method, path)
        assert operation["tags"], (method, path)


def test_every_body_and_answer_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for place, media in media_of(document, operation):
            schema = {"$ref": "#/schema", "schema": media["schema"], "components": document["components"]}
            complaints = [
                error.message
                for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(media["example"])
            ]
            assert not complaints, (method, path, place)


def test_every_operation_with_a_body_or_an_answer_shows_it(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        success = next(resolved(document, operation["responses"][status]) for status in ("200", "201", "204")
                       if status in operation["responses"])  # fmt: skip
        assert "204" in operation["responses"] or success["content"], (method, path)
        if method in ("post", "put", "patch") and operation["operationId"] not in WITHOUT_BODY:
            assert operation["requestBody"]["required"], (method, path)


def test_every_operation_lists_its_errors_as_problems(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        responses, name = operation["responses"], operation["operationId"]
        expected = {"500", "503"}
        if path.startswith(("/chat", "/auth")):
            expected |= {"400", "429"}
        if path.startswith("/chat"):
            expected |= {"401", "403", "404"}
        if operation.get("security") != []:
            expected |= {"401"}
        if "requestBody" in operation:
            expected |= {"413", "415"}
        if "201" in responses and method == "post":
            expected |= {"409", "422"}
        if method in ("put", "patch", "delete"):
            expected |= {"412"}
        if name in CALLS_A_PROVIDER:
            expected |= {"502", "504"}
        assert expected <= set(responses), (method, path, name)
        for status in set(responses) & {str(status) for status in ERROR_CODES}:
            content = resolved(document, responses[status])["content"]
            assert content["application/problem+json"]["example"]["status"] == int(status)


def test_whatever_needs_a_token_says_so(document: dict[str, Any]) -> None:
    public = {"register", "log_in", "get_health", "get_readiness"}
    unguarded = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if operation.get("security") == []
    }
    assert unguarded == public
    assert document["security"] == [{"bearer": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer"}


def test_headers_of_the_contract_are_documented(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        parameters = [resolved(document, parameter) for parameter in operation["parameters"]]
        sent = {parameter["name"] for parameter in parameters if parameter["in"] == "header"}
        answered = {
            name
            for status in ("200", "201", "204")
            for name in resolved(document, operation["responses"].get(status, {})).get("headers", {})
        }
        assert "X-Request-ID" in sent & answered, (method, path)
        assert ("X-Act-As" in sent) == path.startswith("/chat"), (method, path)
        if method == "patch":
            assert "ETag" in answered, (method, path)
        if "201" in operation["responses"] and method == "post":
            assert "Idempotency-Key" in sent, (method, path)
            assert "Idempotency-Replayed" in answered, (method, path)
        schema = (
            operation["responses"]
            .get("200", {})
            .get("content", {})
            .get("application/json", {})
            .get("schema", {})
        )
        if method == "get" and path.startswith("/chat") and "$ref" in schema:
            assert ("If-None-Match" in sent, "ETag" in answered) == (True, True), (method, path)
            assert "304" in operation["responses"], (method, path)


def test_errors_that_pass_say_when_to_come_back(document: dict[str, Any]) -> None:
    for status in ("409", "429", "503"):
        response = resolved(document, document["paths"]["/chat/completions"]["post"]["responses"][status])
        assert "Retry-After" in response["headers"], status


def test_streams_of_events_are_described(document: dict[str, Any]) -> None:
    create = document["paths"]["/chat/completions"]["post"]
    follow = document["paths"]["/chat/completions/{completion_id}/events"]["get"]
    names = [*(f"completion.{status}" for status in STATUSES if status != IN_PROGRESS),
             "completion.started", "completion.delta", "completion.reasoning", "completion.tool_call"]  # fmt: skip
    for operation in (create, follow):
        assert "text/event-stream" in operation["responses"]["200"]["content"]
        for text in (*names, "keepalive", "Last-Event-ID"):
            assert text in operation["description"], text
    assert set(create["responses"]["200"]["content"]) == {"text/event-stream"}
    assert set(follow["responses"]["200"]["content"]) == {"text/event-stream"}
    assert "content" not in follow["responses"]["204"]
    assert "Last-Event-ID" in [parameter.get("name") for parameter in follow["parameters"]]


def test_a_body_that_changes_nothing_does_not_fit_the_schema(document: dict[str, Any]) -> None:
    schema = {
        "$ref": "#/components/schemas/UpdateProvider",
        "components": document["components"],
    }
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert [validator.is_valid(body) for body in ({}, {"name": "P"}, {"context_window": None})] == [
        False,
        True,
        True,
    ]


def test_patterns_are_read_alike_by_all_clients(document: dict[str, Any]) -> None:
    """Python's \\A and \\Z are no part of the regular expressions that JSON Schema means (ECMA 262)."""
    assert not re.search(r"\\\\[AZ]", json.dumps(document))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("create_provider", "list_models"),
        ("create_provider", "update_provider"),
        ("create_provider", "delete_provider"),
        ("create_config", "replace_config"),
        ("create_config", "delete_config"),
        ("create_completion", "get_completion"),
        ("create_completion", "cancel_completion"),
        ("create_completion", "get_events"),
        ("create_completion", "list_completions"),
        ("create_conversation", "create_completion"),
        ("create_conversation", "update_conversation"),
        ("create_conversation", "delete_conversation"),
        ("create_message", "get_message"),
        ("create_message", "delete_message"),
        ("create_message", "create_message"),
    ],
)
def test_answers_lead_on(document: dict[str, Any], source: str, target: str) -> None:
    by_name = {operation["operationId"]: operation for _, _, operation in operations(document)}
    links = by_name[source]["responses"]["201"]["links"].values()
    assert target in [link["operationId"] for link in links]


def test_every_link_leads_to_an_operation(document: dict[str, Any]) -> None:
    by_name = {operation["operationId"]: (path, operation) for path, _, operation in operations(document)}
    links = 0
    for _, operation in by_name.values():
        for response in operation["responses"].values():
            for link in resolved(document, response).get("links", {}).values():
                path, target = by_name[link["operationId"]]
                assert all(f"{{{name}}}" in path for name in link.get("parameters", {}))
                if "requestBody" in link:
                    schema = resolved(
                        document, target["requestBody"]["content"]["application/json"]["schema"]
                    )
                    assert link["requestBody"].keys() <= schema["properties"].keys()
                links += 1
    assert links >= 10


def test_page_comes_from_this_server_alone(stranger: Api) -> None:
    """Whatever the page loads is here; addresses that it only mentions do no harm."""
    html = loaded(stranger, "/docs")
    assert html == loaded(stranger, "/docs/")
    assert "https://" not in html
    assert 'data-document="/openapi.json"' in html
    script = loaded(stranger, "/docs/docs.js")
    assert "validatorUrl: null" in script  # Swagger UI would show a badge from its makers' server
    assert "persistAuthorization: true" in script
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)["']""", html)
    assert {address.rpartition(".")[2] for address in addresses} == {"css", "js", "png"}
    for address in addresses:
        assert address.startswith("/docs/")
        text = loaded(stranger, address)
        if address.endswith(".css"):
            assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), address
        if address.endswith(".js"):
            assert not re.search(r"(?:importScripts|import|fetch)\(\s*[\"'](?:https?:)?//", text), address


def loaded(stranger: Api, path: str) -> str:
    with stranger.get(path) as response:
        assert response.status_code == 200, path
        return response.get_data().decode(errors="replace")


def test_document_is_revalidated_not_remembered(stranger: Api) -> None:
    response = stranger.get("/openapi.json")
    assert response.mimetype == "application/json"
    assert "no-cache" in response.headers["Cache-Control"]
