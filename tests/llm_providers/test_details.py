"""What a provider has besides its address: vendor, auth, headers, fields and options of requests."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask

from chat_api import keyring
from chat_api.database.session import db
from chat_api.keyring import Keyring
from chat_api.llm.vendors import vendors
from chat_api.llm_providers.fields import MAX_EXTRA_BODY_BYTES, MAX_HEADERS, RESERVED_FIELDS, RESERVED_HEADERS
from chat_api.llm_providers.models import LLMProvider
from tests.conftest import serving
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.problems import assert_problem
from tests.support.provider import Received, Reply, ScriptedProvider, error_answer, openai_stream

PROVIDERS = "/chat/llm-providers"
SECRET = "Bearer very-secret-0123456789"


def would_send(user: Api, provider: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The request that a completion would make; the user needs no config if the provider needs none."""
    body = {"conversation_id": user.conversation()["id"], "provider_id": provider["id"], "model": "m"}
    response = user.post("/chat/completions?dry_run=true", {**body, "content": "Hi", **fields})
    assert response.status_code == 200, response.get_data(as_text=True)
    sent: dict[str, Any] = response.get_json()["request"]
    sent["headers"] = {name.lower(): value for name, value in sent["headers"].items()}
    return sent


def with_key(user: Api, **fields: Any) -> dict[str, Any]:
    provider = user.provider(**fields)
    user.config(provider["id"])
    return provider


# -- the catalog ------------------------------------------------------------------------------------------


@pytest.mark.happy_path("list_catalog")
def test_catalog_lists_all_vendors(ada: Api, stranger: Api) -> None:
    listed = ada.get(f"{PROVIDERS}/catalog").get_json()
    assert [vendor["id"] for vendor in listed] == list(vendors())
    gemini = next(vendor for vendor in listed if vendor["id"] == "gemini")
    assert gemini == {
        "id": "gemini",
        "name": "Google Gemini",
        "api_endpoint": "https://generativelanguage.googleapis.com/v1beta/openai",
        "api_format": "openai",
        "auth": "bearer",
        "needs_key": True,
        "request_options": dict(vendors()["gemini"].options),
        "checked": list(vendors()["gemini"].checked),
        "notes": vendors()["gemini"].notes,
    }
    assert stranger.get(f"{PROVIDERS}/catalog").status_code == 401


@pytest.mark.parametrize("vendor_id", [each.id for each in vendors().values() if not each.has_placeholders])
def test_a_provider_is_made_from_its_vendors_id_alone(ada: Api, vendor_id: str) -> None:
    vendor = vendors()[vendor_id]
    made = ada.made(PROVIDERS, {"catalog": vendor_id})
    assert (made["catalog"], made["name"], made["api_endpoint"], made["api_format"]) == (
        vendor_id,
        vendor.name,
        vendor.api_endpoint,
        vendor.api_format,
    )
    assert (made["auth"], made["headers"], made["request_options"]) == (None, {}, {})


def test_own_values_win_over_the_catalog(ada: Api) -> None:
    body = {"catalog": "ollama", "name": "Mine", "api_endpoint": "https://ollama.example/v1", "auth": "X-Key"}
    made = ada.made(PROVIDERS, body)
    assert {name: made[name] for name in body} == body


@pytest.mark.parametrize("vendor_id", [each.id for each in vendors().values() if each.has_placeholders])
def test_address_with_placeholders_has_to_be_given(ada: Api, vendor_id: str) -> None:
    problem = assert_problem(ada.post(PROVIDERS, {"catalog": vendor_id}), 400, "api_endpoint")
    assert vendors()[vendor_id].api_endpoint in problem["errors"]["api_endpoint"][0]
    filled = {"catalog": vendor_id, "api_endpoint": "https://filled.example/v1"}
    assert ada.made(PROVIDERS, filled)["name"] == vendors()[vendor_id].name


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["api_endpoint", "name"]),
        ({"name": "P"}, ["api_endpoint"]),
        ({"api_endpoint": "https://p.example"}, ["name"]),
        ({"catalog": None}, ["api_endpoint", "name"]),
        ({"catalog": "unheard-of"}, ["catalog"]),
    ],
)
def test_without_a_vendor_name_and_address_are_required(
    ada: Api, body: dict[str, Any], fields: list[str]
) -> None:
    response = ada.post(PROVIDERS, body)
    assert (response.status_code, sorted(response.get_json()["errors"])) == (400, fields)


def test_protocol_of_a_pasted_path(ada: Api) -> None:
    assert ada.provider(api_endpoint="https://g.example/v1/messages")["api_format"] == "anthropic"
    assert ada.provider(api_endpoint="https://g.example/v1/chat/completions")["api_format"] == "openai"


# -- what is sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21", "api-key"),
        ("https://x.cognitiveservices.azure.com/openai/deployments/d?api-version=2024-10-21", "api-key"),
        ("https://x.openai.azure.com/openai/v1", "authorization"),
        ("https://api.openai.com/v1", "authorization"),
    ],
)
def test_azure_gets_the_key_in_its_own_header(ada: Api, endpoint: str, name: str) -> None:
    sent = would_send(ada, with_key(ada, api_endpoint=endpoint))
    assert {"api-key", "authorization"} & set(sent["headers"]) == {name}
    assert "****" in sent["headers"][name]


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("bearer", ("authorization", "Bearer ****")),
        ("Bearer", ("authorization", "Bearer ****")),
        ("api-key", ("api-key", "****")),
        ("Authorization", ("authorization", "****")),
        ("none", None),
    ],
)
@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_auth_says_where_the_key_goes(
    ada: Api, auth: str, header: tuple[str, str] | None, api_format: str
) -> None:
    provider = with_key(ada, auth=auth, api_format=api_format)
    sent = would_send(ada, provider)
    masked = {name: value for name, value in sent["headers"].items() if "****" in value}
    assert masked == dict([header] if header else [])
    changed = ada.patch(f"{PROVIDERS}/{provider['id']}", {"auth": None}).get_json()
    assert changed["auth"] is None
    default = "authorization" if api_format == "openai" else "x-api-key"
    assert "****" in would_send(ada, provider)["headers"][default]


def test_headers_fields_and_options_are_sent(ada: Api, provider: ScriptedProvider) -> None:
    made = ada.provider(
        api_endpoint=provider.url,
        headers={"HTTP-Referer": "https://chat.example.com", "x-title": "A title"},
        extra_body={"safe_prompt": True, "nested": {"list": [1, 2.5, None]}},
        request_options={"stream_options": False, "limit_field": "max_completion_tokens"},
    )
    ada.config(made["id"])
    ada.completion(ada.conversation()["id"], made["id"], model=ada.user_id, parameters={"max_tokens": 5})
    [received] = provider.of_model(ada.user_id)
    assert received.headers["http-referer"] == "https://chat.example.com"
    assert received.headers["x-title"] == "A title"
    assert received.headers["authorization"].startswith("Bearer sk-")
    assert received.json["safe_prompt"] is True
    assert received.json["nested"] == {"list": [1, 2.5, None]}
    assert received.json["max_completion_tokens"] == 5
    assert "stream_options" not in received.json
    assert ada.get(f"{PROVIDERS}/{made['id']}/models").status_code == 200
    assert provider.last.headers["x-title"] == "A title"


def test_no_answer_has_the_value_of_a_header(ada: Api, admin: Api, app: Flask) -> None:
    shared = admin.provider(
        shared=True, headers={"Authorization": SECRET, "X-Team": "blue-team-42"}, auth="none"
    )
    assert shared["headers"] == {"Authorization": "****", "X-Team": "****"}
    answers = [
        ada.get(f"{PROVIDERS}/{shared['id']}"),
        ada.get(f"{PROVIDERS}?limit=1000"),
        admin.patch(f"{PROVIDERS}/{shared['id']}", {"name": "Q"}),
        ada.get("/chat/export", buffered=True),
        admin.get("/chat/export", buffered=True),
    ]
    sent = would_send(ada, shared)
    assert (sent["headers"]["authorization"], sent["headers"]["x-team"]) == ("****", "****")
    for text in [json.dumps(sent), *(answer.get_data(as_text=True) for answer in answers)]:
        assert "very-secret" not in text
        assert "blue-team" not in text
    with app.app_context():
        stored = db.session.get_one(LLMProvider, shared["id"]).encrypted_headers
        assert stored
        assert "very-secret" not in stored
        assert "blue-team" not in stored


def test_key_wins_over_a_header_of_its_name(ada: Api) -> None:
    """So a shared provider can have a key for those who have none."""
    made = ada.provider(headers={"authorization": SECRET})
    ada.config(made["id"], "sk-own-key-0123456789")
    sent = would_send(ada, made)
    assert sent["headers"]["authorization"] == "Bearer ****"


# -- changing headers -------------------------------------------------------------------------------------


def test_headers_that_are_not_named_stay(ada: Api, provider: ScriptedProvider) -> None:
    made = ada.provider(api_endpoint=provider.url, headers={"X-A": "a1", "X-B": "b1", "X-C": "c1"})
    path = f"{PROVIDERS}/{made['id']}"
    changed = ada.patch(path, {"headers": {"x-b": "b2", "X-C": None, "X-D": "d1"}}).get_json()
    assert set(changed["headers"]) == {"X-A", "x-b", "X-D"}
    ada.config(made["id"])
    ada.get(f"{path}/models")
    received = {name: value for name, value in provider.last.headers.items() if name.startswith("x-")}
    assert received == {"x-a": "a1", "x-b": "b2", "x-d": "d1"}
    assert ada.patch(path, {"name": "Q"}).get_json()["headers"] == changed["headers"]
    assert ada.patch(path, {"headers": None}).get_json()["headers"] == {}


def test_headers_are_gone_when_the_endpoint_changes(ada: Api, provider: ScriptedProvider) -> None:
    """As the keys are: whoever may change a provider gets no secret that was given for another address."""
    made = ada.provider(headers={"X-Secret": SECRET})
    path = f"{PROVIDERS}/{made['id']}"
    same = {"api_endpoint": made["api_endpoint"], "name": "Q"}
    assert ada.patch(path, same).get_json()["headers"] == {"X-Secret": "****"}
    moved = ada.patch(path, {"api_endpoint": provider.url, "headers": {"X-New": "n"}}).get_json()
    assert moved["headers"] == {"X-New": "****"}
    ada.config(made["id"])
    ada.get(f"{path}/models")
    assert provider.last.headers["x-new"] == "n"
    assert "x-secret" not in provider.last.headers
    assert ada.patch(path, {"api_endpoint": "https://q.example"}).get_json()["headers"] == {}


@pytest.mark.parametrize(
    "headers",
    [
        *({name.title(): "x"} for name in sorted(RESERVED_HEADERS)),
        {"": "x"},
        {"X Y": "x"},
        {"X:Y": "x"},
        {"X\r\nEvil": "x"},
        {"Ä": "x"},
        {"X" * 65: "x"},
        {"X": "a\r\nEvil: b"},
        {"X": "a\nb"},
        {"X": " a"},
        {"X": "a "},
        {"X": ""},
        {"X": "ä"},
        {"X": "a\tb"},
        {"X": "****"},
        {"X": 5},
        {"X": "a" * 4097},
        {"X-A": "a", "x-a": "b"},
        {f"X-{number}": "a" for number in range(MAX_HEADERS + 1)},
        {f"X-{number}": "a" * 4000 for number in range(5)},
        "X: a",
        ["X"],
    ],
)
def test_header_that_can_not_be_sent_is_refused(ada: Api, headers: Any) -> None:
    body = {"name": "P", "api_endpoint": "https://p.example", "headers": headers}
    problem = assert_problem(ada.post(PROVIDERS, body), 400, "headers")
    assert "Evil" not in json.dumps(problem)
    made = ada.provider()
    assert_problem(ada.patch(f"{PROVIDERS}/{made['id']}", {"headers": headers}), 400, "headers")


def test_headers_stay_bounded_whatever_is_added(ada: Api) -> None:
    made = ada.provider(headers={f"X-{number}": "a" for number in range(MAX_HEADERS)})
    path = f"{PROVIDERS}/{made['id']}"
    assert_problem(ada.patch(path, {"headers": {"Y": "a"}}), 400, "headers")
    for number in range(3):
        assert ada.patch(path, {"headers": {f"X-{number}": "a" * 4096}}).status_code == 200
    assert_problem(
        ada.patch(path, {"headers": {"X-3": "a" * 4096, "X-4": "a" * 4096, "X-5": "a" * 4096}}),
        400,
        "headers",
    )


@pytest.mark.parametrize(
    "auth", ["", "X Y", "Host", "content-length", "Proxy-Authorization", "X\r\nY", "X" * 65]
)
def test_auth_that_is_no_header_is_refused(ada: Api, auth: str) -> None:
    body = {"name": "P", "api_endpoint": "https://p.example", "auth": auth}
    assert_problem(ada.post(PROVIDERS, body), 400, "auth")


@pytest.mark.parametrize(
    "extra",
    [*({name: 1} for name in sorted(RESERVED_FIELDS)), {"x": "a" * MAX_EXTRA_BODY_BYTES}, [], "x"],
)
def test_field_that_is_ours_is_refused(ada: Api, extra: Any) -> None:
    body = {"name": "P", "api_endpoint": "https://p.example", "extra_body": extra}
    assert_problem(ada.post(PROVIDERS, body), 400, "extra_body")


@pytest.mark.parametrize(
    "options",
    [
        {"unknown": 1},
        {"stream": "no"},
        {"limit_field": "tokens"},
        {"without": ["n"]},
        {"dialect": "klingon"},
        [],
    ],
)
def test_option_that_nobody_knows_is_refused(ada: Api, options: Any) -> None:
    body = {"name": "P", "api_endpoint": "https://p.example", "request_options": options}
    assert_problem(ada.post(PROVIDERS, body), 400, "request_options")


def test_details_are_changed_and_taken_back(ada: Api) -> None:
    path = f"{PROVIDERS}/{ada.provider()['id']}"
    for name, value, nothing in (
        ("catalog", "mistral", None),
        ("auth", "api-key", None),
        ("extra_body", {"a": 1}, {}),
        ("request_options", {"stream": False}, {}),
    ):
        assert ada.patch(path, {name: value}).get_json()[name] == value
        assert ada.get(path).get_json()[name] == value
        assert ada.patch(path, {name: None}).get_json()[name] == nothing


# -- addresses that no call would go to -------------------------------------------------------------------

PRIVATE = ["https://10.0.0.1/v1", "http://10.0.0.1:8080/v1", "https://192.168.1.1", "https://169.254.169.254/latest",
           "https://[fd00::1]/v1", "https://[::ffff:10.0.0.1]/v1", "https://0xa.1/v1", "https://167772161/v1",
           "https://0/v1", "http://127.0.0.1:8000/v1", "https://100.64.0.1"]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_private_address_is_refused_when_the_provider_is_made(ada: Api, url: str) -> None:
    """In the words that a call would be refused with."""
    refused = assert_problem(ada.post(PROVIDERS, {"name": "P", "api_endpoint": url}), 400, "api_endpoint")
    path = f"{PROVIDERS}/{ada.provider()['id']}"
    assert_problem(ada.patch(path, {"api_endpoint": url}), 400, "api_endpoint")
    with ada.app.app_context():
        db.session.get_one(LLMProvider, path.rpartition("/")[2]).api_endpoint = url
        db.session.commit()
    ada.config(path.rpartition("/")[2])
    blocked = ada.get(f"{path}/models")
    assert (blocked.status_code, blocked.get_json()["code"]) == (502, "provider_blocked")
    assert blocked.get_json()["detail"] == refused["errors"]["api_endpoint"][0]


@pytest.fixture
def production(database_url: str, tmp_path: Any) -> Iterator[Flask]:
    secrets = {
        "JWT_SECRET_KEY": "0123456789abcdefghijklmnopqrstuv",
        "ENCRYPTION_KEYS": (Fernet.generate_key().decode(),),
    }
    settings = {"APP_ENV": "production", "OUTGOING_ALLOWED": ("http://10.0.0.5:11434",), **secrets}
    with serving(database_url, tmp_path, **settings) as app:
        yield app


def test_settings_decide_what_is_allowed(production: Flask) -> None:
    stranger = Api(production)
    email = {
        "email": f"{Fernet.generate_key().hex()[:20]}@example.org",
        "password": "correct horse battery staple",
    }
    stranger.made("/auth/register", email)
    pair = stranger.post("/auth/login", email).get_json()
    user = Api(production, pair["access_token"], pair["user"])
    user.provider(api_endpoint="http://10.0.0.5:11434/v1")
    user.provider(api_endpoint="https://p.example/v1")
    for url in (
        "http://10.0.0.5:11435/v1",
        "http://p.example/v1",
        "http://127.0.0.1:11434/v1",
        "https://localhost",
    ):
        problem = assert_problem(
            user.post(PROVIDERS, {"name": "P", "api_endpoint": url}), 400, "api_endpoint"
        )
        assert "OUTGOING_ALLOWED" in problem["errors"]["api_endpoint"][0]
    assert_problem(user.post(PROVIDERS, {"catalog": "ollama"}), 400, "api_endpoint")


# -- master keys ------------------------------------------------------------------------------------------


def test_headers_are_counted_and_rotated_with_the_keys(only_user: Api, provider: ScriptedProvider) -> None:
    ada, app = only_user, only_user.app
    made = ada.provider(api_endpoint=provider.url, headers={"X-A": "a1", "X-B": "b1"}, auth="none")
    path = f"{PROVIDERS}/{made['id']}/models"
    current = app.config["ENCRYPTION_KEYS"]
    fresh = Fernet.generate_key().decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((fresh,)))
        lost = ada.get(path)
        assert (lost.status_code, lost.get_json()["code"]) == (409, "key_unreadable")
        assert "headers" in lost.get_json()["detail"]
        assert ada.get(f"{PROVIDERS}/{made['id']}").get_json()["headers"] == made["headers"]
        assert run_flask(lambda: app, "keys", "check").exit_code == 1
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((fresh, *current)))
        assert run_flask(lambda: app, "keys", "rotate").exit_code == 0
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((fresh,)))
        assert ada.get(path).status_code == 200
        assert provider.last.headers["x-b"] == "b1"
        patch.setitem(app.extensions, keyring.EXTENSION, Keyring((*current, fresh)))
        assert run_flask(lambda: app, "keys", "rotate").exit_code == 0
    assert ada.get(path).status_code == 200


def test_headers_of_one_provider_do_not_open_in_another(app: Flask, ada: Api) -> None:
    mine, other = (
        ada.provider(headers={"X-A": "a"}, auth="none"),
        ada.provider(headers={"X-A": "b"}, auth="none"),
    )
    with app.app_context():
        source = db.session.get_one(LLMProvider, mine["id"])
        db.session.get_one(LLMProvider, other["id"]).encrypted_headers = source.encrypted_headers
        db.session.commit()
    assert ada.get(f"{PROVIDERS}/{other['id']}/models").get_json()["code"] == "key_unreadable"


def test_log_has_no_value_of_a_header(ada: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        made = ada.provider(headers={"X-Secret": SECRET})
        ada.get(f"{PROVIDERS}/{made['id']}")
    assert "very-secret" not in caplog.text


def test_version_that_was_found_is_remembered_until_the_provider_moves(
    ada: Api, provider: ScriptedProvider
) -> None:
    def only_v1(request: Received) -> Reply:
        is_there = request.path.startswith("/v1/")
        return openai_stream("Hello") if is_there else error_answer(404, "Not Found")

    provider.script(only_v1, model=ada.user_id)
    made = ada.provider(api_endpoint=provider.origin)
    ada.config(made["id"])
    for _ in range(2):
        ada.completion(ada.conversation()["id"], made["id"], model=ada.user_id)
    paths = [request.path for request in provider.of_model(ada.user_id)]
    assert paths == ["/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]
    assert would_send(ada, made, model=ada.user_id)["url"] == f"{provider.origin}/v1/chat/completions"
    ada.get(f"{PROVIDERS}/{made['id']}/models")
    assert provider.last.path == "/v1/models"
    ada.patch(f"{PROVIDERS}/{made['id']}", {"api_endpoint": f"{provider.origin}/other"})
    ada.config(made["id"])
    assert would_send(ada, made, model=ada.user_id)["url"] == f"{provider.origin}/other/chat/completions"
