"""A server's complaint costs one refused request, not one for each reply; and no user's costs another anything."""

import time
from typing import Any

import orjson
import pytest
from flask import Flask

from chat_api.llm_providers import learned_options
from tests.completions.chat import Chat, run_sql
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, error_answer, openai_answer, openai_stream

NO_STREAM = error_answer(400, "Your organization must be verified to stream this model.")
NO_OPTIONS = error_answer(400, "Unknown parameter: 'stream_options'.")
NO_TEMPERATURE = error_answer(400, "Unsupported parameter: 'temperature' is not supported with this model.")


def learned(app: Flask, chat: Chat) -> dict[str, Any]:
    """What the provider's row has, by model."""
    [(text,)] = run_sql(app, "SELECT learned_options FROM llm_providers WHERE id = :id", id=chat.provider_id)
    return orjson.loads(text) if text else {}


def count(chat: Chat) -> int:
    return len(chat.provider.of_model(chat.model))


def learn(chat: Chat, complaint: Any = NO_OPTIONS) -> None:
    """Let the server complain once."""
    before = count(chat)
    chat.script(complaint, openai_stream("Hello"))
    assert chat.reply()["status"] == "completed"
    assert count(chat) == before + 2


@pytest.mark.parametrize(
    ("complaint", "parameters", "sent"),
    [
        (NO_OPTIONS, {}, {"stream": True}),
        (error_answer(400, "extraneous key [include_usage] is not permitted"), {}, {"stream": True}),
        (error_answer(422, "Param Incorrect"), {}, {"stream": True}),
        (
            error_answer(400, "Use 'max_completion_tokens' instead."),
            {"max_tokens": 5},
            {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 5},
        ),
    ],
)
def test_a_complaint_costs_one_refused_request(
    chat: Chat, complaint: Any, parameters: dict[str, Any], sent: dict[str, Any]
) -> None:
    chat.script(complaint, openai_stream("Hello"))
    for _ in range(3):
        assert chat.reply(parameters=parameters)["status"] == "completed"
    assert count(chat) == 4
    for request in chat.provider.of_model(chat.model)[1:]:
        fields = ("model", "messages")
        assert {name: value for name, value in request.json.items() if name not in fields} == sent


def test_a_model_that_is_not_streamed_has_events_all_the_same(chat: Chat) -> None:
    chat.script(NO_STREAM, openai_answer("Hello"))
    for _ in range(2):
        stream = chat.stream()
        stream.rest()
        assert (stream.text, stream.end.name) == ("Hello", "completion.completed")
    assert [request.json["stream"] for request in chat.provider.of_model(chat.model)] == [True, False, False]


def test_the_preview_knows_what_was_learned(chat: Chat) -> None:
    learn(chat)
    body = chat.ask(query="?dry_run=true").get_json()["request"]["body"]
    assert "stream_options" not in body
    other = chat.ask(query="?dry_run=true", model="another").get_json()["request"]["body"]
    assert "stream_options" in other


def test_a_complaint_that_led_to_no_reply_is_not_remembered(app: Flask, chat: Chat) -> None:
    chat.script(NO_OPTIONS, error_answer(400, "Something else"))
    assert chat.ask().status_code >= 400
    assert learned(app, chat) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"api_format": "anthropic"},
        {"api_endpoint": "https://x.example/v1"},
        {"auth": "api-key"},
        {"headers": {"X-Title": "x"}},
        {"extra_body": {"a": 1}},
        {"request_options": {"alternation": False}},
    ],
)
def test_other_settings_forget_what_was_learned(app: Flask, chat: Chat, changes: dict[str, Any]) -> None:
    learn(chat)
    path = f"/chat/llm-providers/{chat.provider_id}"
    assert chat.api.patch(path, {"name": "Another", "context_window": 4096}).status_code == 200
    assert learned(app, chat)
    assert chat.api.patch(path, changes).status_code == 200
    assert learned(app, chat) == {}


def test_settings_that_change_during_a_reply_forget_what_it_learns(app: Flask, chat: Chat) -> None:
    path = f"/chat/llm-providers/{chat.provider_id}"

    def change_meanwhile(_: Any) -> Any:
        assert chat.api.patch(path, {"api_format": "anthropic"}).status_code == 200
        return openai_stream("Hello")

    chat.script(NO_OPTIONS, change_meanwhile)
    assert chat.reply()["status"] == "completed"
    assert learned(app, chat) == {}


def test_what_was_learned_is_forgotten_after_a_week(app: Flask, chat: Chat) -> None:
    learn(chat)
    aged = learned(app, chat)
    aged[chat.model]["learned_at"] -= learned_options.KEPT_S + 1
    run_sql(
        app,
        "UPDATE llm_providers SET learned_options = :text WHERE id = :id",
        text=orjson.dumps(aged).decode(),
        id=chat.provider_id,
    )
    assert "stream_options" in chat.ask(query="?dry_run=true").get_json()["request"]["body"]
    learn(chat)  # it is sent, refused and remembered again
    assert learned(app, chat)[chat.model]["learned_at"] >= time.time() - 60


def test_what_later_replies_learn_is_added(app: Flask, chat: Chat) -> None:
    chat.script(NO_TEMPERATURE, openai_stream("Hello"))
    chat.reply(parameters={"temperature": 0.2})
    chat.script(error_answer(400, "Unsupported parameter: 'seed'"), openai_stream("Hello"))
    chat.reply(parameters={"seed": 1})
    assert sorted(learned(app, chat)[chat.model]["without"]) == ["seed", "temperature"]


def test_a_later_complaint_keeps_earlier_ones_no_longer(app: Flask, chat: Chat) -> None:
    learn(chat)
    aged = learned(app, chat)
    aged[chat.model]["learned_at"] -= learned_options.KEPT_S - 600
    run_sql(
        app,
        "UPDATE llm_providers SET learned_options = :text WHERE id = :id",
        text=orjson.dumps(aged).decode(),
        id=chat.provider_id,
    )
    chat.script(NO_TEMPERATURE, openai_stream("Hello"))
    chat.reply(parameters={"temperature": 0.2})
    known = learned(app, chat)[chat.model]
    assert (known["without"], known["stream_options"]) == (["temperature"], False)
    assert known["learned_at"] == aged[chat.model]["learned_at"]


def test_a_provider_remembers_fifty_models(app: Flask, chat: Chat) -> None:
    now = int(time.time())
    full = {f"m{n}": {"stream_options": False, "learned_at": now} for n in range(learned_options.MAX_MODELS)}
    run_sql(
        app,
        "UPDATE llm_providers SET learned_options = :text WHERE id = :id",
        text=orjson.dumps(full).decode(),
        id=chat.provider_id,
    )
    learn(chat)
    assert list(learned(app, chat)) == [f"m{n}" for n in range(1, learned_options.MAX_MODELS)] + [chat.model]


@pytest.fixture
def shared(eve: Api, admin: Api, make_user: Any, provider: ScriptedProvider) -> tuple[Chat, Chat]:
    """Two users' chats with the same model of one shared provider."""
    first = Chat.begin(admin, provider, shared=True)
    chats = []
    for api in (eve, make_user()):
        api.config(first.provider_id, first.key)
        chats.append(Chat(api, provider, api.conversation()["id"], first.provider_id, first.key, first.model))
    return chats[0], chats[1]


def test_users_of_a_shared_provider_learn_what_holds_for_all(app: Flask, shared: tuple[Chat, Chat]) -> None:
    one, other = shared
    learn(one)
    other.reply()
    assert count(one) == 3
    assert learned(app, one)[one.model]["stream_options"] is False


@pytest.mark.parametrize("complaint", [NO_STREAM, NO_TEMPERATURE, error_answer(400, "Param Incorrect")])
def test_no_user_of_a_shared_provider_spoils_it_for_another(
    app: Flask, shared: tuple[Chat, Chat], complaint: Any
) -> None:
    one, other = shared
    parameters = {"temperature": 0.2}
    one.script(complaint, openai_stream("Hello"))
    one.reply(parameters=parameters)
    one.reply(parameters=parameters)
    assert count(one) == 3  # its own user's next request is not refused again
    other.reply(parameters=parameters)
    sent = other.sent[-1].json
    assert (sent["stream"], sent["stream_options"], sent["temperature"]) == (
        True,
        {"include_usage": True},
        0.2,
    )
    assert learned(app, one) == {}


def test_a_request_with_extra_fields_teaches_nothing(app: Flask, chat: Chat) -> None:
    chat.script(NO_OPTIONS, openai_stream("Hello"))
    chat.reply(parameters={"extra": {"background": True}})
    assert learned(app, chat) == {}
    assert "stream_options" in chat.ask(query="?dry_run=true").get_json()["request"]["body"]


def test_remembering_fails_no_reply(app: Flask, chat: Chat) -> None:
    run_sql(app, "UPDATE llm_providers SET learned_options = 'no JSON' WHERE id = :id", id=chat.provider_id)
    run_sql(app, "UPDATE llm_providers SET learned_options = NULL WHERE id = :id", id=chat.provider_id)

    def spoil(_: Any) -> Any:
        run_sql(
            app, "UPDATE llm_providers SET learned_options = 'no JSON' WHERE id = :id", id=chat.provider_id
        )
        return openai_stream("Hello")

    chat.script(NO_OPTIONS, spoil)
    assert chat.reply()["status"] == "completed"
    run_sql(app, "UPDATE llm_providers SET learned_options = NULL WHERE id = :id", id=chat.provider_id)


def test_a_provider_deleted_during_a_reply_remembers_nothing(chat: Chat) -> None:
    def delete(_: Any) -> Any:
        assert chat.api.delete(f"/chat/llm-providers/{chat.provider_id}").status_code == 204
        return openai_stream("Hello")

    chat.script(NO_OPTIONS, delete)
    assert chat.reply()["status"] == "completed"
