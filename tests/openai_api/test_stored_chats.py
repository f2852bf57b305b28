"""Chat completions that are stored: listed, read with their messages, given metadata, deleted."""

import base64
import uuid
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from tests.completions.chat import wait_for
from tests.conftest import serving, user_maker
from tests.openai_api.door import COMPLETIONS, HEADER, Door, assistant, frames_of, refused, user
from tests.openai_api.test_files_in_messages import RED, data_url, picture, text
from tests.support.api import Api
from tests.support.provider import STALL, ScriptedProvider, error_answer, openai_chunk, openai_stream
from tests.test_ownership import rows_of


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    found = Door.open(ada, provider, name="Scripted")
    found.script(*(openai_stream(f"Reply {number}", usage=(16, 3)) for number in range(1, 10)))
    return found


def listed(door: Door, query: str = "") -> list[str]:
    """The texts of the replies in the list."""
    return [each["choices"][0]["message"]["content"] for each in page(door, query)["data"]]


def page(door: Door, query: str = "") -> dict[str, Any]:
    response = door.api.get(f"{COMPLETIONS}{query}")
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def kept(door: Door, count: int, **fields: Any) -> list[str]:
    """The ids of so many that are listed."""
    return [door.answered(user(f"Question {number}"), store=True, **fields)["id"] for number in range(count)]


def test_the_list_has_what_was_to_be_stored(door: Door) -> None:
    answer = door.answered(user("Hi"), store=True, metadata={"topic": "travel"})
    door.answered(user("Hi"))
    door.answered(user("Hi"), store=False)
    found = page(door)
    assert found == {
        "object": "list",
        "data": [{**answer, "metadata": {"topic": "travel"}}],
        "first_id": answer["id"],
        "last_id": answer["id"],
        "has_more": False,
    }
    assert listed(door, "?all=true") == ["Reply 1", "Reply 2"]


def test_pages_of_the_list(door: Door) -> None:
    ids = kept(door, 5)
    assert [each["id"] for each in page(door)["data"]] == ids
    first = page(door, "?limit=2")
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (ids[:2], True)
    second = page(door, f"?limit=3&after={first['last_id']}")
    assert ([each["id"] for each in second["data"]], second["has_more"]) == (ids[2:], False)
    newest = page(door, "?limit=2&order=desc")
    assert ([each["id"] for each in newest["data"]], newest["has_more"]) == (ids[:2:-1], True)
    rest = page(door, f"?order=desc&after={newest['last_id']}")
    assert [each["id"] for each in rest["data"]] == ids[2::-1]
    assert page(door, f"?after={ids[-1]}") == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip


def test_filters_of_the_list(door: Door) -> None:
    door.answered(user("a"), store=True, metadata={"topic": "travel", "who": "ada"})
    door.answered(user("b"), store=True, metadata={"topic": "travel"})
    other = replace(door, model=f"other-{uuid.uuid4().hex[:8]}")
    other.script(openai_stream("Other"))
    other.answered(user("c"), store=True)
    assert listed(door, "?metadata[topic]=travel") == ["Reply 1", "Reply 2"]
    assert listed(door, "?metadata[topic]=travel&metadata[who]=ada") == ["Reply 1"]
    assert listed(door, "?metadata[topic]=food") == []
    for named in (other.name, other.model):
        assert listed(door, f"?model={named}") == ["Other"]
    assert listed(door, f"?model={door.name}&metadata[who]=ada") == ["Reply 1"]
    assert listed(door, "?model=none") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("all=perhaps", "all"),
     ("&".join(f"metadata[k{number}]=v" for number in range(5)), "metadata")],
)  # fmt: skip
def test_what_a_list_can_not_be_asked_for(door: Door, query: str, param: str) -> None:
    refused(door.api.get(f"{COMPLETIONS}?{query}"), 400, "invalid_value", param)


@pytest.mark.parametrize("after", ["none", f"chatcmpl-{7:032x}"])
def test_a_list_after_what_is_not_there(door: Door, after: str) -> None:
    refused(door.api.get(f"{COMPLETIONS}?after={after}"), 404, "not_found")


def test_what_has_no_reply_is_not_listed(door: Door) -> None:
    door.script(error_answer(500, "out of order"), openai_stream("So far", STALL))
    assert door.ask(user("Hi"), store=True).status_code == 502
    running = door.ask(user("Hi"), store=True, stream=True)
    parts: Any = iter(running.response)
    while b"So far" not in next(parts):
        pass
    assert listed(door) == []
    running.close()
    wait_for(lambda: listed(door) == ["So far"])


def test_metadata_are_replaced(door: Door) -> None:
    [id_] = kept(door, 1, metadata={"topic": "travel", "who": "ada"})
    path = f"{COMPLETIONS}/{id_}"
    changed = door.api.post(path, {"metadata": {"topic": "food"}}).get_json()
    assert (changed["id"], changed["metadata"]) == (id_, {"topic": "food"})
    assert door.api.get(path).get_json() == changed == page(door)["data"][0]
    assert listed(door, "?metadata[topic]=travel") == []
    assert door.api.post(path, {"metadata": None}).get_json()["metadata"] == {}
    refused(door.api.post(path, {}), 400, "missing_required_parameter", "metadata")
    refused(door.api.post(path, {"metadata": {"a": 1}}), 400, "invalid_value", "metadata")
    # those of the conversation are its own
    [conversation] = door.conversations()
    assert conversation["metadata"] == {"topic": "travel", "who": "ada"}


def test_a_completion_of_chat_has_no_metadata_here(door: Door) -> None:
    conversation = door.api.conversation()["id"]
    native = door.api.completion(conversation, door.provider_id, model=door.model)["id"]
    assert door.api.get(f"{COMPLETIONS}/{native}").get_json()["metadata"] == {}
    refused(door.api.post(f"{COMPLETIONS}/{native}", {"metadata": {}}), 404, "not_found")
    assert listed(door, "?all=true") == []


def test_deleting(door: Door) -> None:
    first, second = kept(door, 2)
    response = door.api.delete(f"{COMPLETIONS}/{first}")
    assert response.get_json() == {"object": "chat.completion.deleted", "id": first, "deleted": True}
    assert [each["id"] for each in page(door, "?all=true")["data"]] == [second]
    for method in ("GET", "DELETE"):
        refused(door.api.request(method, f"{COMPLETIONS}/{first}"), 404, "not_found")
    refused(door.api.post(f"{COMPLETIONS}/{first}", {"metadata": {}}), 404, "not_found")
    refused(door.api.get(f"{COMPLETIONS}/{first}/messages"), 404, "not_found")
    conversation = door.conversations()[-1]["id"]
    assert door.said(conversation) == [("user", "Question 0")]


def test_what_is_deleted_leaves_nothing_of_its_request(app: Flask, door: Door) -> None:
    named = door.api.post("/v1/conversations", {}).get_json()["id"]
    answer = door.answered(user("Hi"), store=True, metadata={"note": "a secret"}, conversation=named)
    fields = {"instructions": "a secret", "metadata": {"note": "a secret"}, "conversation": named}
    response = door.api.post("/v1/responses", {"model": door.name, "input": "And?", **fields}).get_json()
    for path in (f"{COMPLETIONS}/{answer['id']}", f"/v1/responses/{response['id']}"):
        assert "a secret" in repr(rows_of(app, door.api.user_id)["completions"])
        assert door.api.delete(path).status_code == 200
    assert "a secret" not in repr(rows_of(app, door.api.user_id)["completions"])


def test_deleting_what_was_answered_keeps_the_message(door: Door) -> None:
    answer = door.answered(user("Hi"), store=True)
    door.answered(user("Hi"), assistant("Reply 1"), user("And?"), store=True)
    assert door.api.delete(f"{COMPLETIONS}/{answer['id']}").status_code == 200
    assert listed(door) == ["Reply 2"]
    [conversation] = door.conversations()
    assert len(door.said(conversation["id"])) == 4


def test_messages_of_the_request(door: Door) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    link: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.jpg"}}
    sent: list[Any] = [
        {"role": "system", "content": "Be brief."},
        user([text("This?"), picture(), link]),
        assistant(None, tool_calls=calls),
        {"role": "tool", "content": "a cat", "tool_call_id": "c"},
    ]
    id_ = door.answered(*sent, store=True)["id"]
    path = f"{COMPLETIONS}/{id_}/messages"
    found = door.api.get(path).get_json()
    assert [each["id"] for each in found["data"]] == [f"{id_}-{number}" for number in range(4)]
    assert [each["role"] for each in found["data"]] == ["system", "user", "assistant", "tool"]
    system, asked, called, result = found["data"]
    assert (system["content"], system["content_parts"]) == ("Be brief.", None)
    assert asked["content_parts"][0] == text("This?")
    assert Api(door.api.app).get(_path(asked["content_parts"][1]["image_url"]["url"])).get_data() == RED
    assert asked["content_parts"][2]["image_url"]["url"] == link["image_url"]["url"]
    assert called["tool_calls"] == calls
    assert result["tool_call_id"] == "c"
    some = door.api.get(f"{path}?limit=2&after={id_}-0").get_json()
    assert ([each["id"] for each in some["data"]], some["has_more"]) == ([f"{id_}-1", f"{id_}-2"], True)
    newest = door.api.get(f"{path}?order=desc&limit=1").get_json()
    assert (newest["data"], newest["has_more"]) == ([result], True)
    refused(door.api.get(f"{path}?after={id_}-9"), 404, "not_found")


def _path(url: str) -> str:
    return url.removeprefix("http://localhost")


def test_the_request_alone_is_not_all_that_came_before(door: Door) -> None:
    named = door.ask(user("Hi")).headers[HEADER]
    answer = door.ask(user("And?"), store=True, headers={HEADER: named}).get_json()
    found = door.api.get(f"{COMPLETIONS}/{answer['id']}/messages").get_json()
    assert [each["content"] for each in found["data"]] == ["And?"]


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_that_the_model_made(door: Door, stream: bool) -> None:
    door.script(openai_stream("Here.", openai_chunk({"images": [data_url(RED)]})), openai_stream("A cat."))
    response = door.ask(user("Draw."), stream=stream, store=True)
    if stream:
        frames = "".join(frames_of(response))
        assert frames.count('"images"') == 1
        [image] = page(door)["data"][0]["choices"][0]["message"]["images"]
    else:
        [image] = response.get_json()["choices"][0]["message"]["images"]
    assert (image["type"], image["index"]) == ("image_url", 0)
    assert Api(door.api.app).get(_path(image["image_url"]["url"])).get_data() == RED
    # the client sends it back as part of the history
    door.answered(user("Draw."), assistant("Here.", images=[image]), user("What is it?"))
    assert len(door.conversations()) == 1


def test_recordings_that_the_model_made(door: Door) -> None:
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(28)
    said = {"audio": {"id": "a", "data": base64.b64encode(wav).decode()}}
    door.script(openai_stream("Listen.", openai_chunk(said)))
    [file] = door.answered(user("Say it."))["choices"][0]["message"]["files"]
    assert (file["type"], file["file"]["filename"][-4:]) == ("file", ".wav")
    assert door.api.get(f"/v1/files/{file['file']['file_id']}/content").get_data()[:4] == b"RIFF"


def test_nothing_is_stored_where_that_is_the_setting(
    database_url: str, provider: ScriptedProvider, tmp_path: Any
) -> None:
    with serving(database_url, tmp_path, CHAT_COMPLETIONS_STORE=False) as other:
        door = Door.open(user_maker(other)(), provider, name="Scripted")
        door.script(openai_stream("One"), openai_stream("Two"))
        door.answered(user("Hi"))
        assert door.conversations() == []
        door.answered(user("Hi"), store=True)
        assert listed(door) == ["Two"]
