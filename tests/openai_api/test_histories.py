"""Histories that are sent whole are continued, edited and regenerated in one conversation."""

import threading
import time

import pytest

from tests.openai_api.door import HEADER, Door, assistant, refused, user
from tests.openai_api.test_files_in_messages import picture
from tests.support.api import Api
from tests.support.provider import STALL, ScriptedProvider, openai_stream


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    found = Door.open(ada, provider)
    found.script(*(openai_stream(f"Reply {number}") for number in range(1, 10)))
    return found


def test_a_chat_is_one_conversation(door: Door) -> None:
    history = [{"role": "system", "content": "Be brief."}]
    ids = set()
    for number in range(1, 5):
        history.append(user(f"Question {number}"))
        conversation_id, text = door.talk(*history)
        assert text == f"Reply {number}"
        history.append(assistant(text))
        ids.add(conversation_id)
    assert len(ids) == 1
    [conversation] = door.conversations()
    assert (conversation["source"], conversation["message_count"]) == ("chat", 9)
    assert door.said(conversation["id"]) == [(one["role"], one["content"]) for one in history]
    assert door.sent[-1].json["messages"] == history[:-1]


def test_an_edit_is_a_branch(door: Door) -> None:
    door.talk(user("One"))
    first, _ = door.talk(user("One"), assistant("Reply 1"), user("Two"))
    edited, _ = door.talk(user("One"), assistant("Reply 1"), user("Two, edited"))
    assert first == edited
    assert [text for _, text in door.said(first)] == ["One", "Reply 1", "Two, edited", "Reply 3"]
    assert len(door.said(first, "all")) == 6


def test_the_same_again_is_another_reply(door: Door) -> None:
    door.talk(user("One"))
    first, _ = door.talk(user("One"), assistant("Reply 1"), user("Two"))
    again, text = door.talk(user("One"), assistant("Reply 1"), user("Two"))
    assert (again, text) == (first, "Reply 3")
    assert [text for _, text in door.said(first)] == ["One", "Reply 1", "Two", "Reply 3"]
    assert len(door.said(first, "all")) == 5


def test_a_history_is_found_wherever_what_is_stored_of_it_ends(door: Door) -> None:
    """Its end is looked up first, and the rest only where nothing of that is stored."""
    first, _ = door.talk(user("One"))
    unknown = [message for number in range(20) for message in (user(f"New {number}"), assistant("Yes"))]
    for ending in range(0, len(unknown), 4):
        again, _ = door.talk(user("One"), assistant("Reply 1"), *unknown[:ending], user(f"End {ending}"))
        assert again == first
    assert len(door.said(first, "all")) == 2 + 36 + 2 * 10  # 18 pairs, each stored once


def test_equal_beginnings_are_no_history(door: Door) -> None:
    ids = {door.talk({"role": "system", "content": "Classify."}, user("A text"))[0] for _ in range(3)}
    assert len(ids) == 3


def test_what_was_not_said_here_begins_a_conversation(door: Door) -> None:
    first, _ = door.talk(user("One"))
    other, _ = door.talk(user("One"), assistant("Something else"), user("Two"))
    assert other != first
    assert [text for _, text in door.said(other)] == ["One", "Something else", "Two", "Reply 2"]


def test_nobody_elses_history_is_continued(door: Door, bob: Api) -> None:
    first, _ = door.talk(user("One"))
    his = Door.open(bob, door.provider)
    his.script(openai_stream("His"))
    second, _ = his.talk(user("One"), assistant("Reply 1"), user("Two"))
    assert second != first
    assert len(door.said(first)) == 2
    refused(
        his.ask(user("Hi"), headers={HEADER: f"conv_{first.replace('-', '')}"}),
        404,
        "not_found",
        "conversation",
    )
    refused(his.ask(user("Hi"), conversation=first), 404, "not_found", "conversation")


def test_a_native_conversation_is_continued(door: Door) -> None:
    id_ = door.api.conversation()["id"]
    door.api.message(id_, "One")
    door.api.message(id_, "Two", role="assistant")
    assert door.talk(user("One"), assistant("Two"), user("Three"))[0] == id_


def test_a_named_conversation_is_continued(door: Door) -> None:
    id_ = door.api.conversation()["id"]
    named = f"conv_{id_.replace('-', '')}"
    assert door.talk(user("One"), headers={HEADER: named}) == (id_, "Reply 1")
    assert door.talk(user("Two"), conversation={"id": named})[0] == id_
    assert door.talk(user("Two"), conversation=id_)[0] == id_
    history = [
        user("One"),
        assistant("Reply 1"),
        user("Two"),
        assistant("Reply 2"),
        user("Two"),
        assistant("Reply 3"),
    ]
    assert door.talk(*history, user("Three"), headers={HEADER: named})[0] == id_
    assert [text for _, text in door.said(id_)] == [*(one["content"] for one in history), "Three", "Reply 4"]
    assert [one["content"] for one in door.sent[-1].json["messages"]] == [
        *(one["content"] for one in history),
        "Three",
    ]
    refused(door.ask(user("Hi"), headers={HEADER: "nonsense"}), 404, "not_found", "conversation")


def texts_sent(door: Door) -> list[str]:
    return [message["content"] for message in door.sent[-1].json["messages"]]


def test_a_system_prompt_that_changes_in_a_named_conversation(door: Door) -> None:
    said = [user("One")]
    id_, text = door.talk({"role": "system", "content": "It is 10:00."}, *said)
    for number, time_of_day in enumerate(("10:01", "10:02"), 2):
        said += [assistant(text), user(f"Question {number}")]
        prompt = {"role": "system", "content": f"It is {time_of_day}."}
        again, text = door.talk(prompt, *said, conversation=id_)
        assert again == id_
        assert texts_sent(door) == [prompt["content"], *(message["content"] for message in said)]
        assert [text for _, text in door.said(id_)] == [*texts_sent(door), text]


def test_replies_that_a_client_has_trimmed_in_a_named_conversation(door: Door) -> None:
    door.script(openai_stream(" Reply 1\n"), openai_stream(" Reply 2\n"), openai_stream("Reply 3"))
    prompt = {"role": "system", "content": "Be brief."}
    id_, _ = door.talk(prompt, user("One"))
    history = [prompt, user("One"), assistant("Reply 1"), user("Two")]
    door.talk(*history, conversation=id_)
    assert texts_sent(door) == ["Be brief.", "One", "Reply 1", "Two"]
    door.talk(*history, assistant("Reply 2"), user("Three"), conversation=id_)
    assert texts_sent(door) == ["Be brief.", "One", "Reply 1", "Two", "Reply 2", "Three"]
    assert len(door.said(id_)) == 7
    assert len(door.said(id_, "all")) == 9  # both replies as they came, too


@pytest.mark.parametrize("prompts", [0, 1])
def test_results_of_calls_alone_in_a_named_conversation(door: Door, prompts: int) -> None:
    prompt = [{"role": "system", "content": "Be brief."}][:prompts]
    door.script(openai_stream(tool_calls=[("call_1", "f", "{}")], finish="tool_calls"), openai_stream("Done"))
    answer = door.ask(*prompt, user([{"type": "text", "text": "Look"}, picture()]))
    named = {HEADER: answer.headers[HEADER]}
    message = answer.get_json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    id_, _ = door.talk(*prompt, message, result, headers=named)
    assert [role for role, _ in door.said(id_, "all")] == [
        *["system"] * prompts,
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


def test_new_messages_with_one_of_an_assistant_in_a_named_conversation(door: Door) -> None:
    id_, _ = door.talk(user("One"))
    door.talk(assistant("A greeting of the app."), user("Two"), conversation=id_)
    assert texts_sent(door) == ["One", "Reply 1\n\nA greeting of the app.", "Two"]


def test_metadata_is_the_conversations(door: Door) -> None:
    id_, _ = door.talk(user("One"), metadata={"title": "A title", "topic": "travel"})
    [found] = door.api.get("/chat/conversations?metadata[topic]=travel&source=chat").get_json()
    assert (found["id"], found["title"]) == (id_, "A title")


def test_the_same_at_the_same_time(door: Door) -> None:
    """While one reply to them is written, the same messages begin a conversation of their own."""
    first, _ = door.talk(user("One"))
    history = [user("One"), assistant("Reply 1"), user("Two")]
    door.script(openai_stream("Slow", STALL), openai_stream("Quick"))
    slow = threading.Thread(target=lambda: door.ask(*history), daemon=True)
    slow.start()
    while len(door.sent) < 2:
        time.sleep(0.01)
    second, text = door.talk(*history)
    assert (second != first, text) == (True, "Quick")
    refused(door.ask(*history, conversation=first), 400, "conversation_locked", "conversation")
    [running] = [
        one
        for one in door.api.get(f"/chat/conversations/{first}/completions").get_json()
        if one["status"] == "in_progress"
    ]
    door.api.post(f"/chat/completions/{running['id']}/cancel")
    slow.join()


@pytest.mark.parametrize("depth", [200, 300, 2000])
def test_calls_whose_arguments_are_nested_deeply(door: Door, depth: int) -> None:
    arguments = "[" * depth + "]" * depth
    door.script(
        openai_stream(tool_calls=[("call_1", "f", arguments)], finish="tool_calls"), openai_stream("Done")
    )
    answer = door.ask(user("Call it"))
    [call] = answer.get_json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == arguments
    result = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    again = door.ask(user("Call it"), assistant(None, tool_calls=[call]), result)
    assert again.status_code == 200
    assert again.headers[HEADER] == answer.headers[HEADER]


def test_calls_that_a_client_has_written_again(door: Door) -> None:
    door.script(
        openai_stream(tool_calls=[("call_1", "f", '{"b": 2.0, "a": "\\u00e9"}')], finish="tool_calls"),
        openai_stream("Done"),
    )
    answer = door.ask(user("Call it"))
    function = {"name": "f", "arguments": '{"a":"é","b":2}'}
    call = {"id": "call_1", "type": "function", "function": function}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    again = door.ask(user("Call it"), assistant("", tool_calls=[call]), result)
    assert again.headers[HEADER] == answer.headers[HEADER]


def test_what_a_model_has_called_can_be_sent_back(door: Door) -> None:
    calls = [(f"call_{number}_{'s' * 300}", "f", "{}") for number in range(200)]
    door.script(openai_stream(tool_calls=calls, finish="tool_calls"), openai_stream("Done"))
    answer = door.ask(user("Call them"))
    message = answer.get_json()["choices"][0]["message"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in message["tool_calls"]]
    again = door.ask(user("Call them"), message, *results)
    assert again.status_code == 200, again.get_data(as_text=True)
    assert again.headers[HEADER] == answer.headers[HEADER]
