"""POST /chat/user-llm-configs: what is stored and answered, and what is refused."""

import json

import pytest

from tests.support.api import Api
from tests.support.bodies import Body
from tests.support.problems import assert_problem


@pytest.mark.parametrize("key", ["sk 1", "sk-1\n", " sk-1", "schlüssel", "\x7f", "sk\t1"])
def test_api_key_that_fits_no_header_is_refused(user: Api, body_for: Body, key: str) -> None:
    problem = assert_problem(
        user.post("/chat/user-llm-configs", body_for("/chat/user-llm-configs") | {"api_key": key}),
        400,
        "api_key",
    )
    assert key not in json.dumps(problem, ensure_ascii=False)
