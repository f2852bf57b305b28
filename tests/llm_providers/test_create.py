"""POST /chat/llm-providers: what is stored and returned, and what is refused."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.problems import assert_problem

GOOD_URLS = [
    "https://api.example.com/v1", "http://[::1]:11434/v1", "http://localhost:11434",
    "HTTPS://Api.Example", "https://a_b.example", "https://x.example/?api-version=2026-11-23",
    "http://ollama/v1", "https://x.example/a%20b", "http://x.example:65535", "http://x.example:1/a:b@c",
]  # fmt: skip
BAD_URLS = [
    "https://user:password@x.example", "https://user@x.example", "https://@x.example", "https://x.example/#f",
    "https://x.example#", "ftp://x.example", "file:///etc/passwd", "javascript:alert(1)", "//x.example",
    "x.example", "/v1", "http:", "http://", "http:///v1", "http://?x", "http://:80", "http:x.example",
    "http:/x.example", "http://x.example:0", "http://x.example:99999", "http://x.example:-1",
    "http://x.example:a", "http://x.example:", "http://a b.example", "http://x.example/a b",
    " http://x.example", "http://x.example\n", "http://x.example\t", "http://exämple.org", "http://x.example/é",
    "http://x.example\\@evil.example", "http://x.example/\\a", "http://a..b", "http://.a", "http://-a",
    "http://[::1", "http://[::g]", "http://[1..2]", "http://<x>", "http://x.example/\x7f",
    "http://" + "a" * 254, "https://x.example/" + "a" * 2048, "",
]  # fmt: skip


@pytest.mark.happy_path("create_provider", "get_provider")
def test_a_created_provider_is_returned_whole_and_read_by_its_id(ada: Api, bob: Api) -> None:
    body = {
        "name": "Example AI",
        "api_endpoint": "https://api.example.com/v1",
        "api_format": "anthropic",
        "context_window": 128000,
    }
    response = ada.post("/chat/llm-providers", body)
    assert response.status_code == 201
    provider = response.get_json()
    path = response.headers["Location"]
    assert path == f"/chat/llm-providers/{provider['id']}"
    times = {"created_at": provider["created_at"]}
    nothing: dict[str, Any] = {
        "catalog": None,
        "auth": None,
        "headers": {},
        "extra_body": {},
        "request_options": {},
    }
    assert provider == {
        **body,
        **nothing,
        **times,
        "id": provider["id"],
        "slug": "example-ai",
        "shared": False,
        "owner_id": ada.user_id,
    }
    found = ada.get(path)
    assert (found.status_code, found.get_json()) == (200, provider)
    assert bob.get(path).status_code == 404


def test_what_is_left_out_has_a_default(ada: Api) -> None:
    provider = ada.provider()
    assert (provider["api_format"], provider["context_window"]) == ("openai", None)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_api_endpoint_is_stored_as_it_was_sent(user: Api, url: str) -> None:
    assert user.provider(api_endpoint=url)["api_endpoint"] == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_api_endpoint_that_is_no_url_of_a_service_is_refused(
    user: Api, own_ids: dict[str, str], url: str
) -> None:
    change = user.patch(f"/chat/llm-providers/{own_ids['provider']}", {"api_endpoint": url})
    assert_problem(change, 400, "api_endpoint")
    assert_problem(user.post("/chat/llm-providers", {"name": "P", "api_endpoint": url}), 400, "api_endpoint")
