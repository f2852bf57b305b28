"""What answers repeat of the input: short values, and names that look like names."""

from typing import Any

import pytest

from chat_api.web.echo import HIDDEN_NAME, MAX_CHARACTERS, field_name, short_value
from tests.support.api import Api

SECRET = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    "name",
    ["title", "api_key2", "a" * 16, "maxTokens", "HTTPProxy", "x_stainless_os", "Model", "top_p", "b", 7],
)
def test_plausible_names_are_repeated(name: Any) -> None:
    assert field_name(name) == str(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        SECRET,
        "a" * 17,
        "a_" * 26,
        "sk_live_51HxqYzKd83nVb",
        "ghp_abcdefghijklmnopqrst",
        "hunter20261128",
        "aBcDeFgHiJkLmN",
        "AKIAIOSFODNN7EXAMPLEKEY",
        20261128,
        "näme",
        "a\n",
        "a b",
        "a.b",
        None,
        1.5,
        ("a",),
    ],
)
def test_other_names_are_not(name: Any) -> None:
    assert field_name(name) == HIDDEN_NAME


@pytest.mark.parametrize(
    ("value", "text"),
    [(2, "2"), (1.5, "1.5"), (True, "true"), (None, "null"), ("1", '"1"'), ([1], "an array"), ({}, "an object"),
     (1 << 200, "a large number")],
)  # fmt: skip
def test_values_as_json(value: Any, text: str) -> None:
    assert short_value(value) == text


@pytest.mark.parametrize("value", ["x" * 49, "x" * 10**6, 10**38, -(10**38), 1e300])
def test_values_are_cut(value: Any) -> None:
    assert len(short_value(value)) <= MAX_CHARACTERS


def test_key_in_place_of_a_name_is_not_repeated(ada: Api) -> None:
    conversation = ada.conversation()["id"]
    body = {"conversation_id": conversation, "role": "user", "content": "x"}
    for response in (
        ada.post("/chat/messages", {**body, SECRET: 1}),
        ada.post("/chat/conversations", {"user_id": ada.user_id, "title": "t", SECRET: {SECRET: SECRET}}),
        ada.post("/chat/completions", {"conversation_id": conversation, "parameters": {SECRET: 1}}),
        ada.post("/chat/messages", {**body, SECRET: "\x00"}),
        ada.get(f"/chat/conversations?{SECRET}=1"),
        ada.get(f"/chat/conversations?{SECRET}=1&{SECRET}=2"),
        ada.get(f"/chat/conversations?{SECRET}=%00"),
        ada.get(f"/chat/conversations?limit={SECRET}"),
    ):
        assert response.status_code == 400
        assert SECRET[:20] not in response.get_data(as_text=True)


def test_answer_to_very_many_errors_is_short(ada: Api) -> None:
    response = ada.post("/chat/conversations", {f"name_{number}": 1 for number in range(2500)})
    assert response.status_code == 400
    assert len(response.get_json()["errors"]) <= 50
    response = ada.post("/chat/conversations", {f"näme {number}": 1 for number in range(2500)})
    assert len(response.data) < 2000
