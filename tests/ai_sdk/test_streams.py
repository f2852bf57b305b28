"""Leaving, coming back, stopping, and two requests at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from flask import Flask

from tests.ai_sdk.chatting import PATH, Seen, UiChat, chunks_of, refused, texts, user
from tests.completions.chat import wait_for
from tests.support.provider import STALL, openai_stream
from tests.support.tables import begin_elsewhere


def begin(page: UiChat) -> threading.Event:
    """A reply is in progress, of which the page reads nothing more; what lets it go on."""
    go_on = threading.Event()
    page.script(openai_stream("So ", go_on, "far."))
    page.messages.append(user("Hi"))
    page.post().close()
    wait_for(lambda: page.reload()["activeStreamId"])
    return go_on


def test_a_page_that_is_opened_again_has_the_reply_from_its_beginning(page: UiChat) -> None:
    go_on = begin(page)
    reloaded = page.reload()
    assert texts(reloaded["messages"]) == ["Hi"]
    assert reloaded["activeStreamId"]
    resumed = page.resume()
    go_on.set()
    seen = Seen.of(chunks_of(resumed))
    assert (seen.text, len(page.sent)) == ("So far.", 1)
    assert seen.finished
    wait_for(lambda: page.reload()["activeStreamId"] is None)
    assert page.reload()["messages"] == [*page.messages, seen.message]
    assert page.resume().status_code == 204


def test_a_stream_whose_chat_is_deleted_ends_with_an_error(page: UiChat) -> None:
    page.script(openai_stream("So far", STALL))
    page.messages.append(user("Hi"))
    response = page.post()
    wait_for(lambda: page.reload()["activeStreamId"])
    assert page.api.delete(f"/chat/conversations/{page.conversation_id()}").status_code == 204
    *_, closed, error = chunks_of(response)
    assert closed["type"] == "text-end"
    assert (error["type"], error["errorText"]) == ("error", "There is no such completion.")


def test_nothing_to_resume(page: UiChat) -> None:
    response = page.resume()
    assert (response.status_code, response.get_data()) == (204, b"")
    page.ask("Hi")
    assert page.resume().status_code == 204


def test_stopping_keeps_what_came(page: UiChat) -> None:
    page.script(openai_stream("So far", STALL), openai_stream("Next."))
    page.messages.append(user("Hi"))
    response = page.post()
    active = page.reload()["activeStreamId"]
    stale = page.api.post(f"{PATH}/{page.id}/stop", {"activeStreamId": "another"})
    assert stale.get_json() == {"success": True}
    assert page.reload()["activeStreamId"] == active
    sent = {"activeStreamId": active, "assistantMessage": {"parts": ["what the page believes"]}}
    assert page.api.post(f"{PATH}/{page.id}/stop", sent).get_json() == {"success": True}
    seen = page.receive(response)
    assert (seen.text, seen.aborted, seen.finished) == ("So far", True, None)
    assert texts(page.reload()["messages"]) == ["Hi", "So far"]
    assert page.api.post(f"{PATH}/{page.id}/stop").get_json() == {"success": True}
    page.ask("Go on")
    assert page.said_to_model() == [("user", "Hi"), ("assistant", "So far"), ("user", "Go on")]


def test_stopping_before_the_first_word(page: UiChat) -> None:
    page.script(openai_stream(STALL), openai_stream("Next."))
    page.messages.append(user("Hi"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(page.post)
        wait_for(
            lambda: page.api.get(f"{PATH}/{page.id}").status_code == 200 and page.reload()["activeStreamId"]
        )
        page.api.post(f"{PATH}/{page.id}/stop")
        assert page.receive(asked.result()).aborted
    assert texts(page.reload()["messages"]) == ["Hi"]
    page.ask("Anybody?")  # below the question: the page has a message that was never stored
    assert page.stored()[:2] == [("user", "Hi"), ("user", "Anybody?")]
    assert page.said_to_model() == [("user", "Hi\n\nAnybody?")]


def test_one_reply_at_a_time(page: UiChat) -> None:
    go_on = begin(page)
    other = page.another()
    other.messages.append(user("Meanwhile"))
    refused(other.post(), 409, "in progress")
    refused(page.post(trigger="regenerate-message"), 409, "in progress")
    refused(page.post(messageId=page.messages[0]["id"]), 409, "in progress")
    attached = page.post()  # the same message: an answer that was lost on its way
    go_on.set()
    assert Seen.of(chunks_of(attached)).text == "So far."
    assert len(page.sent) == 1
    assert page.stored() == [("user", "Hi"), ("assistant", "So far.")]


def test_the_same_new_chat_several_times_at_the_same_moment(page: UiChat) -> None:
    page.script(openai_stream("One."))
    for number in range(1, 5):
        chat = page.another(id=f"chat-{number}", messages=[user("Hi")])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, chat=chat: chat.post(), range(4)))
        assert {Seen.of(chunks_of(answer)).text for answer in answers} == {"One."}
        assert (len(page.sent), texts(chat.reload()["messages"])) == (number, ["Hi", "One."])


def test_a_reply_of_another_worker(page: UiChat, app: Flask) -> None:
    conversation = page.api.conversation()
    message = page.api.message(conversation["id"], "Where?")
    provider_id = page.api.get("/chat/llm-providers").get_json()[-1]["id"]
    completion_id = begin_elsewhere(app, page.api.user_id, message, provider_id)
    there = page.another(id=conversation["id"])
    assert there.reload()["activeStreamId"] == completion_id
    assert texts(there.reload()["messages"]) == ["Where?"]
    resumed = there.resume()
    assert page.api.post(f"{PATH}/{conversation['id']}/stop").get_json() == {"success": True}
    seen = Seen.of(chunks_of(resumed))
    assert (seen.text, seen.aborted) == ("By the river", True)
    assert there.reload()["messages"][1]["id"] == seen.message["id"]


def test_a_key_makes_one_reply(page: UiChat) -> None:
    page.messages.append(user("Hi"))
    body = {"id": page.id, "messages": page.messages, "model": page.name, "trigger": "submit-message"}
    answers = [page.api.post(PATH, body, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    first, second = (Seen.of(chunks_of(answer)) for answer in answers)
    assert (first.message, len(page.sent)) == (second.message, 1)
