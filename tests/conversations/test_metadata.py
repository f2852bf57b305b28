"""Metadata and source of conversations: kept, replaced, found by, exported and imported."""

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.pages import walk
from tests.support.problems import assert_problem
from tests.transfer.exports import conversation, exported, file_of, imported

PATH = "/chat/conversations"
TRIP = {"topic": "travel", 'ünï "x"': "{}"}


def begun(user: Api, **fields: Any) -> dict[str, Any]:
    return user.made(PATH, {"user_id": user.user_id, "title": "Trip", **fields})


def found(user: Api, **parameters: str) -> list[str]:
    response = user.get(PATH, query_string=parameters)
    assert response.status_code == 200, response.get_data(as_text=True)
    return [one["id"] for one in response.get_json()]


def test_metadata_is_kept_and_replaced(ada: Api) -> None:
    made = begun(ada, metadata=TRIP)
    path = f"{PATH}/{made['id']}"
    assert made["metadata"] == ada.get(path).get_json()["metadata"] == TRIP
    assert ada.get(PATH).get_json()[0]["metadata"] == TRIP
    assert ada.patch(path, {"metadata": {"a": ""}}).get_json()["metadata"] == {"a": ""}
    assert ada.patch(path, {"title": "T"}).get_json()["metadata"] == {"a": ""}
    nothings: list[Any] = [{}, None]
    for nothing in nothings:
        ada.patch(path, {"metadata": TRIP})
        assert ada.patch(path, {"metadata": nothing}).get_json()["metadata"] == {}
        assert ada.get(path).get_json()["metadata"] == {}


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "" for number in range(17)},
        {"": "x"},
        {"k" * 65: "x"},
        {"k": "x" * 513},
        {"k": 1},
        {"k": None},
        {"k": {"nested": "x"}},
        [],
        "text",
    ],
    ids=["pairs", "empty key", "key", "value", "number", "null", "nested", "list", "text"],
)
def test_other_metadata_is_refused(ada: Api, metadata: Any) -> None:
    body = {"user_id": ada.user_id, "metadata": metadata}
    assert_problem(ada.post(PATH, body), 400, "metadata")
    path = f"{PATH}/{begun(ada)['id']}"
    assert_problem(ada.patch(path, {"metadata": metadata}), 400, "metadata")


def test_the_limits_themselves_are_allowed(ada: Api) -> None:
    metadata = {f"{number:064}": "ü" * 512 for number in range(16)}
    assert begun(ada, metadata=metadata)["metadata"] == metadata


def test_the_list_is_filtered_by_metadata(ada: Api, bob: Api) -> None:
    both = begun(ada, metadata={"a": "1", "b": "2", "c": "3"})["id"]
    one = begun(ada, metadata={"a": "1", "b": "3"})["id"]
    begun(ada)
    begun(bob, metadata={"a": "1", "b": "2"})
    assert found(ada, **{"metadata[a]": "1"}) == [one, both]
    assert found(ada, **{"metadata[a]": "1", "metadata[b]": "2"}) == [both]
    assert found(ada, **{"metadata[a]": "2"}) == found(ada, **{"metadata[d]": "1"}) == []
    assert found(ada, **{"metadata[a]": "1", "q": "trip", "pinned": "false", "source": "native"}) == [
        one,
        both,
    ]


def test_names_and_values_are_compared_as_they_are(ada: Api) -> None:
    id_ = begun(ada, metadata={"a[b]": "x%_'\"", "n": "1", "t": "true"})["id"]
    assert found(ada, **{"metadata[a[b]]": "x%_'\""}) == [id_]
    assert found(ada, **{"metadata[n]": "1"}) == found(ada, **{"metadata[t]": "true"}) == [id_]
    assert found(ada, **{"metadata[n]": "1.0"}) == found(ada, **{"metadata[A[b]]": "x"}) == []


def test_a_filtered_list_has_pages(ada: Api) -> None:
    made = [begun(ada, metadata={"a": str(number % 2)})["id"] for number in range(7)]
    pages = walk(ada, f"{PATH}?metadata[a]=0&limit=2", "next")
    assert [id_ for page in pages for id_ in page] == made[::-2]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("metadata=x", "metadata"),
        ("metadata[]=x", "(name not repeated)"),
        ("metadata[a]=1&metadata[a]=2", "(name not repeated)"),
        ("&".join(f"metadata[{name}]=1" for name in "abcde"), "metadata"),
        (f"metadata[{'k' * 65}]=1", "metadata"),
        ("metadata[%00]=1", "metadata"),
        ("source=other", "source"),
        ("source=", "source"),
    ],
)
def test_other_filters_are_refused(ada: Api, query: str, field: str) -> None:
    assert_problem(ada.get(f"{PATH}?{query}"), 400, field)


def test_the_list_is_filtered_by_source(ada: Api) -> None:
    made = begun(ada)
    assert made["source"] == "native"
    assert found(ada, source="native") == [made["id"]]
    assert found(ada, source="chat") == []
    assert_problem(ada.post(PATH, {"user_id": ada.user_id, "source": "chat"}), 400, "source")


def test_exports_carry_both(ada: Api, bob: Api) -> None:
    with_metadata, without = begun(ada, metadata=TRIP)["id"], begun(ada)["id"]
    lines = {line["id"]: line for line in exported(ada) if line["type"] == "conversation"}
    assert lines[with_metadata]["metadata"] == TRIP
    assert "metadata" not in lines[without]
    chat = conversation(source="chat", metadata={"a": "1"})
    imported(bob, file_of(*lines.values(), chat, conversation()))
    here = {one["id"]: (one["metadata"], one["source"]) for one in bob.get(PATH).get_json()}
    assert here[with_metadata] == (TRIP, "native")
    assert here[without] == ({}, "native")
    assert here[chat["id"]] == ({"a": "1"}, "chat")


def test_a_newer_file_brings_newer_metadata(ada: Api) -> None:
    line = conversation(metadata={"a": "1"})
    imported(ada, file_of(line))
    newer = {**line, "metadata": {"a": "2"}, "updated_at": "2026-11-24T09:30:00.123456Z"}
    [update] = imported(ada, file_of(newer))["updates"]
    assert "metadata" in update["changed"]
    assert ada.get(f"{PATH}/{line['id']}").get_json()["metadata"] == {"a": "2"}
    ada.patch(f"{PATH}/{line['id']}", {"metadata": {"mine": "x"}})
    newest = {**newer, "metadata": {"a": "3"}, "updated_at": "2026-11-25T09:30:00.123456Z"}
    [update] = imported(ada, file_of(newest))["updates"]
    assert "metadata" in update["kept"]
    assert ada.get(f"{PATH}/{line['id']}").get_json()["metadata"] == {"mine": "x"}
