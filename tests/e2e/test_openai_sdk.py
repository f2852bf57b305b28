"""The `openai` package against gunicorn, on both databases: as its users call it, and what it makes of errors."""

import base64
import threading
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.e2e.account import Account
from tests.support.provider import (
    BREAK,
    STALL,
    Pause,
    error_answer,
    openai_chunk,
    openai_stream,
)

TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
    }
]
# one pixel
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
CALLS = [("call_1", "get_weather", '{"city": "Lisbon"}'), ("call_2", "get_weather", "{}")]


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def test_models(me: Account, client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["scripted/model-a", "scripted/model-b"]
    assert client.models.retrieve(names[0]).owned_by == "scripted"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("scripted/none")
    assert missing.value.code == "model_not_found"


def test_whole_and_streamed(me: Account, client: OpenAI) -> None:
    me.script(openai_stream("Hel", "lo", usage=(16, 3)))
    whole = client.chat.completions.create(model=me.name, messages=[said("Hi")])
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("Hello", "stop")
    assert whole.usage is not None
    assert whole.usage.total_tokens == 19
    assert whole._request_id
    chunks: list[ChatCompletionChunk] = list(
        client.chat.completions.create(
            model=me.name, messages=[said("Hi")], stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    last = chunks[-1].usage
    assert last is not None
    assert last.prompt_tokens == 16


def test_the_stream_helper(me: Account, client: OpenAI) -> None:
    me.script(openai_stream("Hel", "lo", tool_calls=CALLS, finish="tool_calls"))
    with client.chat.completions.stream(model=me.name, messages=[said("Hi")], tools=TOOLS) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    assert message.content == "Hello"
    assert [
        (call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
    ] == CALLS


def test_a_loop_of_tools_is_one_conversation(me: Account, client: OpenAI) -> None:
    me.script(openai_stream(tool_calls=CALLS, finish="tool_calls"), openai_stream("Sunny."))
    messages: list[Any] = [said("Weather?")]
    first = client.chat.completions.create(model=me.name, messages=messages, tools=TOOLS)
    messages.append(first.choices[0].message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": id_, "content": "28"} for id_, *_ in CALLS]
    raw = client.chat.completions.with_raw_response.create(model=me.name, messages=messages, tools=TOOLS)
    assert raw.parse().choices[0].message.content == "Sunny."
    [conversation] = me.get("/chat/conversations")
    assert raw.headers["x-conversation-id"] == f"conv_{conversation['id'].replace('-', '')}"
    assert conversation["message_count"] == 5


def test_thoughts(me: Account, client: OpenAI) -> None:
    me.script(openai_stream(openai_chunk({"reasoning_content": "Hmm"}), "So."))
    whole = client.chat.completions.create(model=me.name, messages=[said("Why?")], reasoning_effort="low")
    assert whole.choices[0].message.model_extra == {"reasoning_content": "Hmm"}


def test_extra_body_is_passed_on(me: Account, client: OpenAI) -> None:
    extra = {"top_k": 3, "chat_template_kwargs": {"enable_thinking": False}, "vendor": {"x": 1}}
    client.chat.completions.create(model=me.name, messages=[said("Hi")], extra_body=extra)
    sent = me.provider.of_model(me.model)[-1].json
    assert {name: sent[name] for name in extra} == extra


@pytest.mark.parametrize(
    ("answer", "kind", "code", "tries"),
    [
        (error_answer(400, "bad"), openai.BadRequestError, "provider_refused_request", 1),
        (error_answer(401, "key"), openai.InternalServerError, "provider_refused_key", 1),
        (error_answer(429, "slow", {"Retry-After": "0"}), openai.RateLimitError, "provider_rate_limited", 3),
        (error_answer(500, "out of order"), openai.InternalServerError, "provider_failed", 3),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_the_exceptions_that_users_expect(
    me: Account,
    client: OpenAI,
    answer: Any,
    kind: type[openai.APIStatusError],
    code: str,
    tries: int,
    stream: bool,
) -> None:
    me.script(answer)
    with pytest.raises(kind) as failed:
        client.chat.completions.create(model=me.name, messages=[said("Hi")], stream=stream)
    assert failed.value.code == code
    assert failed.value.request_id
    assert len(me.provider.of_model(me.model)) >= tries


def test_refusals(me: Account, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="nonsense").models.list()
    with pytest.raises(openai.BadRequestError) as several:
        client.chat.completions.create(model=me.name, messages=[said("Hi")], n=2)
    assert several.value.param == "n"


def test_a_broken_stream_is_an_error(me: Account, client: OpenAI) -> None:
    me.script(openai_stream("So ", "far", BREAK))
    texts: list[str] = []
    stream = client.chat.completions.create(model=me.name, messages=[said("Hi")], stream=True)
    with pytest.raises(openai.APIError):
        texts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(texts) == "So far"


def test_closing_a_stream_cancels(me: Account, client: OpenAI) -> None:
    me.script(openai_stream("So far", STALL))
    stream = client.chat.completions.create(model=me.name, messages=[said("Hi")], stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    [conversation] = me.get("/chat/conversations")
    path = f"/chat/conversations/{conversation['id']}/completions"
    ended = threading.Event()
    for _ in range(100):
        if me.get(path)[0]["status"] == "cancelled":
            break
        ended.wait(0.1)
    assert me.get(path)[0]["status"] == "cancelled"


def test_stored_completions(me: Account, client: OpenAI) -> None:
    completions = client.chat.completions
    made = [
        completions.create(
            model=me.name, messages=[said(f"Hi {number}")], store=True, metadata={"number": str(number)}
        ).id
        for number in range(3)
    ]
    assert [each.id for each in completions.list(limit=2)] == made
    assert [each.id for each in completions.list(metadata={"number": "1"})] == made[1:2]
    assert completions.retrieve(made[0]).id == made[0]
    assert completions.update(made[0], metadata={"number": "9"}).to_dict()["metadata"] == {"number": "9"}
    assert [message.content for message in completions.messages.list(made[0])] == ["Hi 0"]
    assert completions.delete(made[0]).deleted
    assert [each.id for each in completions.list()] == made[1:]
    with pytest.raises(openai.NotFoundError):
        completions.retrieve(made[0])


def test_a_picture(me: Account, client: OpenAI) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    parts: Any = [{"type": "text", "text": "This?"}, {"type": "image_url", "image_url": {"url": url}}]
    history: Any = [{"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=me.name, messages=history)
    history += [{"role": "assistant", "content": answer.choices[0].message.content}, said("Sure?")]
    client.chat.completions.create(model=me.name, messages=history)
    assert me.sent()[-1]["messages"][0]["content"] == parts
    assert len(me.get("/chat/conversations")) == 1


def test_an_answer_that_comes_too_late_is_not_asked_for_twice(me: Account) -> None:
    me.script(openai_stream("So ", Pause(2.0), "far."), openai_stream("Another."))
    with OpenAI(base_url=me.base_url, api_key=me.key, timeout=1.0, max_retries=3) as client:
        answer = client.chat.completions.create(model=me.name, messages=[said("Hi")])
    assert answer.choices[0].message.content == "So far."
    assert len(me.get("/chat/conversations")) == 1
