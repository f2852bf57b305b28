"""The OpenAPI document is one that generators of clients turn into good clients; tests/e2e runs such generators."""

import builtins
import json
import keyword
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from chat_api.problem_codes import problem_codes
from tests.conftest import serving
from tests.support.api import PASSWORD, Api
from tests.test_openapi import operations, resolved

# names that JavaScript, TypeScript, Java, C#, Swift, Kotlin, Go or Ruby know already
TAKEN = """
    Any Array ArrayBuffer Atomics Attr Attribute BigInt Blob Bool Boolean Byte Cache Character Class Client Comment
    Console Crypto Data DataView Date Decimal Default Dictionary Document Double Element Enum Error EvalError Event
    EventSource EventTarget Exception Exclude Export Extract Field File FileList FileReader Float FormData Function
    Guid Hash Headers History Image Import Infinity Int Int32 Int64 Integer Intl Iterable Iterator JSON List
    Location Lock Long Map Math Method Module NaN Node NonNullable Notification Number Object Omit Option Optional
    Package Parameters Partial Pick Plugin Process Promise Proxy Range Readonly Record Reflect RegExp Request
    Required Response Result ReturnType Selection Set Short Storage Stream String Symbol Task Text Thread Timer
    Tuple Type URL UUID Unit Void WeakMap WeakSet WebSocket Window Worker
"""
SYNTAX = set("^$\\.*+?()[]{}|/")
CLASSES = set("dDwWsSbBfnrtv0")

Document = dict[str, Any]


@pytest.fixture
def document(stranger: Api) -> Document:
    found: Document = stranger.get("/openapi.json").get_json()
    return found


def walked(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object inside, with the way to it."""
    if isinstance(found, dict):
        yield path, found
        for name, inner in found.items():
            if name not in ("example", "examples", "links"):
                yield from walked(inner, (*path, name))
    elif isinstance(found, list):
        for number, inner in enumerate(found):
            yield from walked(inner, (*path, str(number)))


def reachable(document: Document, found: Any, known: set[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every object inside, also by references."""
    known = set() if known is None else known
    for _, inner in walked(found):
        yield inner
        reference = inner.get("$ref")
        if isinstance(reference, str) and reference not in known:
            known.add(reference)
            yield from reachable(document, resolved(document, inner), known)


def bodies(document: Document) -> Iterator[dict[str, Any]]:
    """Every object of the schemas of bodies."""
    for _, _, operation in operations(document):
        yield from reachable(document, operation.get("requestBody", {}))


def answers(document: Document) -> Iterator[dict[str, Any]]:
    """Every object of the schemas of answers."""
    for _, _, operation in operations(document):
        yield from reachable(document, operation["responses"])


def test_answers_are_open_to_new_fields(document: Document) -> None:
    assert not [found for found in answers(document) if found.get("additionalProperties") is False]
    assert [found for found in bodies(document) if found.get("additionalProperties") is False]


def test_answers_require_what_is_always_there(document: Document) -> None:
    optional = {
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        if schema in list(answers(document))
        for field in schema.get("properties", {})
        if field not in schema.get("required", ())
    }
    sometimes = {("tool_calls", "tool_call_id", "sources", "parts", "erased"): ("Message", "Reply", "StartedMessage"),
                 ("file_name", "size_bytes", "sha256", "expires_at"): ("Attachment",),
                 ("text", "attachment_id"): ("Part",), ("attachment_id", "file_name"): ("SearchResult",),
                 ("name", "context_window", "max_output_tokens", "abilities"): ("Model",),
                 ("cached_tokens", "reasoning_tokens"): ("Usage",),
                 ("retry_after_s",): ("Problem", "CompletionProblem"),
                 ("errors",): ("Problem",), ("problem",): ("IncompleteEvent",)}  # fmt: skip
    expected = {(name, field) for fields, names in sometimes.items() for field in fields for name in names}
    assert optional == expected - {("Reply", "tool_call_id")}


def test_bodies_have_no_defaults(document: Document) -> None:
    """A field with a default is one that generators make required."""
    assert not [found for found in bodies(document) if "default" in found and "type" in found]


def test_every_body_is_one_type(document: Document) -> None:
    """Of alternatives for a whole body generators make a type each, or none."""
    schemas = document["components"]["schemas"]
    for path, method, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if reference := content.get("application/json", {}).get("schema", {}).get("$ref"):
            assert {"anyOf", "oneOf", "allOf"}.isdisjoint(schemas[reference.rsplit("/", 1)[1]]), (
                method,
                path,
            )


def test_what_a_provider_needs_depends_on_its_catalog(document: Document) -> None:
    body = {"$ref": "#/components/schemas/CreateProvider", "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(body)
    url = "https://api.example.com/v1"
    fitting: list[dict[str, Any]] = [
        {"name": "P", "api_endpoint": url},
        {"catalog": "gemini"},
        {"catalog": "azure", "api_endpoint": url},
        {"catalog": None, "name": "P", "api_endpoint": url},
    ]
    assert [validator.is_valid(body) for body in fitting] == [True] * 4
    others: list[dict[str, Any]] = [
        {},
        {"name": "P"},
        {"api_endpoint": url},
        {"catalog": "azure"},
        {"catalog": None},
    ]
    assert [validator.is_valid(body) for body in others] == [False] * 5


def patterns(document: Document) -> set[str]:
    return {found["pattern"] for _, found in walked(document) if isinstance(found.get("pattern"), str)}


def complaint_about(pattern: str) -> str | None:
    """Why JavaScript's `new RegExp(pattern, "u")` would refuse a pattern, or another language read it differently."""
    inside_class, position = False, 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
            escaped = pattern[position]
            is_known = escaped in SYNTAX | CLASSES or (escaped == "-" and inside_class)
            if escaped == "u":
                is_known = re.match("u[0-9a-fA-F]{4}", pattern[position:]) is not None
            if not is_known:
                return f"\\{escaped}"
        elif character == "[" and not inside_class:
            inside_class = True
        elif character == "]":
            if not inside_class:
                return "a lone ]"
            inside_class = False
        elif character == "{" and not inside_class:
            if (repeated := re.match(r"\{[0-9]+(,[0-9]*)?\}", pattern[position:])) is None:
                return "a lone {"
            position += repeated.end() - 1
        elif character == "}" and not inside_class:
            return "a lone }"
        elif pattern.startswith("(?", position) and pattern[position + 2] not in ":=!" and not inside_class:
            return pattern[position : position + 3]
        position += 1
    return None


def test_patterns_are_those_of_javascript(document: Document) -> None:
    found = patterns(document)
    assert len(found) > 10
    assert {pattern: fault for pattern in found if (fault := complaint_about(pattern))} == {}


@pytest.mark.parametrize(
    "pattern", ['\\"', "\\A", "x{", "}", "]", "(?P<a>b)", "(?i)a", "[\\']", "\\-", "\\u12", "\\z"]
)
def test_other_patterns_would_be_found(pattern: str) -> None:
    assert complaint_about(pattern) is not None


def test_the_version_is_that_of_the_project(document: Document) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert document["info"]["version"] == project["version"]


def test_every_operation_and_tag_is_described(document: Document) -> None:
    assert not [name for *_, operation in operations(document)
                if len((name := operation)["description"]) < 15]  # fmt: skip
    assert all(tag["description"] for tag in document["tags"])
    assert document["info"]["contact"]


def test_names_collide_with_no_language(document: Document) -> None:
    taken = set(TAKEN.split()) | set(dir(builtins)) | set(keyword.kwlist)
    assert taken.isdisjoint(document["components"]["schemas"])
    names = [name.lower() for name in document["components"]["schemas"]]
    assert len(names) == len(set(names))  # as files of a disk without upper and lower case


def test_each_status_means_one_thing(document: Document) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            assert len(resolved(document, response).get("content", {})) <= 1, (method, path, status)


def test_codes_of_problems_are_a_closed_list(document: Document) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["ProblemCode"]["enum"]) == set(problem_codes())
    for name in ("Problem", "CompletionProblem"):
        assert schemas[name]["properties"]["code"] == {"$ref": "#/components/schemas/ProblemCode"}


def test_events_are_distinguished_by_their_type(document: Document) -> None:
    schemas = document["components"]["schemas"]
    union = schemas["CompletionEvent"]
    assert union["discriminator"]["propertyName"] == "type"
    assert [{"$ref": reference} for reference in union["discriminator"]["mapping"].values()] == union["oneOf"]
    for name, reference in union["discriminator"]["mapping"].items():
        event = schemas[reference.rsplit("/", 1)[1]]
        assert event["properties"]["type"] == {"type": "string", "const": name}
        assert "type" in event["required"]
    for _, found in walked(document["paths"]):
        if "text/event-stream" in found:
            assert found["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/CompletionEvent"}


def test_header_parameters_are_shared_and_plain_text(document: Document) -> None:
    acting = document["components"]["parameters"]["ActAs"]
    assert (acting["name"], acting["in"], acting["required"]) == ("X-Act-As", "header", False)
    assert acting["schema"]["type"] == "string"
    assert "format" not in acting["schema"]  # some generators send only text in headers
    for path, _, operation in operations(document):
        assert ({"$ref": "#/components/parameters/ActAs"} in operation["parameters"]) == path.startswith(
            "/chat"
        )


def test_two_applications_make_the_same_document(database_url: str, tmp_path: Path, stranger: Api) -> None:
    with serving(database_url, tmp_path) as first, serving(database_url, tmp_path) as second:
        documents = [Api(app).get("/openapi.json").get_json() for app in (second, first)]
        assert documents[0] == documents[1] == stranger.get("/openapi.json").get_json()


def servers(api: Api, **options: Any) -> Any:
    return api.get("/openapi.json", **options).get_json()["servers"]


def test_the_server_is_what_the_request_came_by(stranger: Api) -> None:
    assert servers(stranger) == [{"url": "http://localhost"}]
    below = {"SCRIPT_NAME": "/below", "wsgi.url_scheme": "https"}
    assert servers(stranger, headers={"Host": "chat.example.org:8443"}, environ_overrides=below) == [
        {"url": "https://chat.example.org:8443/below"}
    ]


@pytest.mark.parametrize("host", ['a"b', "a b", "a/b", "user@a", "a\\b", "<a>"])
def test_a_malformed_host_is_not_repeated(stranger: Api, host: str) -> None:
    with stranger.get("/openapi.json", headers={"Host": host}) as response:
        assert response.status_code in (200, 400)
        assert host not in response.get_data(as_text=True)


def test_the_server_is_the_public_url(database_url: str, tmp_path: Path) -> None:
    url = "https://chat.example.org/ai"
    with serving(database_url, tmp_path, PUBLIC_URL=url) as app:
        assert servers(Api(app)) == [{"url": url}]
        printed = app.test_cli_runner().invoke(args=["openapi", "print"]).stdout
        assert json.loads(printed)["servers"] == [{"url": url}]


def test_everything_works_below_a_path_prefix(database_url: str, tmp_path: Path, ada: Api) -> None:
    """A proxy publishes /ai/chat/… as /chat/… of the service."""
    ada.conversation()
    ada.conversation()
    with serving(database_url, tmp_path, TRUSTED_PROXIES=1) as app:
        headers = {"X-Forwarded-Prefix": "/ai", "X-Forwarded-Proto": "https", "Host": "example.org"}
        token = Api(app, token=log_in(app, ada))
        assert servers(token, headers=headers) == [{"url": "https://example.org/ai"}]
        page = token.get("/docs", headers=headers).get_data(as_text=True)
        addresses = re.findall(r'(?:src|href|data-document)="([^"]+)"', page)
        assert len(addresses) > 5
        assert all(address.startswith(("/ai/docs/", "/ai/openapi.json")) for address in addresses)
        made = token.post("/chat/conversations", {"title": "T"}, headers=headers)
        assert made.headers["Location"] == f"/ai/chat/conversations/{made.get_json()['id']}"
        listed = token.get("/chat/conversations?limit=1", headers=headers)
        assert listed.headers["Link"].startswith("</ai/chat/conversations?")
        assert token.get("/", headers=headers).headers["Location"] == "/ai/docs"


def log_in(app: Any, user: Api) -> str:
    body = {"email": user.user["email"], "password": PASSWORD}
    return Api(app).post("/auth/login", body).get_json()["access_token"]


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "https://evil.example", "/a b", "/ai//x", "/ai?x", "/%2f"]
)
def test_a_malformed_prefix_is_ignored(database_url: str, tmp_path: Path, prefix: str) -> None:
    with serving(database_url, tmp_path, TRUSTED_PROXIES=1) as app:
        answer = Api(app).get("/", headers={"X-Forwarded-Prefix": prefix})
        assert answer.headers["Location"] == "/docs"


def test_without_trusted_proxies_a_prefix_is_ignored(stranger: Api) -> None:
    assert stranger.get("/", headers={"X-Forwarded-Prefix": "/ai"}).headers["Location"] == "/docs"


def test_providers_say_whether_they_are_shared(ada: Api, admin: Api) -> None:
    body = {"name": "P", "api_endpoint": "https://api.example.com/v1"}
    own = ada.made("/chat/llm-providers", body)
    shared = admin.made("/chat/llm-providers", body | {"shared": True})
    assert (own["shared"], shared["shared"]) == (False, True)
    assert ada.get(f"/chat/llm-providers/{shared['id']}").get_json()["shared"] is True
