"""Routes: their addresses can be built, by code that is made when one is."""

from pathlib import Path

import pytest
from flask import url_for
from werkzeug.routing import Rule

from chat_api.factory import create_app
from config import Config

ENDPOINT = "conversations.get_conversation"
ID = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"


def test_addresses_are_built(tmp_path: Path) -> None:
    with create_app(Config.from_environment(DATA_DIR=str(tmp_path))).test_request_context():
        assert url_for(ENDPOINT, conversation_id=ID, page=3) == f"/chat/conversations/{ID}?page=3"


def test_a_start_makes_no_code_that_builds_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("the start of each process would take 15 ms more")

    monkeypatch.setattr(Rule, "_compile_builder", fail)
    app = create_app(Config.from_environment(DATA_DIR=str(tmp_path)))
    assert app.url_map.is_endpoint_expecting(ENDPOINT, "conversation_id")
