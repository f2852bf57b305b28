"""The examples of /docs work as they stand for somebody who is logged in, with the ids of their own objects."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chat_api.web.openapi_examples import example_id
from tests.support.api import Api
from tests.test_openapi import METHODS, resolved

SCRIPT = Path("chat_api/templates/docs.js").read_text()
KINDS = ("user", "conversation", "message", "attachment", "provider", "completion", "token", "invitation")
# objects before what is made in them; each is deleted after all else was tried
ORDER = ("create_conversation", "create_message", "create_attachment", "create_provider", "create_config",
         "create_token")  # fmt: skip
DELETIONS = ("delete_attachment", "delete_config", "delete_token", "delete_message", "delete_conversation",
             "delete_provider")  # fmt: skip
NOT_ALONE = {
    "register": "the address of the example is registered once",
    "log_in": "by then",
    "update_me": "needs the caller's own password",
    "refresh": "takes the other token",
    "log_out": "would end the test",
    "delete_me": "would end the test",
    "get_metrics": "is for the operator's token",
    "create_completion": "needs a provider that answers",
    "list_models": "needs a provider that answers",
    "import_all": "is sent as a form",
    "get_content": "needs an attachment that was sent as a form",
    "get_text": "the same",
    "create_link": "the same",
}

Operation = dict[str, Any]


def test_the_page_knows_the_ids_of_examples() -> None:
    """docs.js replaces an id by its two last digits, which say what it is the id of."""
    match = re.search(r"const EXAMPLE = /(.*?)/g;", SCRIPT)
    assert match is not None
    kinds = dict(re.findall(r'"(0[0-9])": \{name: "(\w+)"', SCRIPT))
    assert set(kinds.values()) == set(KINDS)
    for kind in KINDS:
        found = re.fullmatch(match[1], example_id(f"{kind}_id"))
        assert found is not None
        assert kinds[found[1]] == kind


def sent(api: Api, document: dict[str, Any], path: str, method: str, own: dict[str, str]) -> Any:
    """Send an operation's examples, as Swagger UI fills them in; the answer."""
    item = document["paths"][path]
    operation = item[method]
    parameters = [
        resolved(document, parameter) for parameter in (*item.get("parameters", ()), *operation["parameters"])
    ]
    query: dict[str, Any] = {}
    for parameter in parameters:
        example = parameter.get(
            "example", parameter["schema"].get("example", parameter["schema"].get("default"))
        )
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", with_own_ids(example, own))
        elif parameter["in"] == "query" and example is not None:
            query |= query_of(parameter, example)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    text = None if body is None else with_own_ids(json.dumps(body), own)
    headers = {"Content-Type": "application/json"} if text is not None else {}
    with api.request(method.upper(), path, data=text, query_string=query, headers=headers) as response:
        response.get_data()
        return response


def query_of(parameter: dict[str, Any], example: Any) -> dict[str, Any]:
    """A parameter as it is sent; an object in the style `deepObject` as `metadata[topic]=travel`."""
    name = parameter["name"]
    if parameter.get("style") == "deepObject":
        return {f"{name}[{key}]": value for key, value in example.items()}
    return {name: json.dumps(example) if isinstance(example, bool) else example}


def with_own_ids(text: str, own: dict[str, str]) -> str:
    for kind, id_ in own.items():
        text = text.replace(example_id(f"{kind}_id"), id_)
    return text


@pytest.fixture
def document(stranger: Api) -> dict[str, Any]:
    found: dict[str, Any] = stranger.get("/openapi.json").get_json()
    return found


def test_examples_work_as_they_stand(ada: Api, admin: Api, document: dict[str, Any]) -> None:
    by_name = {
        item[method]["operationId"]: (path, method)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }
    rest = [name for name in by_name if name not in (*ORDER, *DELETIONS, *NOT_ALONE)]
    own, failures = {"user": ada.user_id}, {}
    for name in (*ORDER, *rest, *DELETIONS):
        path, method = by_name[name]
        if "{completion_id}" in path or "invitation" in name:
            continue
        response = sent(ada, document, path, method, own)
        if response.status_code >= 300:
            failures[name] = response.get_data(as_text=True)
        elif name in ORDER:
            own[name.removeprefix("create_")] = response.get_json()["id"]
    assert failures == {}
    invitation = sent(admin, document, *by_name["create_invitation"], {})
    assert invitation.status_code == 201
