"""Unknown query parameters are refused by every operation, so that a misspelled one is noticed."""

import re
from typing import Any

import pytest
from flask import Flask

from tests.conftest import serving
from tests.support.api import Api
from tests.support.document import ANY_ID, operations

METRICS_TOKEN = "token-of-the-monitoring"
LENIENT = {"get_health", "get_readiness", "get_metrics"}
CHECK_THE_TOKEN_THEMSELVES = {"refresh", "get_metrics"}  # in the view, after the query


def path_of(path: str) -> str:
    """The path with ids that nothing has: the query is refused before anything is looked up."""
    return re.sub(r"\{\w+_id\}", ANY_ID, path)


def body_of(operation: dict[str, Any]) -> dict[str, Any]:
    """What a body of this operation's own would look like, as options of a request."""
    content = operation.get("requestBody", {}).get("content", {})
    return {"json": content["application/json"]["example"]} if "application/json" in content else {}


def test_every_operation_refuses_a_parameter_that_it_does_not_know(app: Flask, ada: Api) -> None:
    tried = 0
    for method, path, operation in operations(app):
        if operation["operationId"] in LENIENT:
            continue
        response = ada.request(method, f"{path_of(path)}?no_such_parameter=1", **body_of(operation))
        assert response.status_code == 400, (method, path, response.get_data(as_text=True))
        problem = response.get_json()
        assert problem["code"] == "invalid_input"
        assert problem["errors"]["no_such_parameter"] == ["Unknown field."], (method, path)
        assert "400" in operation["responses"], (method, path)
        tried += 1
    assert tried > 30


def test_an_operation_without_parameters_refuses_what_no_query_may_have(ada: Api) -> None:
    path = f"/chat/conversations/{ada.conversation()['id']}"
    for query in ("a=1&a=2", "a=%00", "a=%ff", "%00=1", "=1", "title"):
        for method in ("GET", "HEAD", "DELETE"):
            assert ada.request(method, f"{path}?{query}").status_code == 400, (method, query)
    assert ada.get(path).status_code == 200


@pytest.mark.parametrize("query", ["", "?", "?&", "?&&"])
def test_an_empty_query_has_no_parameter(ada: Api, query: str) -> None:
    assert ada.get(f"/chat/conversations/{ada.conversation()['id']}{query}").status_code == 200


def test_a_refused_parameter_changes_nothing(ada: Api) -> None:
    conversation = ada.conversation()
    body = {"conversation_id": conversation["id"], "role": "user", "content": "Hello"}
    path = f"/chat/conversations/{conversation['id']}"
    assert ada.post("/chat/messages?dry_run=true", body).status_code == 400
    assert ada.patch(f"{path}?force=1", {"title": "Another"}).status_code == 400
    assert ada.delete(f"{path}?force=1").status_code == 400
    assert ada.get(path).get_json() == conversation


def test_who_has_no_token_learns_nothing_of_parameters(app: Flask, stranger: Api) -> None:
    for method, path, operation in operations(app):
        if operation.get("security") and operation["operationId"] not in CHECK_THE_TOKEN_THEMSELVES:
            refused = stranger.request(method, f"{path_of(path)}?no_such_parameter=1")
            assert refused.status_code == 401, (method, path)


def test_probes_and_monitoring_may_add_parameters(database_url: str, tmp_path: Any) -> None:
    """A load balancer's parameter must not turn a healthy service away."""
    with serving(database_url, tmp_path, METRICS_TOKEN=METRICS_TOKEN) as app:
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        lenient = [(path, operation["operationId"]) for _, path, operation in operations(app)]
        paths = [path for path, name in lenient if name in LENIENT]
        assert len(paths) == len(LENIENT)
        for path in paths:
            assert Api(app).get(f"{path}?probe=1&probe=2", headers=headers).status_code == 200, path
