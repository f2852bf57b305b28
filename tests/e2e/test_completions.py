"""Replies of a real provider, in both protocols: what is streamed, stored, counted, cancelled and resumed."""

import itertools

import pytest

from tests.e2e.chatter import Chatter, read_deltas, text_of
from tests.e2e.llama import MODEL, LlamaServer
from tests.live.client import assert_problem, serving, wait_until
from tests.support.server import GunicornServer

GREETING = "Grüß dich 👋\n\tWhat's up?"
LONG = 100_000  # tokens: minutes of work, if nobody stops it
WRONG_KEY = "sk-wrong-0123456789abcdef"
DEADLINE_S = 5.0  # a provider's connection is closed so soon after a cancel


@pytest.fixture(params=["openai", "anthropic"])
def api_format(request: pytest.FixtureRequest) -> str:
    """What the provider is spoken to in; it understands both."""
    return request.param


@pytest.fixture
def ada(service: GunicornServer, llama: LlamaServer, api_format: str) -> Chatter:
    """A user with a provider and a key for it."""
    return Chatter(service, llama, api_format)


@pytest.fixture
def mallory(service: GunicornServer, llama: LlamaServer, api_format: str) -> Chatter:
    """A user with a key that the provider refuses."""
    return Chatter(service, llama, api_format, api_key=WRONG_KEY)


def said(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def stored_form(text: str) -> str:
    """NUL is replaced: no database holds it in text."""
    return text.replace("\x00", "\ufffd")


# -- whole and streamed -----------------------------------------------------------------------------------


def test_a_reply_is_the_providers_with_its_usage(ada: Chatter, llama: LlamaServer) -> None:
    answer = ada.ask(GREETING, max_tokens=16)
    assert answer.status == 201, answer
    completion = answer.body
    assert (completion["status"], completion["finish_reason"]) == ("incomplete", "length")
    prompt = llama.count_prompt_tokens(said(GREETING))
    assert completion["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 16,
        "total_tokens": prompt + 16,
        "cached_tokens": 0,
        "estimated": False,
    }
    directly = llama.say(said(GREETING), max_tokens=16)
    assert completion["message"]["content"] == stored_form(directly)
    assert ada.reply() == completion["message"]["content"]
    assert ada.get(answer.headers["Location"]).body == completion


def test_what_the_provider_had_in_its_cache_is_part_of_the_prompt(
    service: GunicornServer, api_format: str
) -> None:
    with LlamaServer(caches=True) as provider:
        usages = []
        for _ in range(2):
            usages.append(Chatter(service, provider, api_format).ask(GREETING, max_tokens=16).body["usage"])
        cached = [usage.pop("cached_tokens") for usage in usages]
        prompt = provider.count_prompt_tokens(said(GREETING))
        assert usages[0] == usages[1]
        assert usages[0]["prompt_tokens"] == prompt
        assert cached[0] == 0 < cached[1] <= prompt


def test_what_is_stored_is_what_was_streamed(ada: Chatter, llama: LlamaServer) -> None:
    with ada.stream(GREETING, max_tokens=400) as stream:
        events = list(stream)
    names = [name for name, _ in itertools.groupby(event.name for event in events)]
    assert names == ["completion.started", "completion.delta", "completion.incomplete"]
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    assert len(events) >= 4  # it came in pieces: the first at once, the others paced
    text = text_of(events)
    directly = llama.say(said(GREETING), max_tokens=400)
    assert text == stored_form(directly)
    assert ada.reply().encode() == text.encode()
    completion = events[-1].content["completion"]
    assert completion["message"]["content"] == text
    assert completion["finish_reason"] == "length"
    assert (completion["usage"]["completion_tokens"], completion["usage"]["estimated"]) == (400, False)
    assert ada.get(f"/chat/completions/{completion['id']}").body == completion


def test_a_stop_text_completes_a_reply(ada: Chatter, llama: LlamaServer) -> None:
    text = ada.ask(GREETING, max_tokens=100).body["message"]["content"]
    stop = next(character for character in text[20:] if character.isascii() and character.isprintable())
    ada.conversation_id = ada.conversation()
    completion = ada.ask(GREETING, max_tokens=LONG, stop=[stop]).body
    assert (completion["status"], completion["finish_reason"]) == ("completed", "stop")
    assert completion["message"]["content"] == text[: text.index(stop)]
    assert completion["usage"]["estimated"] is False


def test_the_conversation_goes_back_to_the_provider_unchanged(ada: Chatter, llama: LlamaServer) -> None:
    """The noise of the first reply is part of the second prompt, character for character."""
    first = ada.ask(GREETING, max_tokens=400).body["message"]["content"]
    second = ada.ask("Go on.", max_tokens=32).body
    conversation = [*said(GREETING), {"role": "assistant", "content": first}, *said("Go on.")]
    assert second["usage"]["prompt_tokens"] == llama.count_prompt_tokens(conversation)
    assert second["message"]["content"] == stored_form(llama.say(conversation, max_tokens=32))
    assert [message["content"] for message in ada.messages(ada.conversation_id)] == [
        GREETING,
        first,
        "Go on.",
        second["message"]["content"],
    ]


def test_the_models_are_the_providers(ada: Chatter) -> None:
    answer = ada.get(f"/chat/llm-providers/{ada.provider_id}/models")
    assert answer.status == 200, answer
    assert [model["id"] for model in answer.body] == [MODEL]


# -- a key that the provider refuses ----------------------------------------------------------------------


def test_a_refused_key_is_the_providers_failure_and_is_not_shown(
    mallory: Chatter, service: GunicornServer
) -> None:
    whole = mallory.ask(GREETING, max_tokens=16)
    models = mallory.get(f"/chat/llm-providers/{mallory.provider_id}/models")
    for answer in (whole, models):
        assert_problem(answer, 502)
        assert answer.body["code"] == "provider_refused_key"
    mallory.conversation_id = mallory.conversation()
    with mallory.stream(GREETING, max_tokens=16) as stream:
        events = list(stream)
    assert [event.name for event in events] == ["completion.started", "completion.failed"]
    assert events[-1].content["problem"]["code"] == "provider_refused_key"
    assert events[-1].content["problem"]["status"] == 502
    assert [message["content"] for message in mallory.messages(mallory.conversation_id)] == [GREETING]
    shown = f"{whole} {dict(whole.headers)} {models} {events} {service.log}"
    assert WRONG_KEY not in shown
    assert "provider_refused_key" in shown


def test_the_log_does_not_tell_what_is_said_nor_the_key(
    ada: Chatter, llama: LlamaServer, service: GunicornServer
) -> None:
    ada.ask("A very private matter", max_tokens=16)
    assert ada.user["id"] in service.log
    assert "private matter" not in service.log
    assert llama.api_key not in service.log


# -- leaving, cancelling, coming back -----------------------------------------------------------------------


def wait_until_idle(llama: LlamaServer) -> None:
    wait_until(
        lambda: llama.count_busy_slots() == 0, within_s=DEADLINE_S, what="the provider works for nobody"
    )


def test_a_cancelled_reply_frees_the_provider_and_keeps_its_text(ada: Chatter, llama: LlamaServer) -> None:
    with ada.stream(GREETING, max_tokens=LONG) as stream:
        events = read_deltas(stream, 4)
        assert llama.count_busy_slots() == 1
        completion_id = events[0].content["completion"]["id"]
        answer = ada.post(f"/chat/completions/{completion_id}/cancel", None)
        assert (answer.status, answer.body["status"]) == (200, "cancelled")
        wait_until_idle(llama)
        events += stream
    assert events[-1].name == "completion.cancelled"
    assert events[-1].content["completion"] == answer.body
    text = text_of(events)
    assert ada.reply() == text
    usage = answer.body["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] >= len(text) // 4  # the provider had no chance to say how many


def test_a_reply_that_grows_too_large_is_cut_and_frees_the_provider(
    llama: LlamaServer, api_format: str
) -> None:
    with serving({"MAX_REPLY_BYTES": "1000"}) as service:
        ada = Chatter(service, llama, api_format)
        completion = ada.ask(GREETING, max_tokens=LONG).body
        wait_until_idle(llama)
        assert (completion["status"], completion["finish_reason"]) == ("incomplete", "length")
        content = completion["message"]["content"]
        assert 990 <= len(content.encode()) <= 1000
        assert ada.reply() == content
        assert completion["usage"]["estimated"] is True
        assert completion["usage"]["completion_tokens"] >= 990 // 4


def test_a_client_that_leaves_cancels_if_it_said_so(ada: Chatter, llama: LlamaServer) -> None:
    with ada.stream(GREETING, max_tokens=LONG, on_disconnect="cancel") as stream:
        events = read_deltas(stream, 4)
        assert llama.count_busy_slots() == 1
    wait_until_idle(llama)
    completion_id = events[0].content["completion"]["id"]
    wait_until(lambda: ada.get(f"/chat/completions/{completion_id}").body["status"] == "cancelled")
    assert ada.reply().startswith(text_of(events))


def test_a_client_that_leaves_comes_back_and_misses_nothing(ada: Chatter, llama: LlamaServer) -> None:
    with ada.stream(GREETING, max_tokens=2000) as stream:
        events = read_deltas(stream, 4)
    assert llama.count_busy_slots() == 1  # it goes on without a reader
    completion_id = events[0].content["completion"]["id"]
    with ada.follow(completion_id, after=events[-1].id) as stream:
        events += read_deltas(stream, 4)
    with ada.follow(completion_id, after=events[-1].id) as stream:
        events += stream
    assert events[-1].name == "completion.incomplete"
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    text = text_of(events)
    directly = llama.say(said(GREETING), max_tokens=2000)
    assert text == stored_form(directly) == ada.reply()
    assert events[-1].content["completion"]["usage"]["completion_tokens"] == 2000
    with ada.follow(completion_id) as stream:  # from the start, now that it has ended
        replayed = list(stream)
    assert text_of(replayed) == text
    assert (replayed[0].name, replayed[-1]) == ("completion.started", events[-1])


def test_several_clients_read_one_reply(ada: Chatter) -> None:
    with ada.stream(GREETING, max_tokens=600) as stream:
        started = next(stream)
        completion_id = started.content["completion"]["id"]
        with ada.follow(completion_id) as second, ada.follow(completion_id, after=100) as third:
            texts = [text_of(list(events)) for events in (third, second, stream)]
    assert texts[1] == texts[2] == ada.reply()
    assert texts[0] == ada.reply()[100:]  # an id is the position in the reply
