"""A reply of a provider that only the operator's proxy can reach, with the whole service in between."""

from pathlib import Path

from tests.conftest import serving
from tests.support.api import Api, new_email
from tests.support.provider import ScriptedProvider
from tests.support.proxy import Proxy


def test_replies_and_models_come_through_the_proxy(
    database_url: str, tmp_path: Path, provider: ScriptedProvider
) -> None:
    names = {"model.internal": ("127.0.0.1", provider.port)}
    with Proxy(names, "ada:secret") as proxy:
        settings = {"OUTGOING_PROXY": proxy.url, "OUTGOING_ALLOWED": ("http://model.internal:80",)}
        with serving(database_url, tmp_path, **settings) as app:
            account = {"email": new_email(), "password": "correct horse battery staple"}
            Api(app).made("/auth/register", account)
            pair = Api(app).post("/auth/login", account).get_json()
            user = Api(app, pair["access_token"], pair["user"])
            added = user.provider(api_endpoint="http://model.internal/v1")
            user.config(added["id"])
            completion = user.completion(user.conversation()["id"], added["id"], model=user.user_id)
            assert completion["message"]["content"] == "Hello from the provider."
            assert user.get(f"/chat/llm-providers/{added['id']}/models").status_code == 200
            assert user.post(f"/chat/llm-providers/{added['id']}/check", {"model": "m"}).get_json()["ok"]
            elsewhere = user.provider(api_endpoint="https://nobody.invalid/v1")
            user.config(elsewhere["id"])
            failed = user.get(f"/chat/llm-providers/{elsewhere['id']}/models")
            assert failed.status_code == 502
            assert failed.get_json()["code"] == "provider_unreachable"
            assert "secret" not in failed.get_data(as_text=True)
    assert {target.rpartition("/")[2] for _, target, _ in proxy.requests} == {
        "completions",
        "models",
        "nobody.invalid:443",
    }
