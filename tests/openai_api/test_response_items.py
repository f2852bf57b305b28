"""The items of a response's input, and deleting responses."""

from typing import Any

import pytest

from tests.completions.chat import run_sql
from tests.openai_api.asking import RESPONSES, Asking, asked, text_of
from tests.openai_api.door import assistant, refused
from tests.openai_api.test_files_in_messages import RED, data_url
from tests.support.api import PASSWORD, Api
from tests.support.provider import ScriptedProvider, error_answer, openai_stream

CALL = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "28"}


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Asking:
    return Asking.open(ada, provider)


def items_of(door: Asking, response_id: str, query: str = "") -> dict[str, Any]:
    answer = door.api.get(f"{RESPONSES}/{response_id}/input_items{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    page: dict[str, Any] = answer.get_json()
    data = page["data"]
    assert page["object"] == "list"
    assert (page["first_id"], page["last_id"]) == ((data[0]["id"], data[-1]["id"]) if data else (None, None))
    return page


def test_the_items_of_an_input(door: Asking) -> None:
    first = door.response([asked("One"), assistant("See."), CALL, RESULT, asked("Two")])
    page = items_of(door, first["id"], "?order=asc")
    assert [item["type"] for item in page["data"]] == [
        "message", "message", "function_call", "function_call_output", "message"
    ]  # fmt: skip
    assert page["has_more"] is False
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "One"}]
    assert items_of(door, first["id"])["data"] == page["data"][::-1]
    second = door.response("Three", previous_response_id=first["id"])
    [only] = items_of(door, second["id"])["data"]
    assert only["content"][0]["text"] == "Three"
    third = door.response([], previous_response_id=second["id"])
    assert items_of(door, third["id"])["data"] == []


def test_of_a_history_that_is_known_all_are_there(door: Asking) -> None:
    text = text_of(door.response("One"))
    second = door.response([asked("One"), assistant(text), asked("Two")])
    assert len(items_of(door, second["id"])["data"]) == 3


def test_what_functions_show_is_a_message_of_the_user(door: Asking) -> None:
    """A picture in the output of a function, as agents send it for what they have looked at."""
    door.script(*(openai_stream(f"Reply {number}") for number in range(3)))
    calls = [{**CALL, "call_id": call_id} for call_id in ("c1", "c2")]
    seen = {"type": "input_image", "image_url": data_url(RED), "detail": "auto"}
    outputs = [
        {**RESULT, "output": [seen]},
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "28"}, seen]},
    ]
    history = [asked("Look"), *calls, *outputs]
    first = door.response(history)
    sent = [(message["role"], message["content"]) for message in door.sent[-1].json["messages"]]
    assert [role for role, _ in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert [content for _, content in sent[2:4]] == ["See the files in the next message.", "28"]
    assert [part["image_url"]["url"] for part in sent[4][1]] == [data_url(RED)] * 2
    door.response([*history, assistant(text_of(first)), asked("And now?")])
    assert door.sent[-1].json["messages"][:5] == door.sent[0].json["messages"]
    [conversation] = door.conversations()
    shown = items_of(door, first["id"], "?order=asc")["data"]
    assert [item["type"] for item in shown] == [
        "message", "function_call", "function_call", "function_call_output", "function_call_output",
        "message", "message",
    ]  # fmt: skip
    assert len(door.said(conversation["id"])) == 6 + 3
    again = door.response(shown, store=False)
    assert text_of(again) == "Reply 2"
    assert door.sent[-1].json["messages"] == door.sent[0].json["messages"]


def test_pages_of_items(door: Asking) -> None:
    response = door.response([asked(str(number)) for number in range(5)])
    whole = items_of(door, response["id"], "?order=asc")["data"]
    seen: list[Any] = []
    after = ""
    while True:
        page = items_of(door, response["id"], f"?order=asc&limit=2{after}")
        seen += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert seen == whole
    refused(door.api.get(f"{RESPONSES}/{response['id']}/input_items?limit=0"), 400, "invalid_value", "limit")
    refused(door.api.get(f"{RESPONSES}/{response['id']}/input_items?order=up"), 400, "invalid_value", "order")
    for named in ("x", response["output"][0]["id"]):
        refused(door.api.get(f"{RESPONSES}/{response['id']}/input_items?after={named}"), 404, "not_found")


def test_a_deleted_response_is_gone_with_its_message(door: Asking) -> None:
    response = door.response("One")
    path = f"{RESPONSES}/{response['id']}"
    answer = door.api.delete(path)
    assert answer.get_json() == {"id": response["id"], "object": "response", "deleted": True}
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        refused(door.api.request(method, f"{path}{rest}"), 404, "not_found")
    refused(
        door.create("Two", previous_response_id=response["id"]),
        400,
        "previous_response_not_found",
        "previous_response_id",
    )
    [conversation] = door.conversations()
    assert [role for role, _ in door.said(conversation["id"])] == ["user"]


def test_a_message_that_is_answered_stays(door: Asking) -> None:
    first = door.response("One")
    second = door.response("Two", previous_response_id=first["id"])
    assert door.api.delete(f"{RESPONSES}/{first['id']}").status_code == 200
    refused(door.api.get(f"{RESPONSES}/{first['id']}"), 404, "not_found")
    [conversation] = door.conversations()
    assert len(door.said(conversation["id"])) == 4
    assert door.get(second["id"]) == second
    [reference] = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    door.response([asked("Zero"), reference, asked("Three")])
    assert door.sent[-1].json["messages"][1]["content"] == text_of(first)


def test_after_an_item_was_deleted_the_others_keep_their_ids(door: Asking) -> None:
    calls = [("c1", "get_weather", "{}"), ("c2", "get_weather", "{}")]
    door.script(openai_stream("See.", tool_calls=calls, finish="tool_calls"))
    answer = door.create("Weather?")
    text, *rest = door.valid(answer)["output"]
    conversation = answer.headers["X-Conversation-Id"]
    assert door.api.delete(f"/v1/conversations/{conversation}/items/{text['id']}").status_code == 200
    response_id = answer.get_json()["id"]
    assert door.get(response_id)["output"] == rest
    added = [event for event in door.resumed(response_id) if event["type"] == "response.output_item.done"]
    assert [(event["output_index"], event["item"]) for event in added] == [*enumerate(rest)]


def test_what_is_somebody_elses_is_not_there(door: Asking, bob: Api) -> None:
    answer = door.create("Secret")
    hers = door.valid(answer)
    other = Asking.open(bob, door.provider)
    reference = [{"type": "item_reference", "id": hers["output"][0]["id"]}]
    refused(other.create(reference), 404, "item_not_found", "input[0]")
    refused(
        other.create(previous_response_id=hers["id"]),
        400,
        "previous_response_not_found",
        "previous_response_id",
    )
    conversation = answer.headers["X-Conversation-Id"]
    refused(other.create(conversation=conversation), 404, "not_found", "conversation")
    assert (other.conversations(), other.sent) == ([], [])
    assert len(door.said(door.conversations()[0]["id"])) == 2


def test_an_account_that_is_erased_takes_its_responses_along(door: Asking, make_user: Any) -> None:
    first = Asking.open(make_user(), door.provider)
    response = first.response("One", instructions="Be brief, Ada.")
    count = "SELECT count(*) FROM completions WHERE asked LIKE '%Be brief, Ada.%'"
    assert run_sql(first.api.app, count) == [(1,)]
    erased = first.api.delete("/auth/me", json={"current_password": PASSWORD})
    assert erased.status_code == 204, erased.get_data(as_text=True)
    assert run_sql(first.api.app, count) == [(0,)]
    refused(door.api.get(f"{RESPONSES}/{response['id']}"), 404, "not_found")


def test_a_request_that_an_sdk_sends_again_is_one_response(door: Asking) -> None:
    first = door.create("Hi", headers={"X-Stainless-Retry-Count": "0"})
    again = door.create("Hi", headers={"X-Stainless-Retry-Count": "1"})
    assert again.get_json() == first.get_json()
    assert len(door.sent) == len(door.conversations()) == 1
    door.script(error_answer(429, "Slow down."), openai_stream("Hello"))
    fields = {"previous_response_id": first.get_json()["id"]}
    refused(
        door.create("Two", headers={"X-Stainless-Retry-Count": "0"}, **fields), 429, "provider_rate_limited"
    )
    response = door.valid(door.create("Two", headers={"X-Stainless-Retry-Count": "1"}, **fields))
    assert text_of(response) == "Hello"
    [conversation] = door.conversations()
    assert [text for _, text in door.said(conversation["id"], "all")][2:] == ["Two", "Hello"]
    assert len(door.said(conversation["id"])) == 4


def test_a_response_in_progress_is_cancelled_and_deleted(door: Asking) -> None:
    running = door.valid(door.create("One", background=True, model=door.stalled()))
    assert door.api.delete(f"{RESPONSES}/{running['id']}").status_code == 200
    refused(door.api.get(f"{RESPONSES}/{running['id']}"), 404, "not_found")
    [conversation] = door.conversations()
    completions = f"/chat/conversations/{conversation['id']}/completions"
    assert door.api.get(completions).get_json()[0]["status"] == "cancelled"
