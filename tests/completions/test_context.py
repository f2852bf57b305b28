"""What is sent of a conversation that the model's window does not take in, and what a dry run says of it."""

from typing import Any

import pytest
from flask import Flask

from chat_api.completions import context, service
from chat_api.messages import pages
from tests.completions.chat import Chat, run_sql
from tests.completions.test_branches import every, move
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, openai_stream

TURN = "x" * 400  # 100 tokens, and 4 around it


def say(chat: Chat, *roles: str, content: str = TURN) -> None:
    """Append messages, each with its number in front."""
    for number, role in enumerate(roles, len(chat.messages) + 1):
        chat.api.message(chat.conversation_id, f"{number} {content}", role=role)


def sent_numbers(chat: Chat) -> list[int]:
    """The numbers of the messages that were sent, of those that `say` has made. Neighbours of one role are joined."""
    contents = [message["content"] for message in chat.sent[-1].json["messages"]]
    texts = [text for content in contents if content for text in content.split("\n\n")]
    return [int(text.split()[0]) for text in texts if text[0].isdigit()]


@pytest.fixture
def narrow(eve: Api, provider: ScriptedProvider) -> Chat:
    """With a window of 600 tokens, of which a quarter is left for the reply: 450, four messages of 100."""
    return Chat.begin(eve, provider, context_window=600)


def test_all_is_sent_where_it_fits(narrow: Chat) -> None:
    say(narrow, "user", "assistant")
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [1, 2]
    assert completion["omitted_messages"] == 0


def test_the_oldest_turns_are_left_out(narrow: Chat) -> None:
    say(narrow, *("user", "assistant") * 5)
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [7, 8, 9, 10]
    assert completion["omitted_messages"] == 6
    assert narrow.sent[0].json["messages"][-1] == {"role": "user", "content": "Well?"}
    assert narrow.get(completion["id"])["omitted_messages"] == 6
    assert [len(narrow.messages), narrow.completions[0]["omitted_messages"]] == [12, 6]


def test_system_messages_are_kept(narrow: Chat) -> None:
    say(narrow, "system", content="Be brief.")
    say(narrow, "user", "assistant", "developer", *("user", "assistant") * 4)
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [1, 4, 11, 12]
    roles = [message["role"] for message in narrow.sent[0].json["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert completion["omitted_messages"] == 8  # 2, 3 and 5 to 10


def test_a_system_message_among_what_is_kept_is_sent_once(narrow: Chat) -> None:
    say(narrow, *("user", "assistant") * 4, "user")
    narrow.api.message(narrow.conversation_id, "10 short", role="system")
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow).count(10) == 1
    assert completion["omitted_messages"] == 10 - len(sent_numbers(narrow))


def test_a_turn_stays_together(narrow: Chat) -> None:
    """No tool's result without its call, no answer without its question."""
    say(narrow, "user", "assistant", "user")
    narrow.api.calling(narrow.conversation_id, "call_1")
    narrow.api.message(narrow.conversation_id, f"5 {TURN}", role="tool", tool_call_id="call_1")
    say(narrow, "assistant", "user", "assistant")
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [7, 8]
    assert completion["omitted_messages"] == 6


def test_the_newest_message_is_sent_however_large(narrow: Chat) -> None:
    say(narrow, "user", "assistant")
    completion = narrow.reply(content="y" * 10_000)
    assert [message["content"] for message in narrow.sent[0].json["messages"]] == ["y" * 10_000]
    assert completion["omitted_messages"] == 2


def test_the_newest_turn_is_sent_however_large(narrow: Chat) -> None:
    say(narrow, "user", "assistant", "user", content="z" * 4000)
    completion = narrow.reply(content=None)
    assert sent_numbers(narrow) == [3]
    assert completion["omitted_messages"] == 2


def test_room_for_the_reply_that_was_asked_for(narrow: Chat) -> None:
    say(narrow, *("user", "assistant") * 4)
    narrow.reply(content="Well?", parameters={"max_tokens": 370})
    assert sent_numbers(narrow) == [7, 8]


def test_only_what_stands_in_front_of_parent_id(narrow: Chat) -> None:
    say(narrow, "user", "assistant", "user", "assistant")
    narrow.reply(content=None, parent_id=narrow.messages[2]["id"])
    assert sent_numbers(narrow) == [1, 2, 3]


def test_only_messages_of_the_path_count_as_left_out(narrow: Chat) -> None:
    say(narrow, *("user", "assistant") * 5)
    place = f"/chat/conversations/{narrow.conversation_id}"
    ids = [message["id"] for message in narrow.messages]
    narrow.api.patch(place, {"active_leaf_id": ids[7]})
    say(narrow, "user", "assistant")  # beside the last two
    assert narrow.reply(content="Well?")["omitted_messages"] == 6
    narrow.api.patch(place, {"active_leaf_id": ids[-1]})
    assert narrow.reply(content="Well?")["omitted_messages"] == 6
    assert narrow.reply(content=None, parent_id=ids[6])["omitted_messages"] == 4
    narrow.api.delete(f"/chat/messages/{ids[7]}")
    assert narrow.reply(content="Well?", parent_id=ids[6])["omitted_messages"] == 4


def test_a_long_conversation_is_read_from_its_end(narrow: Chat) -> None:
    """More than a page of messages in front."""
    say(narrow, *("user", "assistant") * 120, content="x" * 40)
    completion = narrow.reply(content="Well?")
    numbers = sent_numbers(narrow)
    assert numbers == list(range(numbers[0], 241))
    assert numbers[0] % 2 == 1
    assert completion["omitted_messages"] == numbers[0] - 1


@pytest.mark.parametrize(
    ("providers", "own", "omitted"), [(600, None, 6), (100_000, 600, 6), (600, 100_000, 0), (None, None, 6)]
)
def test_which_window_counts(
    eve: Api, provider: ScriptedProvider, narrow_app: Flask, providers: int, own: int | None, omitted: int
) -> None:
    """The config's, else the provider's, else the setting's (which is 600 here)."""
    chat = Chat.begin(eve, provider)
    provider_id = eve.provider(api_endpoint=provider.url, context_window=providers)["id"]
    body = {"user_id": eve.user_id, "provider_id": provider_id, "api_key": "k", "context_window": own}
    eve.made("/chat/user-llm-configs", body)
    say(chat, *("user", "assistant") * 5)
    assert chat.on(narrow_app).reply(content="Well?", provider_id=provider_id)["omitted_messages"] == omitted


@pytest.fixture(scope="module")
def narrow_app(serve: Any) -> Any:
    with serve(CONTEXT_WINDOW_TOKENS=600) as application:
        yield application


@pytest.fixture(scope="module")
def frugal_app(serve: Any) -> Any:
    with serve(MAX_CONTEXT_BYTES=8000) as application:
        yield application


@pytest.fixture
def wide(eve: Api, provider: ScriptedProvider, frugal_app: Flask) -> Chat:
    """With a window for everything, on a server that sends at most 8,000 bytes: 19 messages of 100 tokens."""
    return Chat.begin(eve, provider, context_window=100_000_000).on(frugal_app)


def test_a_context_has_a_limit_of_bytes_whatever_the_window(wide: Chat) -> None:
    say(wide, *("user", "assistant") * 20)
    completion = wide.reply(content="Well?")
    assert sent_numbers(wide) == list(range(23, 41))
    assert completion["omitted_messages"] == 22


def test_the_end_of_a_turn_is_sent_that_is_larger_than_any_context(wide: Chat) -> None:
    """Unlike one that is only larger than the window, which is the provider's to refuse."""
    say(wide, "user", *("assistant",) * 30)
    completion = wide.reply(content=None)
    assert sent_numbers(wide) == list(range(13, 32))
    assert completion["omitted_messages"] == 12


def test_the_newest_message_alone_is_sent_whatever_its_size(wide: Chat) -> None:
    say(wide, "user", "assistant", "user", content="x" * 9000)
    assert wide.reply(content=None)["omitted_messages"] == 2
    assert sent_numbers(wide) == [3]


def test_system_messages_take_half_of_the_context_at_most(wide: Chat) -> None:
    say(wide, *("system",) * 30, *("user", "assistant") * 10)
    wide.reply(content="Well?")
    assert sent_numbers(wide) == [*range(1, 10), *range(43, 51)]


def test_a_result_is_not_sent_without_its_call(wide: Chat) -> None:
    say(wide, "user", *("assistant",) * 19)
    ids = [f"call_{number}" for number in range(10)]
    wide.api.calling(wide.conversation_id, *ids)
    for number, id in enumerate(ids, 22):
        wide.api.message(wide.conversation_id, f"{number} {TURN}", role="tool", tool_call_id=id)
    say(wide, *("assistant",) * 10)
    wide.reply(content=None)
    assert sent_numbers(wide) == list(range(32, 42))


def test_a_late_result_is_not_cut_off_from_its_call(narrow: Chat) -> None:
    """It came turns later: they are left out together, or sent together."""
    say(narrow, "user", "assistant", "user")
    narrow.api.calling(narrow.conversation_id, "call_1", "call_2")
    narrow.api.message(narrow.conversation_id, f"5 {TURN}", role="tool", tool_call_id="call_1")
    say(narrow, "user")
    narrow.api.message(narrow.conversation_id, "7 late", role="tool", tool_call_id="call_2")
    say(narrow, "assistant")
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [3, 5, 7, 6, 8]  # each result where its call is
    assert completion["omitted_messages"] == 2
    say(narrow, "user", "assistant")
    narrow.reply(content="And?")
    roles = {message["role"] for message in narrow.sent[-1].json["messages"]}
    assert roles == {"user", "assistant"}
    assert not {3, 5, 6, 7} & set(sent_numbers(narrow))


def test_a_late_result_whose_turns_do_not_fit_is_sent_without_its_call(narrow: Chat) -> None:
    """Between it and its call no turn may be cut off; without them nothing of the conversation would be sent."""
    say(narrow, "user")
    narrow.api.calling(narrow.conversation_id, "call_1")
    say(narrow, "user", "assistant", "user")
    narrow.api.message(narrow.conversation_id, "6 late", role="tool", tool_call_id="call_1")
    say(narrow, "assistant")
    completion = narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [3, 4, 5, 7]
    assert "6 late" in str(narrow.sent[-1].json["messages"])
    assert completion["omitted_messages"] == 2


def test_what_is_cut_to_the_window_is_read_once(narrow: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    list_page = pages.list_to_send

    def listing(**given: Any) -> Any:
        page = list_page(**given)
        read.extend(message["position"] for message in page.items)
        return page

    monkeypatch.setattr(pages, "list_to_send", listing)
    say(narrow, "system", *("user", "assistant") * 5)
    narrow.reply(content="Well?")
    assert sent_numbers(narrow) == [1, 10, 11]
    assert len(read) == len(set(read))


@pytest.mark.parametrize("named", [False, True])
def test_messages_that_arrive_while_the_context_is_read_are_sent(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """It is read before the conversation is locked, and again where the path has moved by then."""
    say(chat, "user", "assistant")
    leaf = chat.messages[-1]["id"]
    prepare, late = service.prepare_completion, [3, 4]

    def prepare_slowly(**given: Any) -> Any:
        prepared = prepare(**given)
        if late:
            chat.api.message(chat.conversation_id, f"{late.pop(0)} late", role="user")
        return prepared

    monkeypatch.setattr(service, "prepare_completion", prepare_slowly)
    chat.reply(content="Well?", **({"parent_id": leaf} if named else {}))
    assert sent_numbers(chat) == ([1, 2] if named else [1, 2, 3, 4])


def test_a_path_that_is_moved_while_the_context_is_read_is_read_again(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reply begins at another message, between the look for the branch and the reading of its messages."""
    say(chat, "user", "assistant", "user")
    first, _, last = (message["id"] for message in chat.messages)
    list_page, moves = pages.list_to_send, [first]

    def listing(**given: Any) -> Any:
        if moves:
            move(chat, moves.pop())
        return list_page(**given)

    monkeypatch.setattr(pages, "list_to_send", listing)
    chat.reply(content=None, parent_id=last)
    assert sent_numbers(chat) == [1, 2, 3]


def test_a_path_that_is_moved_between_two_pages_is_read_again(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(chat, "user", "assistant", "user", "assistant", "user")
    beside = chat.api.message(chat.conversation_id, "6 beside", parent_id=chat.messages[1]["id"])
    last = every(chat)[4]["id"]
    move(chat, last)
    list_page, moves = pages.list_to_send, [beside["id"]]

    def listing(**given: Any) -> Any:
        page = list_page(**given)
        if moves:
            move(chat, moves.pop())
        return page

    monkeypatch.setattr(pages, "list_to_send", listing)
    monkeypatch.setattr(context, "PAGE", 2)
    chat.reply(content=None, parent_id=last)
    assert sent_numbers(chat) == [1, 2, 3, 4, 5]


# -- dry_run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api_format", ["openai", "anthropic"])
def test_a_dry_run_says_exactly_what_is_sent(eve: Api, provider: ScriptedProvider, api_format: str) -> None:
    chat = Chat.begin(eve, provider, api_format=api_format, context_window=600)
    chat.api.message(chat.conversation_id, "Be brief.", role="system")
    say(chat, *("user", "assistant") * 5)
    before = (
        chat.messages,
        chat.completions,
        chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json(),
    )
    asked = {
        "content": "Well?",
        "parameters": {
            "temperature": 0.5,
            "stop": "\n",
            "max_tokens": 100,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "required",
        },
    }
    response = chat.ask(query="?dry_run=true", **asked)
    assert response.status_code == 200
    preview = response.get_json()
    assert chat.sent == []
    after = (
        chat.messages,
        chat.completions,
        chat.api.get(f"/chat/conversations/{chat.conversation_id}").get_json(),
    )
    assert after == before
    completion = chat.reply(**asked)
    sent = chat.sent[0]
    assert preview["request"]["body"] == sent.json
    assert preview["request"]["method"] == sent.method
    assert preview["request"]["url"] == f"{provider.origin}{sent.path}"
    for name, value in preview["request"]["headers"].items():
        assert value.replace("****", chat.key) == sent.headers[name.lower()]
    assert chat.key not in response.get_data(as_text=True)
    assert preview["omitted_messages"] == completion["omitted_messages"] > 0
    assert preview["prompt_tokens"] > 300


def test_a_dry_run_takes_no_place(chat: Chat, serve: Any) -> None:
    with serve(MAX_STREAMS=1, MAX_STREAMS_PER_USER=1) as app:
        small = chat.on(app)
        small.script(openai_stream("a"))
        stream = small.stream()
        stream.next()
        assert small.ask(query="?dry_run=true").status_code == 200
        stream.rest()


def test_a_dry_run_refuses_what_a_run_refuses(chat: Chat) -> None:
    unused = "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071"
    for status, fields in (
        (400, {"content": ""}),
        (400, {"content": None}),
        (400, {"model": None}),
        (404, {"conversation_id": unused}),
        (404, {"provider_id": unused}),
        (404, {"parent_id": unused}),
    ):
        assert chat.ask(query="?dry_run=true", **fields).status_code == status
    for value in ("yes", "1", "", "TRUE"):
        assert chat.ask(query=f"?dry_run={value}").status_code == 400
    assert chat.sent == []
    assert chat.ask(query="?dry_run=false").status_code == 201


def test_a_dry_run_stores_no_row(chat: Chat) -> None:
    def rows() -> list[Any]:
        tables = ("completions", "messages", "idempotency_keys", "completion_pieces")
        return [
            run_sql(chat.api.app, f"SELECT count(*) FROM {table} WHERE user_id = :id", id=chat.api.user_id)
            for table in tables
        ]

    before = rows()
    chat.ask(query="?dry_run=true", headers={"Idempotency-Key": f"dry {chat.model}"})
    assert rows() == before
