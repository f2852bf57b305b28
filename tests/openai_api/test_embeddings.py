"""POST /v1/embeddings: what goes to the provider and comes back, and that nothing is stored."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database.session import db
from chat_api.egress.errors import EgressError
from chat_api.llm_providers.models import LLMProvider
from tests.conftest import serving, user_maker
from tests.openai_api.door import Door, refused
from tests.support.api import Api
from tests.support.provider import BREAK, Reply, ScriptedProvider, Step, error_answer
from tests.test_ownership import rows_of

ANSWER = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAAA"}],"model":"m",'
    b' "usage": {"prompt_tokens": 8, "total_tokens": 9}}'
)


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    return Door.open(ada, provider, name="Scripted")


def answer(*pieces: Step, **options: Any) -> Reply:
    return Reply(*(pieces or (ANSWER,)), content_type="application/json", **options)


def ask(door: Door, **fields: Any) -> Any:
    body = {"model": door.name, "input": "Hello", **fields}
    return door.api.post("/v1/embeddings", body, buffered=True)


def test_request_and_answer_are_handed_on(app: Flask, door: Door) -> None:
    door.script(answer(ANSWER[:20], ANSWER[20:]))
    before = rows_of(app, door.api.user_id)
    response = ask(door, encoding_format="base64", dimensions=256, vendor={"a": [1, None]})
    assert (response.status_code, response.mimetype, response.data) == (200, "application/json", ANSWER)
    [sent] = door.sent
    assert sent.path == "/v1/embeddings"
    assert sent.headers["authorization"].startswith("Bearer sk-")
    assert sent.json == {
        "model": door.model,
        "input": "Hello",
        "encoding_format": "base64",
        "dimensions": 256,
        "vendor": {"a": [1, None]},
    }
    assert rows_of(app, door.api.user_id) == before


@pytest.mark.parametrize("dimensions", ["1" * 30, "[" * 300 + "]" * 300])
def test_what_can_be_read_but_not_handed_on_is_refused(door: Door, dimensions: str) -> None:
    body = f'{{"model":"{door.name}","input":"Hi","dimensions":{dimensions}}}'
    answer = door.api.post("/v1/embeddings", data=body, content_type="application/json")
    refused(answer, 400, "invalid_value", "dimensions")


def test_long_lists_of_tokens(door: Door) -> None:
    door.script(answer())
    tokens = [list(range(10_000))] * 20
    assert ask(door, input=tokens).status_code == 200
    assert door.sent[-1].json["input"] == tokens
    refused(ask(door, input=[[1] * 500_000]), 400, "invalid_input")


def test_a_server_whose_paths_have_a_version(ada: Api, provider: ScriptedProvider) -> None:
    door = Door.open(ada, provider, name="Bare", api_endpoint=provider.origin)
    door.script(error_answer(404, "Not Found"), answer())
    assert ask(door).data == ANSWER
    assert [sent.path for sent in door.sent] == ["/embeddings", "/v1/embeddings"]


@pytest.mark.parametrize("field", ["input", "model"])
def test_what_is_missing(door: Door, field: str) -> None:
    refused(ask(door, **{field: None}), 400, "missing_required_parameter", field)
    assert not door.sent


def test_no_such_model(door: Door) -> None:
    door.api.config(door.api.provider()["id"])
    refused(ask(door, model="nobody/m"), 404, "model_not_found", "model")


def test_claude_has_none(door: Door) -> None:
    claude = Door.open(door.api, door.provider, name="Claude", api_format="anthropic")
    refused(ask(claude), 404, "model_not_found", "model")
    assert not claude.sent


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (400, 400, "provider_refused_request"),
        (401, 502, "provider_refused_key"),
        (429, 429, "provider_rate_limited"),
        (500, 502, "provider_failed"),
    ],
)
def test_errors_of_the_provider(door: Door, status: int, said: int, code: str) -> None:
    door.script(error_answer(status, "That did not work."))
    assert "That did not work." in refused(ask(door), said, code)["message"]


@pytest.mark.parametrize("bad", [Reply(b"<html>", content_type="text/html"), answer(b""), answer(BREAK)])
def test_an_answer_that_is_none(door: Door, bad: Reply) -> None:
    door.script(bad)
    error = refused(ask(door), 502, "provider_unreachable" if BREAK in bad.steps else "provider_failed")
    assert error["type"] == "server_error"


def test_addresses_inside_are_not_called(door: Door) -> None:
    with door.api.app.app_context():
        its = LLMProvider.id == door.provider_id
        db.session.execute(sa.update(LLMProvider).where(its).values(api_endpoint="http://10.0.0.1/v1"))
        db.session.commit()
    response = ask(door)
    refused(response, 502, "provider_blocked")
    assert response.headers["x-should-retry"] == "false"


def test_tokens_are_counted(database_url: str, tmp_path: Path, provider: ScriptedProvider) -> None:
    with serving(database_url, tmp_path, METRICS_TOKEN="token") as app:
        door = Door.open(user_maker(app)(), provider, name="Scripted")

        def count() -> float:
            lines = Api(app, "token").get("/metrics").get_data(as_text=True).splitlines()
            return sum(
                float(line.split(" ")[1])
                for line in lines
                if line.startswith("chat_api_embedding_tokens_total")
            )

        door.script(answer(), answer(b'{"data":[]}'), answer(ANSWER[:-5], BREAK))
        before = count()
        assert ask(door).data == ANSWER
        assert ask(door).data == b'{"data":[]}'
        with pytest.raises(EgressError):
            ask(door)
        assert count() == before + 9
