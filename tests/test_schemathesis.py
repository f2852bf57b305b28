"""The service against its own OpenAPI document: generated requests, every check of schemathesis, both databases.

A run has four phases: the document's examples, boundary values, random values, and chains of requests along the
document's links. No check is switched off, and the seed is fixed, so each run sends the same requests.

Most of them are boundary values. That takes minutes, so by default only the operations of logins and admins are tried,
on the stricter database with few random values.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.transport.wsgi import WSGI_TRANSPORT

from chat_api.database.columns import new_id
from chat_api.llm_providers.schemas import complaint_about_url
from chat_api.messages.models import ROLES
from chat_api.transfer.documentation import EXAMPLE as EXPORT
from chat_api.web.fields import is_uuid
from chat_api.web.metadata import MAX_KEY_CHARACTERS
from chat_api.web.openapi_components import EXAMPLE_ID
from tests.conftest import serving, user_maker
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import invite
from tests.support.uploads import extract_text, uploaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

METRICS_TOKEN = "token-of-the-monitoring"
NEEDS_ADMIN = ["list_invitations", "create_invitation", "get_invitation", "delete_invitation"]
STREAMS = ["create_completion", "get_events"]
SPENDS_THE_LOGIN = ["refresh", "log_out", "delete_me"]  # each request needs a login of its own
NETWORK_OPTIONS = ("max_redirects", "verify", "cert", "proxies")
# 412 besides the usual ones: no made-up If-Match names the current version. 5xx is not among them
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "429"]
SETTINGS: dict[str, Any] = {
    "seed": 1,
    "generation": {"deterministic": True, "database": "none"},
    "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
}
# how many random values for each operation
with_examples = pytest.mark.parametrize(
    ("backend", "examples"),
    [
        ("postgres", 3),
        pytest.param("postgres", 10, marks=pytest.mark.nightly),
        pytest.param("sqlite", 10, marks=pytest.mark.nightly),
    ],
    indirect=["backend"],
)


@pytest.fixture(scope="session")
def app(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The service with /metrics turned on, so that the page is checked like the others."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with serving(database_url, folder, METRICS_TOKEN=METRICS_TOKEN) as application:
        application.wsgi_app = closing(application.wsgi_app)  # type: ignore[method-assign]
        yield application


@pytest.fixture(scope="session")
def make_user(app: Flask) -> Callable[..., Api]:
    """Of this application: the one that other tests have used has other secrets, so its tokens are refused here."""
    return user_maker(app)


def closing(wsgi_app: Any) -> Any:
    """Close answers when they were read, as a server does (PEP 3333): so streams give back their places."""

    def call(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        answer = wsgi_app(environ, start_response)

        def parts() -> Iterator[bytes]:
            try:
                yield from answer
            finally:
                if hasattr(answer, "close"):
                    answer.close()

        return parts()

    return call


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """schemathesis 4.32 hands options of network connections to werkzeug's client, which knows none of them."""
    send = WSGI_TRANSPORT.send

    def send_in_process(case: schemathesis.Case, **options: Any) -> Any:
        return send(case, **{name: value for name, value in options.items() if name not in NETWORK_OPTIONS})

    monkeypatch.setattr(WSGI_TRANSPORT, "send", send_in_process)


# more values find what the generator and the document understand differently, such as a tab in a header
@pytest.mark.nightly
@pytest.mark.parametrize("examples", [3])
def test_service_keeps_what_its_document_promises(
    app: Flask, make_user: Callable[..., Api], provider: ScriptedProvider, tmp_path: Path, examples: int
) -> None:
    """Two users take part: what one made is asked for by the other, too."""
    ada, bob = make_user(), make_user()
    own = chat_of(ada, provider)
    schema = load_document(
        app,
        examples,
        phases={"stateful": {"max-steps": 10, "generation": {"max-examples": 5 * examples // 2}}},
        auth={
            "wfc": {"path": str(written(tmp_path, ada=ada, bob=bob)), "user": "ada", "peers": ["ada", "bob"]}
        },
        operations=[
            {"include-operation-id": "get_metrics", "headers": bearer(METRICS_TOKEN)},
            *[  # the document describes the `data` of an event, which is compared in tests/completions
                {
                    "include-operation-id": name,
                    "checks": {"response_schema_conformance": {"enabled": False}},
                }
                for name in STREAMS
            ],
            {  # what no schema can say: that there has to be a word among the characters
                "include-operation-id": "search_messages",
                "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "400"]}},
            },
        ],
    ).exclude(operation_id=[*SPENDS_THE_LOGIN, *NEEDS_ADMIN])

    @schema.hook
    def map_case(context: Any, case: schemathesis.Case) -> schemathesis.Case:
        return within_reach(case, own)

    @schema.hook
    def before_add_examples(context: Any, examples: list[schemathesis.Case]) -> None:
        examples[:] = [within_reach(case, own) for case in examples]

    complaints = complaints_of_run(schema)
    assert not complaints, complaints


@with_examples
def test_operations_that_spend_a_login_keep_what_the_document_promises(
    app: Flask, make_user: Callable[..., Api], examples: int
) -> None:
    schema = load_document(app, examples, phases={"stateful": {"enabled": False}}).include(
        operation_id=SPENDS_THE_LOGIN
    )

    @schema.auth(refresh_interval=None)
    class FreshLogin:
        def get(self, case: schemathesis.Case, context: Any) -> Api:
            return make_user()

        def set(self, case: schemathesis.Case, user: Api, context: Any) -> None:
            case.headers.update(bearer(user.refresh_token if case.path == "/auth/refresh" else user.token))

    complaints = complaints_of_run(schema)
    assert not complaints, complaints


@with_examples
def test_operations_of_admins_keep_what_the_document_promises(
    app: Flask, make_user: Callable[..., Api], examples: int
) -> None:
    admin = make_user("admin")
    schema = load_document(app, examples).include(operation_id=NEEDS_ADMIN)

    @schema.auth()
    class LoggedIn:
        def get(self, case: schemathesis.Case, context: Any) -> Api:
            return admin

        def set(self, case: schemathesis.Case, user: Api, context: Any) -> None:
            case.headers.update(bearer(user.token))

    @schema.hook
    def map_case(context: Any, case: schemathesis.Case) -> schemathesis.Case:
        return of_this_admin(case, admin)

    @schema.hook
    def before_add_examples(context: Any, examples: list[schemathesis.Case]) -> None:
        examples[:] = [of_this_admin(case, admin) for case in examples]

    complaints = complaints_of_run(schema)
    assert not complaints, complaints


def of_this_admin(case: schemathesis.Case, admin: Api) -> schemathesis.Case:
    """An invitation that there is in place of one that was made up, and a key that was not used before."""
    headers: Any = case.headers or {}
    path = case.path_parameters or {}
    use_one_cursor(case.query or {})
    if is_made_up(path.get("invitation_id")):
        path["invitation_id"] = invite(admin)
    if 1 <= len(headers.get("Idempotency-Key", "")) <= 255:
        headers["Idempotency-Key"] = new_id()
    return case


def load_document(app: Flask, examples: int, **settings: Any) -> Any:
    """The document that the service serves, as schemathesis reads it."""
    generation = SETTINGS["generation"] | {"max-examples": examples}
    config = SchemathesisConfig.from_dict(SETTINGS | settings | {"generation": generation})
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)


def complaints_of_run(schema: Any) -> str:
    """What the checks and the engine itself complained about, with a curl command for each."""
    complaints, succeeded = [], set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            complaints.append(event.info.format())
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            complaints += complaints_of_scenario(event)
            succeeded |= operations_that_succeeded(event)
    operations = {found.ok().label for found in schema.get_all_operations()}
    complaints += [
        f"No request to {label} succeeded, so it was hardly tested." for label in operations - succeeded
    ]
    return "\n\n".join(complaints)


def complaints_of_scenario(event: events.ScenarioFinished) -> list[str]:
    return [
        f"{check.name} ({event.phase.value})\n{check.failure_info.failure.message}\n{check.failure_info.code_sample}"
        for checks in event.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]


def operations_that_succeeded(event: events.ScenarioFinished) -> set[str]:
    sent = event.recorder.interactions.items()
    return {
        event.recorder.cases[case_id].value.operation.label
        for case_id, interaction in sent
        if interaction.response is not None
        and interaction.response.status_code < 300
        and interaction.request.method != "OPTIONS"
    }


def chat_of(user: Api, provider: ScriptedProvider) -> dict[str, str]:
    """A conversation and a provider that replies in it: ids by the name of the field that holds them.

    The spare provider's key and the spare token are there to be deleted.
    """
    conversation = user.conversation()["id"]
    replying = user.provider(api_endpoint=provider.url)["id"]
    config = {"user_id": user.user_id, "provider_id": replying, "api_key": "sk-1", "default_model": "m"}
    user.made("/chat/user-llm-configs", config)
    spare = user.provider()["id"]
    user.config(spare)
    document = uploaded(user, b"A text", name="a.txt", claimed="")["id"]
    extract_text(user)
    return {
        "document_id": document,
        "user_id": user.user_id,
        "conversation_id": conversation,
        "provider_id": replying,
        "parent_id": user.calling(conversation, "call_1")["id"],
        "spare_message_id": user.message(user.conversation()["id"])["id"],
        "spare_provider_id": spare,
        "token_id": user.made("/auth/tokens", {"name": "to get"})["id"],
        "spare_token_id": user.made("/auth/tokens", {"name": "to delete"})["id"],
    }


def within_reach(case: schemathesis.Case, own: dict[str, str]) -> schemathesis.Case:
    """Turn valid values that this caller may not use, or not together, into ones that get past the first refusal.

    No document can say whose id is whose, which providers reply, which keys were used before, that `after` excludes
    `before`, which months have 31 days, and that there is no NUL anywhere in an object of any shape. Invalid values
    stay as they are.
    """
    user_id = own["user_id"]
    name = case.operation.definition.raw["operationId"]
    if name in ("create_completion", "preview_completion") and isinstance(case.body, dict):
        mine = {field for field in own if is_uuid(str(case.body.get(field)))}
        case.body.update({field: own[field] for field in mine})
        if case.body.get("content") == "" and not case.body.get("attachment_ids"):
            case.body["content"] = "Hello"  # only attachments can be without a text
        if case.body.get("background") is True and case.body.get("stream") is True:
            case.body["stream"] = False  # one of them at a time
        store_parameters(case.body.get("parameters"))
    if name in ("list_models", "check_provider") and is_uuid(
        str((case.path_parameters or {}).get("provider_id"))
    ):
        case.path_parameters["provider_id"] = own["provider_id"]
    if name in ("create_provider", "update_provider") and isinstance(case.body, dict):
        without_nul(case.body, "extra_body")
        endpoint = case.body.get("api_endpoint")
        if name == "create_provider" and endpoint is None:  # some vendors have no address of their own
            case.body["api_endpoint"] = "https://p.example/v1"
        if isinstance(endpoint, str) and complaint_about_url(endpoint) is None:
            case.body["api_endpoint"] = "https://p.example/v1"  # a random one may be a private address
    if name in ("create_config", "replace_config") and isinstance(case.body, dict):
        if case.body.get("api_key", None) is None:
            case.body["api_key"] = "sk-1"  # which vendors want one is no matter of the body's shape
    if name == "delete_config" and is_uuid(str((case.path_parameters or {}).get("provider_id"))):
        case.path_parameters["provider_id"] = own["spare_provider_id"]
    for operation, field, mine_ in (
        ("get_token", "token_id", "token_id"),
        ("delete_token", "token_id", "spare_token_id"),
        ("delete_message", "message_id", "spare_message_id"),
        ("get_text", "attachment_id", "document_id"),
    ):
        if name == operation and is_uuid(str((case.path_parameters or {}).get(field))):
            case.path_parameters[field] = own[mine_]
    if name == "update_me" and isinstance(case.body, dict) and case.body.get("keep_tokens", False) is False:
        case.body["keep_tokens"] = True  # a new password would end those of the next requests
    strangers = {"create_message": "parent_id", "update_conversation": "active_leaf_id"}
    if name in strangers and isinstance(case.body, dict) and is_made_up(case.body.get(strangers[name])):
        case.body[strangers[name]] = None
    if (
        name == "create_attachment"
        and isinstance(case.body, dict)
        and is_made_up(case.body.get("message_id"))
    ):
        case.body["message_id"] = own["parent_id"]
    if name == "create_message" and isinstance(case.body, dict) and case.body.get("role") in ROLES:
        agree_with_role(case.body, own)
    if name == "import_all":
        send_an_export(case)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        keep_keys_of_the_document(case)
    headers: Any = case.headers or {}
    path, query = case.path_parameters or {}, case.query or {}
    if is_uuid(str(path.get("user_id"))):
        path["user_id"] = user_id
    if isinstance(case.body, dict) and is_uuid(str(case.body.get("user_id"))):
        case.body["user_id"] = user_id
    if is_uuid(str(headers.get("X-Act-As"))):
        headers["X-Act-As"] = user_id
    if 1 <= len(headers.get("Idempotency-Key", "")) <= 255:
        headers["Idempotency-Key"] = new_id()
    if isinstance(case.body, dict) and case.body and not any(v is not None for v in case.body.values()):
        case.body |= {"update_conversation": {"title": "T"}, "update_provider": {"name": "P"}}.get(name, {})
    places = use_one_cursor(query)
    if name == "list_conversations" and places:
        query[places[0]] = re.sub(r"-(29|30|31)(?=T)", "-28", str(query[places[0]]))
    return case


def use_one_cursor(query: Any) -> list[str]:
    """The names of the cursors in a query, of which all but the first are taken out of it."""
    places = [place for place in ("after", "before", "around") if place in query]
    for place in places[1:]:
        del query[place]
    return places


def agree_with_role(body: dict[str, Any], own: dict[str, str]) -> None:
    """The document can't say which fields go with which role, nor which calls and uploads there are."""
    if isinstance(content := body.get("content"), list):
        for part in content:
            if isinstance(part, dict) and part.get("type") == "attachment":
                part.clear()
                part |= {"type": "text", "text": "instead of an attachment"}
    calls = body.get("tool_calls")
    if isinstance(calls, list) and calls and all(isinstance(call, dict) for call in calls):
        body["role"] = "assistant"
        body.pop("tool_call_id", None)
        for number, call in enumerate(calls):
            if isinstance(call.get("id"), str) and call["id"]:
                call["id"] = str(number)
            if isinstance(call.get("arguments"), str):
                call["arguments"] = "{}"
    elif body["role"] == "tool" or body.get("tool_call_id") is not None:
        body["role"] = "tool"
        call_id = body.get("tool_call_id")
        if call_id is None or (isinstance(call_id, str) and call_id):
            body |= {"tool_call_id": "call_1", "parent_id": own["parent_id"]}
            if is_uuid(str(body.get("conversation_id"))):
                body["conversation_id"] = own["conversation_id"]
    elif body.get("content") == "":
        body["content"] = "x"
    if body["role"] != "user":
        body.pop("attachment_ids", None)


def send_an_export(case: schemathesis.Case) -> None:
    """The document can't say of which lines an export consists."""
    if isinstance(case.body, str | bytes):
        case.body = EXPORT
    elif isinstance(case.body, dict) and isinstance(case.body.get("file"), str | bytes):
        case.body["file"] = EXPORT


@schemathesis.serializer("application/x-ndjson", "application/zip")
def send_as_it_is(context: Any, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def is_made_up(id_: Any) -> bool:
    """Whether it is an id, but not one of the service's, as those are that come along a link."""
    return is_uuid(str(id_)) and (uuid.UUID(id_).version != 7 or id_ == EXAMPLE_ID)


def store_parameters(parameters: Any) -> None:
    """Take NUL out of those parameters that may be any JSON object."""
    if not isinstance(parameters, dict):
        return
    holders = [(parameters, name) for name in ("response_format", "chat_template_kwargs", "extra")]
    tools = parameters.get("tools")
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
            holders.append((tool["function"], "parameters"))
    for holder, name in holders:
        without_nul(holder, name)


def keep_keys_of_the_document(case: schemathesis.Case) -> None:
    """Take out of metadata the keys that `propertyNames` excludes, which the generator does not look at."""
    body: Any = case.body
    query: Any = case.query or {}
    if isinstance(body, dict) and isinstance(body.get("metadata"), dict):
        body["metadata"] = {key: value for key, value in body["metadata"].items() if is_key(key)}
    for name in [name for name in query if name.startswith("metadata[")]:
        if not is_key(name[len("metadata[") : -1]):
            del query[name]


def is_key(text: str) -> bool:
    return 1 <= len(text) <= MAX_KEY_CHARACTERS and "\0" not in text


def without_nul(holder: dict[str, Any], name: str) -> None:
    """Take NUL out of a field that may be any JSON object."""
    if name in holder:
        holder[name] = json.loads(json.dumps(holder[name]).replace("\\u0000", ""))


def written(folder: Path, **users: Api) -> Path:
    """A file that tells schemathesis how each user authenticates."""
    entries = [
        {
            "name": name,
            "fixedHeaders": [{"name": key, "value": value} for key, value in bearer(user.token).items()],
        }
        for name, user in users.items()
    ]
    path = folder / "users.json"
    path.write_text(json.dumps({"auth": entries}))
    return path


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
