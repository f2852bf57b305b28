"""Tools that the page itself runs: their calls come in a reply, their results are sent with the same message."""

import json
from typing import Any

import pytest

from tests.ai_sdk.chatting import PATH, Seen, UiChat, chunks_of, refused, texts, user
from tests.completions.chat import wait_for
from tests.support.provider import STALL, openai_stream

WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
CALLS = [("call_1", "get_weather", '{"city":"Lisbon"}'), ("call_2", "get_weather", "{}")]
DEEP: list[Any] = []
for _ in range(101):
    DEEP = [DEEP]
STEP = openai_stream("Let me see.", tool_calls=CALLS, finish="tool_calls")


def with_calls(page: UiChat) -> Seen:
    """The page has asked, and has the two calls."""
    page.script(STEP, openai_stream("Sunny."))
    return page.ask("Weather?", tools=[WEATHER])


def part_of(message: dict[str, Any], call_id: str) -> dict[str, Any]:
    return next(part for part in message["parts"] if part.get("toolCallId") == call_id)


def test_calls_and_their_results_are_one_message(page: UiChat) -> None:
    first = with_calls(page)
    assert first.finished
    assert first.finished["finishReason"] == "tool-calls"
    assert part_of(first.message, "call_1")["input"] == {"city": "Lisbon"}
    assert [tool["function"]["name"] for tool in page.sent[0].json["tools"]] == ["get_weather"]
    second = page.give(("call_1", {"celsius": 28}), ("call_2", "mild"))
    assert second.message["id"] == first.message["id"]
    assert second.text == "Let me see.Sunny."
    assert [message["role"] for message in page.sent[-1].json["messages"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    assert page.said_to_model()[-2:] == [("tool", '{"celsius":28}'), ("tool", "mild")]
    assert page.reload()["messages"] == page.messages
    assert [role for role, _ in page.stored()] == ["user", "assistant", "tool", "tool", "assistant"]


def test_tools_and_instructions_as_assistant_ui_sends_them(page: UiChat) -> None:
    page.script(STEP, openai_stream("Sunny."), openai_stream("Bye."))
    by_name = {"get_weather": {**WEATHER, "providerOptions": {"x": {}}}}
    del by_name["get_weather"]["type"], by_name["get_weather"]["name"]
    page.ask("Weather?", tools=by_name, system="Be brief.", callSettings={}, config={}, metadata=None)
    function = {"name": "get_weather", "parameters": WEATHER["parameters"]}
    assert page.sent[0].json["tools"] == [{"type": "function", "function": function}]
    page.give(("call_1", 1), ("call_2", 2), tools=by_name, system="Be verbose.")
    page.ask("Thanks", tools={}, system="")
    systems = [
        [one["content"] for one in request.json["messages"] if one["role"] == "system"]
        for request in page.sent
    ]
    assert systems == [["Be brief."], ["Be verbose."], []]
    assert "tools" not in page.sent[-1].json
    assert "system" not in [role for role, _ in page.stored()]


@pytest.mark.parametrize(
    "output", [28, None, True, "28", '{"a":1}', "", [], {"a": [1, None]}, "Grüße ☀", ValueError("No network")]
)
def test_outputs_are_the_same_after_a_reload(page: UiChat, output: Any) -> None:
    with_calls(page)
    page.give(("call_1", output), ("call_2", "x"))
    assert page.reload()["messages"] == page.messages
    part = part_of(page.reload()["messages"][1], "call_1")
    assert part["state"] == ("output-error" if isinstance(output, Exception) else "output-available")


def test_several_steps(page: UiChat) -> None:
    again = openai_stream(tool_calls=[("call_3", "get_weather", "{}")], finish="tool_calls")
    page.script(STEP, again, openai_stream("Done."), openai_stream("Bye."), openai_stream("Other."))
    page.ask("Weather?", tools=[WEATHER])
    page.give(("call_1", 1), ("call_2", 2), tools=[WEATHER])
    page.give(("call_3", 3), tools=[WEATHER])
    assert len(page.messages) == 2
    assert page.reload()["messages"] == page.messages
    page.ask("Thanks")  # after all of them
    assert [role for role, _ in page.said_to_model()][-3:] == ["tool", "assistant", "user"]
    assert page.reload()["messages"] == page.messages
    page.regenerate(page.messages[1]["id"])  # the whole message, not its last step
    assert page.said_to_model() == [("user", "Weather?")]
    assert page.stored() == [("user", "Weather?"), ("assistant", "Other.")]


def test_calls_of_a_provider_that_begins_to_count_again(page: UiChat) -> None:
    """In a message of the page an id stands for one call; the provider gets its own."""
    step = openai_stream(tool_calls=[("call_0", "get_weather", "{}")], finish="tool_calls")
    page.script(step, step, openai_stream("Sun", STALL))
    page.ask("Weather?", tools=[WEATHER])
    page.give(("call_0", "one"), tools=[WEATHER])
    assert [part["toolCallId"] for part in page.messages[1]["parts"] if "toolCallId" in part] == [
        "call_0",
        "call_0~2",
    ]
    assert page.reload()["messages"] == page.messages
    page.messages[1]["parts"][-1].update(state="output-available", output="two")
    answer, resumed = page.post(messageId=page.messages[1]["id"]), page.resume()
    page.api.post(f"{PATH}/{page.id}/stop")
    went_on = page.receive(answer, page.messages[1])
    assert Seen.of(chunks_of(resumed)).message["parts"] == went_on.message["parts"]
    said = page.sent[-1].json["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "tool"]
    for call, result in ((1, 2), (3, 4)):
        assert said[call]["tool_calls"][0]["id"] == said[result]["tool_call_id"]
    assert [said[index]["content"] for index in (2, 4)] == ["one", "two"]
    assert page.reload()["messages"][1]["parts"] == went_on.message["parts"]


def test_a_branch_that_is_left_is_continued_at_its_end(page: UiChat) -> None:
    with_calls(page)
    page.give(("call_1", 1), ("call_2", 2))
    other = page.another()
    page.script(openai_stream("Other."), openai_stream("Bye."))
    page.regenerate()
    other.ask("Thanks")  # below the last of the messages that its page shows as one
    assert [text for _, text in other.said_to_model()] == [
        "Weather?",
        "Let me see.",
        "1",
        "2",
        "Sunny.",
        "Thanks",
    ]


def test_some_results_are_enough(page: UiChat) -> None:
    with_calls(page)
    assert page.give(("call_1", 28)).text == "Let me see.Sunny."
    assert page.stored()[2] == ("tool", "28")


def test_results_that_are_sent_again_are_stored_once(page: UiChat) -> None:
    with_calls(page)
    page.give(("call_1", 28), ("call_2", "x"))
    again = Seen.of(chunks_of(page.post()))
    assert (again.text, again.message["id"]) == ("Sunny.", page.messages[-1]["id"])
    assert len(page.sent) == 2
    assert len(page.stored()) == 5


def test_what_is_no_result_of_its_calls_is_refused(page: UiChat) -> None:
    with_calls(page)
    refused(page.post(), 400, "No tool result is new")
    part_of(page.messages[-1], "call_1").update(toolCallId="call_9", state="output-available", output=1)
    refused(page.post(), 400, "No tool result is new")
    page.messages[-1]["parts"][-1] = {"type": "dynamic-tool", "toolName": "x", "state": "output-available"}
    refused(page.post(), 400, "toolCallId")
    assert len(page.stored()) == 2


def test_a_message_of_the_user_instead_of_results(page: UiChat) -> None:
    with_calls(page)
    page.ask("Never mind")
    assert page.said_to_model()[-1] == ("user", "Never mind")
    assert page.reload()["messages"] == page.messages


def test_arguments_that_are_no_json(page: UiChat) -> None:
    page.script(openai_stream(tool_calls=[("call_1", "get_weather", '{"city":')], finish="tool_calls"))
    seen = page.ask("Weather?", tools=[WEATHER])
    part = part_of(seen.message, "call_1")
    assert (part["state"], part["input"]) == ("output-error", '{"city":')
    assert page.reload()["messages"] == page.messages


def test_arguments_that_are_nested_too_deeply(page: UiChat) -> None:
    deep = '{"a":' * 252 + "1" + "}" * 252
    page.script(openai_stream(tool_calls=[("call_1", "get_weather", deep)], finish="tool_calls"))
    seen = page.ask("Weather?", tools=[WEATHER])
    part = part_of(seen.message, "call_1")
    assert (part["state"], part["input"]) == ("output-error", deep)
    assert page.reload()["messages"] == page.messages


def test_large_numbers_in_calls_come_back(page: UiChat) -> None:
    page.script(
        openai_stream(tool_calls=[("call_1", "get_weather", f'{{"id":{10**20}}}')], finish="tool_calls"), STEP
    )
    page.ask("Weather?", tools=[WEATHER])
    part = part_of(page.messages[-1], "call_1")
    assert part["input"] == {"id": 1e20}
    part |= {"state": "output-available", "input": {"id": "number"}, "output": ["number"]}
    body = {"id": page.id, "model": page.name, "messages": page.messages}
    text = json.dumps(body).replace('"number"', str(10**20))  # as JavaScript writes it
    answer = page.api.post(PATH, data=text, content_type="application/json")
    assert Seen.of(chunks_of(answer), page.messages[-1]).finished
    assert page.said_to_model()[-1] == ("tool", "[1e+20]")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"output": DEEP}, "messages[1].parts[0].output: Nested"),
        ({"input": DEEP}, "messages[1].parts[0].input: Nested"),
        ({"toolName": "x" * 256}, "the name of a tool"),
        ({"input": "x" * 1024 * 1024 + "x"}, "bytes"),
    ],
)
def test_calls_that_can_not_be_stored_are_refused(page: UiChat, fields: dict[str, Any], part: str) -> None:
    call = {"type": "dynamic-tool", "toolName": "a", "toolCallId": "c", "state": "output-available"}
    page.messages = [user("Hi"), {"id": "own", "role": "assistant", "parts": [call | fields]}, user("So?")]
    refused(page.post(), 400, part)
    page.messages[1]["parts"] = [call | {"toolCallId": f"c{number}"} for number in range(501)]
    refused(page.post(), 400, "more than 500 calls")
    assert page.api.get("/chat/conversations").get_json() == []


def test_a_client_that_resumes_gets_all_steps(page: UiChat) -> None:
    with_calls(page)
    page.script(openai_stream("Sun", STALL))
    first = page.messages[-1]
    for part, output in zip(first["parts"][2:], ({"celsius": 28}, "mild"), strict=True):
        part |= {"state": "output-available", "output": output}
    answer = page.post(messageId=first["id"])
    assert texts(page.reload()["messages"]) == ["Weather?"]  # without what the stream has whole
    resumed = page.resume()
    assert page.api.post(f"{PATH}/{page.id}/stop").get_json() == {"success": True}
    went_on, rebuilt = Seen.of(chunks_of(answer), first), Seen.of(chunks_of(resumed))
    assert went_on.aborted
    assert rebuilt.aborted
    assert went_on.text == "Let me see.Sun"
    assert (rebuilt.message["id"], rebuilt.message["parts"]) == (
        went_on.message["id"],
        went_on.message["parts"],
    )
    wait_for(lambda: len(page.reload()["messages"]) == 2)
    shown = page.reload()["messages"][1]
    assert {name: shown[name] for name in ("id", "parts")} == {
        name: rebuilt.message[name] for name in ("id", "parts")
    }


def test_static_tools_and_denied_calls_in_a_chat_that_begins(page: UiChat) -> None:
    parts = [
        {"type": "step-start"},
        {"type": "text", "text": "I look."},
        {
            "type": "tool-get_weather",
            "toolCallId": "c1",
            "state": "output-available",
            "input": {},
            "output": 1,
        },
        {"type": "tool-send", "toolCallId": "c2", "state": "output-denied", "input": {"to": "x"}},
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm"},
        {"type": "text", "text": "One degree."},
    ]
    page.messages = [user("Weather?"), {"id": "own", "role": "assistant", "parts": parts}]
    page.ask("Thanks")
    said = page.sent[-1].json["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert [call["function"]["name"] for call in said[1]["tool_calls"]] == ["get_weather", "send"]
    assert page.reload()["messages"][1]["id"] == "own"
    page.ask("Again")
    assert len(page.reload()["messages"]) == 6
