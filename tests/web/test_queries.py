"""The queries of lists."""

import pytest

from chat_api.database.columns import new_id
from tests.support.api import Api
from tests.support.problems import assert_problem

NO_NUMBERS = [
    "",
    "x",
    "-1",
    "1.5",
    "1e3",
    "%2B5",
    "%205",
    "5%20",
    "1_000",
    "0x10",
    "%D9%A3",
    "%00",
    "1%00",
    "NaN",
    "null",
]
BAD_QUERIES = [
    *(f"limit={value}" for value in ["0", "1001", "9" * 400, *NO_NUMBERS]),
    *(f"{name}={value}" for name in ("after", "before") for value in [str(2**53), "9" * 400, *NO_NUMBERS]),
    "limit=1&limit=1", "after=1&after=2", "limit=5&surprise=1", "Limit=5", "offset=10", "%00=1", "limit[]=5",
    "after=%ED%A0%80", "after=%FF", "%FF=1", "limit",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_bad_page_is_refused(user: Api, own_ids: dict[str, str], query: str) -> None:
    field = query.partition("=")[0].split("&")[-1]
    for path in lists(own_ids):
        problem = user.get(f"{path}?{query}")
        assert problem.status_code == 400, problem.get_data(as_text=True)
        assert len(problem.get_json()["errors"]) == 1, field


@pytest.mark.parametrize("query", [
    "", "limit=1", "limit=1000", "limit=007", "after=0", "before=0", "before=1&limit=3", f"after={2**53 - 1}",
    f"before={2**53 - 1}",
])  # fmt: skip
def test_good_page_is_answered(user: Api, own_ids: dict[str, str], query: str) -> None:
    for path in lists(own_ids):
        assert user.get(f"{path}?{query}").status_code == 200


@pytest.mark.parametrize("query", ["\x80", "limit=\xff", "\xed\xa0\x80=1"])
def test_query_in_raw_bytes_that_are_no_text_is_refused(
    user: Api, own_ids: dict[str, str], query: str
) -> None:
    for path in lists(own_ids):
        assert_problem(user.get(path, environ_overrides={"QUERY_STRING": query}), 400)


def test_page_has_one_direction(user: Api, own_ids: dict[str, str]) -> None:
    for path in lists(own_ids):
        assert_problem(user.get(f"{path}?after=1&before=9"), 400, "before")
    assert_problem(user.get(f"/auth/tokens?after={new_id()}&before={new_id()}"), 400, "before")


@pytest.mark.parametrize(
    "query", ["after=1", "before=x", "after=", f"after={'0' * 36}", "limit=0", "surprise=1"]
)
def test_bad_page_of_a_list_by_id_is_refused(user: Api, own_ids: dict[str, str], query: str) -> None:
    for path in (
        "/auth/tokens",
        "/chat/llm-providers",
        "/chat/user-llm-configs",
        f"/chat/conversations/{own_ids['conversation']}/completions",
    ):
        assert_problem(user.get(f"{path}?{query}"), 400, query.partition("=")[0])


def lists(own_ids: dict[str, str]) -> tuple[str, str]:
    return (
        f"/chat/conversations/{own_ids['conversation']}/messages",
        f"/chat/messages/{own_ids['message']}/attachments",
    )
