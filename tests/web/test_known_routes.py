"""A route that was found before is found by what its path has around the ids, and never for another path."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from chat_api.database.columns import new_id
from chat_api.web.application import Application
from chat_api.web.known_routes import KnownRoutes, Routes

ID, OTHER_ID = "0192d3c4-0000-7000-8000-0000000000aa", "0192D3C4-0000-7000-8000-0000000000BB"


def match(app: Flask, method: str, path: str, known: KnownRoutes) -> Any:
    """Endpoint and arguments, or the status of the refusal."""
    with app.test_request_context(path, method=method) as context:
        try:
            rule, arguments = Routes(app.url_map, context.request, known).match(return_rule=True)
        except HTTPException as refusal:
            return refusal.code
        return rule.endpoint, arguments


PATHS = [
    ("GET", f"/chat/conversations/{ID}", f"/chat/conversations/{OTHER_ID}"),
    ("GET", f"/chat/conversations/{ID}/", f"/chat/conversations/{OTHER_ID}/"),
    ("GET", f"/chat/conversations/{ID}/messages", f"/chat/conversations/{OTHER_ID}/messages"),
    ("PATCH", f"/chat/conversations/{ID}", f"/chat/conversations/{OTHER_ID}"),
    ("GET", "/chat/conversations", "/chat/conversations"),
    ("POST", "/chat/messages", "/chat/messages"),
    ("GET", "/healthz", "/healthz"),
]


@pytest.mark.parametrize(("method", "first", "second"), PATHS)
def test_a_known_route_is_what_werkzeug_finds(app: Flask, method: str, first: str, second: str) -> None:
    known: KnownRoutes = {}
    assert match(app, method, first, known) == match(app, method, first, {})
    assert len(known) == 1
    assert match(app, method, second, known) == match(app, method, second, {})
    assert len(known) == 1
    assert match(app, "TRACE", second, known) == 405


def test_ids_come_in_lower_case_from_a_known_route(app: Flask) -> None:
    known: KnownRoutes = {}
    for id_ in (ID, OTHER_ID):
        _, arguments = match(app, "GET", f"/chat/conversations/{id_}", known)
        assert arguments == {"conversation_id": id_.lower()}


NOT_THE_SAME = [
    "/chat/conversations/",
    f"/chat/conversations/x{ID}",
    f"/chat/conversations/{ID}x",
    f"/chat/conversations/{ID}{ID}",
    f"/chat/conversations/{ID}/messages/{ID}",
    f"/chat//conversations/{ID}",
    f"//chat/conversations/{ID}",
    f"/chat/conversations/{ID[:-1]}",
    "/chat/conversations/*",
]


@pytest.mark.parametrize("path", NOT_THE_SAME)
def test_a_path_that_differs_by_more_than_its_id_is_looked_for(app: Flask, path: str) -> None:
    known: KnownRoutes = {}
    match(app, "GET", f"/chat/conversations/{ID}", known)
    assert match(app, "GET", path, known) == match(app, "GET", path, {})


def test_clients_cannot_make_it_remember_more_than_there_is(app: Flask) -> None:
    known: KnownRoutes = {}
    for slashes in range(1, 20):
        match(app, "GET", f"{'/' * slashes}chat/conversations/{new_id()}", known)
        match(app, "GET", f"/chat/conversations/{new_id()}/{slashes}", known)
        match(app, f"GET{slashes}", f"/chat/conversations/{new_id()}", known)
    assert len(known) == 1


def test_routes_with_other_parameters_are_not_remembered() -> None:
    """An id there is a text like any other, which stays as it was sent; and defaults are arguments, too."""
    app = Application("routes", static_folder=None)
    app.add_url_rule("/texts/<text>", "text", lambda text: text)
    app.add_url_rule("/first", "page", lambda page: page, defaults={"page": 1})
    known: KnownRoutes = {}
    for id_ in (ID, OTHER_ID):
        assert match(app, "GET", f"/texts/{id_}", known) == ("text", {"text": id_})
    assert match(app, "GET", "/first", known) == ("page", {"page": 1})
    assert not known


def test_the_rest_of_the_adapter_is_werkzeugs(app: Flask) -> None:
    with app.test_request_context(f"/chat/conversations/{ID}") as context:
        routes = Routes(app.url_map, context.request, {})
        assert {"GET", "PATCH", "DELETE"} <= set(routes.allowed_methods())
        assert routes.match(f"/chat/messages/{ID}", "GET")[1] == {"message_id": ID}
