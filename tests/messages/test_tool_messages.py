"""POST /chat/messages with calls of tools, and with their results."""

import json
from typing import Any

import pytest

from chat_api.messages import tool_results
from tests.completions.chat import run_sql
from tests.support.api import Api
from tests.support.problems import assert_problem

CALL = {"id": "c1", "name": "get_weather", "arguments": '{"city": "Lisbon"}'}


@pytest.fixture
def conversation(ada: Api) -> str:
    return ada.conversation()["id"]


def result(conversation: str, id: Any = "c1", content: str = "sunny", **fields: Any) -> dict[str, Any]:
    body = {"conversation_id": conversation, "role": "tool", "content": content, "tool_call_id": id, **fields}
    return {name: value for name, value in body.items() if value is not ...}


def test_an_assistants_calls_are_stored_and_returned(ada: Api, conversation: str) -> None:
    for content in ("Looking.", ""):
        message = ada.message(conversation, content, role="assistant", tool_calls=[CALL])
        assert message["tool_calls"] == [CALL]
        assert ada.get(f"/chat/messages/{message['id']}").get_json() == message
    assert ada.made("/chat/messages", result(conversation))["tool_call_id"] == "c1"


def test_a_result_may_be_empty(ada: Api, conversation: str) -> None:
    ada.calling(conversation, "c1")
    assert ada.made("/chat/messages", result(conversation, content=""))["content"] == ""


def test_other_messages_may_not(ada: Api, conversation: str) -> None:
    for role in ("user", "assistant", "system", "developer"):
        body = {"conversation_id": conversation, "role": role, "content": ""}
        assert_problem(ada.post("/chat/messages", body), 400, "content")


def test_empty_arguments_are_an_empty_object(ada: Api, conversation: str) -> None:
    message = ada.message(conversation, "", role="assistant", tool_calls=[{**CALL, "arguments": ""}])
    assert message["tool_calls"][0]["arguments"] == "{}"


@pytest.mark.parametrize(
    "calls",
    [
        [],
        "x",
        [CALL, CALL],
        [{"id": "c1", "name": "f"}],
        [{**CALL, "id": ""}],
        [{**CALL, "id": "x" * 256}],
        [{**CALL, "name": ""}],
        [{**CALL, "type": "function"}],
        *([{**CALL, "arguments": text}] for text in ("[]", "null", "{", '{"a": NaN}', "{" * 2000)),
        [{**CALL, "arguments": json.dumps({"a": "x" * 256 * 1024})}],
        [{"id": str(number), "name": "f", "arguments": "{}"} for number in range(129)],
        [
            {"id": str(number), "name": "f", "arguments": json.dumps({"a": "x" * 30_000})}
            for number in range(10)
        ],
    ],
)
def test_calls_are_validated(ada: Api, conversation: str, calls: Any) -> None:
    body = {"conversation_id": conversation, "role": "assistant", "content": "x", "tool_calls": calls}
    assert_problem(ada.post("/chat/messages", body), 400, "tool_calls")


@pytest.mark.parametrize("role", ["user", "system", "developer", "tool"])
def test_only_an_assistant_calls(ada: Api, conversation: str, role: str) -> None:
    ada.calling(conversation, "c1")
    body = {**result(conversation), "role": role, "tool_calls": [CALL]}
    if role != "tool":
        del body["tool_call_id"]
    assert_problem(ada.post("/chat/messages", body), 400, "tool_calls")


@pytest.mark.parametrize("id", [..., None, "", "c2", "C1", "c", '","name":'])
def test_a_result_needs_its_call(ada: Api, conversation: str, id: Any) -> None:
    ada.calling(conversation, "c1", "longer c1")
    response = ada.post("/chat/messages", result(conversation, id))
    assert_problem(response, 400, "tool_call_id")
    assert ada.get(f"/chat/conversations/{conversation}").get_json()["message_count"] == 1


def test_a_call_in_a_text_is_none(ada: Api, conversation: str) -> None:
    """Only the calls of a message count, not what stands in their arguments."""
    arguments = json.dumps({"a": '{"id":"c2","name":'})
    ada.message(conversation, "", role="assistant", tool_calls=[{**CALL, "arguments": arguments}])
    assert_problem(ada.post("/chat/messages", result(conversation, "c2")), 400, "tool_call_id")


def test_any_id_is_found(ada: Api, conversation: str) -> None:
    for id in ('"quoted"', "back\\slash", "é 😀", "%_", "tab\t"):
        ada.calling(conversation, id)
        assert ada.made("/chat/messages", result(conversation, id))["tool_call_id"] == id


def test_the_call_is_on_the_results_own_path(ada: Api, conversation: str) -> None:
    root = ada.message(conversation)
    call = ada.calling(conversation, "c1", parent_id=root["id"])
    ada.message(conversation, parent_id=root["id"])  # the path leads there now
    assert_problem(ada.post("/chat/messages", result(conversation)), 400, "tool_call_id")
    assert_problem(ada.post("/chat/messages", result(conversation, parent_id=None)), 400, "tool_call_id")
    assert_problem(
        ada.post("/chat/messages", result(conversation, parent_id=root["id"])), 400, "tool_call_id"
    )
    answer = ada.made("/chat/messages", result(conversation, parent_id=call["id"]))
    assert answer["parent_id"] == call["id"]
    below = ada.message(conversation, "later")
    assert ada.made("/chat/messages", result(conversation, parent_id=below["id"]))["parent_id"] == below["id"]
    assert ada.made("/chat/messages", result(conversation))  # now it is the path's


def test_a_call_before_the_fork_counts_for_a_branch(ada: Api, conversation: str) -> None:
    ada.calling(conversation, "c1")
    fork = ada.message(conversation, "fork")
    branch = ada.message(conversation, "branch", parent_id=fork["id"])
    ada.message(conversation, "path", parent_id=fork["id"])
    assert ada.made("/chat/messages", result(conversation, parent_id=branch["id"]))


def test_a_conversation_or_parent_of_others_is_not_found(ada: Api, bob: Api, conversation: str) -> None:
    call = ada.calling(conversation, "c1")
    assert bob.post("/chat/messages", result(conversation)).status_code == 404
    own = bob.conversation()["id"]
    assert bob.post("/chat/messages", result(own, parent_id=call["id"])).status_code == 404


def test_calls_are_looked_for_as_far_as_a_context_goes(
    ada: Api, conversation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_results, "MAX_DISTANCE", 3)
    ada.calling(conversation, "c1")
    ada.message(conversation)
    ada.message(conversation)
    ada.made("/chat/messages", result(conversation))
    assert_problem(ada.post("/chat/messages", result(conversation)), 400, "tool_call_id")


def test_calls_count_for_the_quota(ada: Api, conversation: str) -> None:
    arguments = json.dumps({"text": "x" * 1000})
    ada.message(conversation, "é", role="assistant", tool_calls=[{**CALL, "arguments": arguments}])
    [(counted,)] = run_sql(ada.app, "SELECT content_bytes FROM conversations WHERE id = :id", id=conversation)
    assert 1000 < counted < 1200


def test_a_key_replays_a_message_with_calls(ada: Api, conversation: str) -> None:
    body = {"conversation_id": conversation, "role": "assistant", "content": "", "tool_calls": [CALL]}
    headers = {"Idempotency-Key": "calls"}
    first = ada.post("/chat/messages", body, headers=headers)
    again = ada.post("/chat/messages", body, headers=headers)
    assert (first.status_code, again.get_json()) == (201, first.get_json())
    headers = {"Idempotency-Key": "result"}
    first = ada.post("/chat/messages", result(conversation), headers=headers)
    assert ada.post("/chat/messages", result(conversation), headers=headers).get_json() == first.get_json()


def test_a_replay_of_long_calls_reads_them_again(ada: Api, conversation: str) -> None:
    """As for a long content: the response is not stored twice."""
    calls = [{**CALL, "arguments": json.dumps({"text": "x" * 200_000})}]
    body = {"conversation_id": conversation, "role": "assistant", "content": "", "tool_calls": calls}
    headers = {"Idempotency-Key": "long calls"}
    first = ada.post("/chat/messages", body, headers=headers)
    [(stored,)] = run_sql(
        ada.app, "SELECT length(answer) FROM idempotency_keys WHERE user_id = :id", id=ada.user_id
    )
    assert stored < 16 * 1024
    again = ada.post("/chat/messages", body, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.get_json() == first.get_json()
