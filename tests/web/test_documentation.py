"""The document, its page and its command."""

import json

import pytest
from flask import Flask

from tests.support.api import Api

PAGES = ("/openapi.json", "/docs", "/docs/", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js")


@pytest.mark.parametrize("path", PAGES)
def test_what_a_client_has_is_not_sent_again(stranger: Api, path: str) -> None:
    with stranger.get(path) as first:
        assert first.status_code == 200
        tag = first.headers["ETag"]
        assert "no-cache" in first.headers["Cache-Control"]
    for method in ("GET", "HEAD"):
        with stranger.request(method, path, headers={"If-None-Match": tag}) as again:
            assert (again.status_code, again.get_data()) == (304, b"")
            assert again.headers["ETag"] == tag
    with stranger.get(path, headers={"If-None-Match": '"another"'}) as changed:
        assert changed.status_code == 200
        assert changed.headers["ETag"] == tag


def test_the_page_is_the_same_for_every_host(stranger: Api) -> None:
    tags = {
        stranger.get("/docs", headers={"Host": host}).headers["ETag"] for host in ("a.example", "b.example")
    }
    assert len(tags) == 1


def test_the_root_leads_to_the_page(stranger: Api) -> None:
    response = stranger.get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/docs")
    below = stranger.get("/", environ_overrides={"SCRIPT_NAME": "/below"})
    assert below.headers["Location"] == "/below/docs"
    with stranger.get("/", follow_redirects=True) as page:
        assert (page.status_code, page.mimetype) == (200, "text/html")


def test_the_command_prints_what_is_served(app: Flask, stranger: Api) -> None:
    result = app.test_cli_runner().invoke(args=["openapi", "print"])
    assert result.exit_code == 0, result.output
    printed, served = json.loads(result.stdout), stranger.get("/openapi.json").get_json()
    assert printed.pop("servers") == [{"url": "http://127.0.0.1:8000"}]
    assert served.pop("servers") == [{"url": "http://localhost"}]
    assert printed == served


def test_there_is_no_command_for_another_document(app: Flask) -> None:
    """flask-smorest's own commands know the document without what openapi.py adds."""
    result = app.test_cli_runner().invoke(args=["openapi", "write", "-"])
    assert result.exit_code == 2
