"""GET /v1/models, and what the name of a model means."""

import pytest

from tests.conftest import serving
from tests.openai_api.door import Door, refused, user
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, openai_stream


def configured(api: Api, provider_id: str, **fields: str) -> None:
    body = {"user_id": api.user_id, "provider_id": provider_id, "api_key": "sk-0123456789abcdef", **fields}
    api.made("/chat/user-llm-configs", body)


def names(api: Api) -> list[str]:
    response = api.get("/v1/models")
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.get_json()["object"] == "list"
    return [model["id"] for model in response.get_json()["data"]]


def test_models_of_all_providers(ada: Api, admin: Api, provider: ScriptedProvider) -> None:
    own = ada.provider(name="Own", api_endpoint=provider.url)
    slug = f"shared-{ada.user_id}"
    shared = admin.provider(name="Shared", slug=slug, shared=True, api_endpoint=provider.url)
    dead = ada.provider(name="Dead", api_endpoint="http://127.0.0.1:9/v1")
    ada.provider(name="No key", api_endpoint=provider.url)
    assert names(ada) == []
    configured(ada, own["id"])
    configured(ada, shared["id"])
    configured(ada, dead["id"], default_model="d")
    assert names(ada) == ["own/model-a", "own/model-b", f"{slug}/model-a", f"{slug}/model-b", "dead/d"]
    for name in ("own/model-a", "own%2Fmodel-b", "dead/d"):
        found = ada.get(f"/v1/models/{name}").get_json()
        assert found["id"] == name.replace("%2F", "/")
        assert (found["object"], found["owned_by"], type(found["created"])) == (
            "model",
            found["id"].split("/")[0],
            int,
        )
    refused(ada.get("/v1/models/own/z"), 404, "model_not_found", "model")
    assert ada.request("HEAD", "/v1/models").status_code == 200


@pytest.mark.parametrize("form", ["slug", "id", "default", "default/", "name", "only"])
def test_ways_to_name_one(ada: Api, provider: ScriptedProvider, form: str) -> None:
    made = ada.provider(name="Mine", api_endpoint=provider.url)
    configured(ada, made["id"], default_model=f"default-{ada.user_id}")
    if form != "only":
        other = ada.provider(name="Other", api_endpoint=provider.url)
        configured(ada, other["id"], default_model="x")
    door = Door(ada, provider, "", made["id"], f"default-{ada.user_id}")
    door.script(openai_stream("Hello"))
    asked = {
        "slug": f"mine/{door.model}",
        "id": f"{made['id'].upper()}/{door.model}",
        "default": "mine",
        "default/": "mine/",
        "name": door.model,
        "only": door.model,
    }[form]
    assert door.answered(user("Hi"), model=asked)["model"] == asked
    assert door.sent[-1].json["model"] == door.model


def test_one_is_read_by_any_of_its_names(ada: Api, provider: ScriptedProvider) -> None:
    """Programs look whether the model that they are configured for is there."""
    made = ada.provider(name="Mine", api_endpoint=provider.url)
    configured(ada, made["id"], default_model="model-a")
    for name in ("mine/model-a", f"{made['id'].upper()}/model-a", "mine", "mine/", "model-a", "model-b"):
        found = ada.get(f"/v1/models/{name}")
        assert found.status_code == 200, found.get_data(as_text=True)
        assert (found.get_json()["id"], found.get_json()["owned_by"]) == (name.rstrip("/"), "mine")
    for name in ("mine/none", "none", "other/model-a"):
        refused(ada.get(f"/v1/models/{name}"), 404, "model_not_found", "model")


def test_what_means_no_model(ada: Api, bob: Api, provider: ScriptedProvider) -> None:
    door = Door(ada, provider, "", "", "m")
    message = refused(door.ask(user("Hi"), model="m"), 404, "model_not_found", "model")["message"]
    assert "key" in message
    for name in ("One", "Two"):
        configured(ada, ada.provider(name=name, api_endpoint=provider.url)["id"], default_model="same")
    his = bob.provider(name="His", api_endpoint=provider.url)
    configured(bob, his["id"])
    for name in ("nothing", "his/m", f"{his['id']}/m"):
        message = refused(door.ask(user("Hi"), model=name), 404, "model_not_found", "model")["message"]
        assert "one/same" in message
    refused(door.ask(user("Hi"), model="same"), 400, "model_ambiguous", "model")
    refused(door.ask(user("Hi"), model=f"one/{'m' * 256}"), 400, "invalid_value", "model")


# -- paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models/", "/v1//models", "/v1///models//", "/v1/models//own/model-a"])
def test_slashes_make_no_difference(ada: Api, provider: ScriptedProvider, path: str) -> None:
    configured(ada, ada.provider(name="Own", api_endpoint=provider.url)["id"])
    assert ada.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1//chat/completions", "/v1/chat//completions/"])
def test_a_body_is_not_lost_by_slashes(ada: Api, provider: ScriptedProvider, path: str) -> None:
    door = Door.open(ada, provider, name="Own")
    door.script(openai_stream("Hello"))
    response = ada.post(path, {"model": door.name, "messages": [user("Hi")]})
    assert response.status_code == 200


def test_doubled_slashes_elsewhere_are_redirected_as_before(ada: Api) -> None:
    assert ada.get("/chat//conversations").status_code == 308


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models"), ("GET", "/models/own/model-a"), ("POST", "/responses"), ("GET", "/responses/resp_1"),
     ("POST", "/embeddings"), ("POST", "/completions"), ("GET", "/files"), ("POST", "/conversations")],
)  # fmt: skip
def test_a_base_url_without_the_prefix(stranger: Api, method: str, path: str) -> None:
    error = refused(stranger.request(method, path, json={} if method == "POST" else None), 404, "not_found")
    assert "/v1" in error["message"]


def test_chat_completions_without_the_prefix(ada: Api) -> None:
    response = ada.post("/chat/completions", {"model": "a/b", "messages": [user("Hi")]})
    assert response.status_code == 400
    assert "ends with /v1" in str(response.get_json()["errors"]["messages"])


def test_what_is_older_than_chats(ada: Api, stranger: Api) -> None:
    for path in ("/v1/completions", "/v1/completions/"):
        error = refused(ada.post(path, {"model": "a/b", "prompt": "Hi"}), 404, "not_found")
        assert "/v1/chat/completions" in error["message"]
    refused(stranger.post("/v1/completions", {}), 401, "invalid_api_key")


@pytest.mark.parametrize(
    "path",
    ["moderations", "audio/speech", "images/generations", "batches", "assistants", "threads", "engines", ""],
)
def test_what_is_not_here(ada: Api, path: str) -> None:
    for method in ("GET", "POST"):
        refused(ada.request(method, f"/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize("path", ["models", "chat/completions", "responses", "conversations", "files"])
def test_pages_of_other_origins(
    database_url: str, tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    origin = "https://page.example"
    folder = tmp_path_factory.mktemp("cors")
    with serving(database_url, folder, CORS_ORIGINS=(origin,)) as app:
        asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-conversation-id"
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        }
        response = Api(app).request("OPTIONS", f"/v1/{path}", headers=headers)
        assert response.status_code == 200
        allowed = response.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
        assert set(allowed) >= set(asked.split(","))
        told = Api(app).get(f"/v1/{path}", headers={"Origin": origin})
        exposed = told.headers["Access-Control-Expose-Headers"].lower()
        assert all(name in exposed for name in ("x-request-id", "x-conversation-id", "retry-after"))


def test_headers_of_azures_clients_change_nothing(ada: Api, stranger: Api) -> None:
    assert ada.get("/v1/models?api-version=2024-10-21", headers={"OpenAI-Beta": "x"}).status_code == 200
    refused(stranger.get("/v1/models", headers={"api-key": ada.token or ""}), 401, "invalid_api_key")
