"""/v1/conversations and their items."""

import base64
import json
import uuid
from typing import Any

import pytest
from flask import Flask

from chat_api.files import removal
from tests.completions.chat import run_sql
from tests.openai_api.door import Door, refused, user
from tests.openai_api.test_files_in_messages import RED
from tests.support.api import Api
from tests.support.provider import ScriptedProvider, openai_chunk, openai_stream
from tests.support.uploads import names_of, uploaded
from tests.test_ownership import rows_of

PATH = "/v1/conversations"
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "28"}


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Door:
    return Door.open(ada, provider, name="Scripted")


def answered(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.get_data(as_text=True)
    content: dict[str, Any] = response.get_json()
    return content


def made(api: Api, **fields: Any) -> dict[str, Any]:
    return answered(api.post(PATH, fields))


def native(id_: str) -> str:
    return str(uuid.UUID(id_.removeprefix("conv_")))


def items(api: Api, conversation_id: str, query: str = "?order=asc&limit=100") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answered(api.get(f"{PATH}/{conversation_id}/items{query}"))["data"]
    return found


def texts(found: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in found if item["type"] == "message"]


def said(api: Api, conversation_id: str) -> list[tuple[str, str]]:
    path = f"/chat/conversations/{native(conversation_id)}/messages"
    return [(message["role"], message["content"]) for message in api.get(path).get_json()]


# -- conversations --------------------------------------------------------------------------------------------


def test_a_conversation_is_made_read_changed_and_deleted(ada: Api) -> None:
    conversation = made(ada, metadata={"topic": "demo"})
    assert conversation == {
        "id": conversation["id"],
        "object": "conversation",
        "created_at": conversation["created_at"],
        "metadata": {"topic": "demo"},
    }
    assert conversation["id"].startswith("conv_")
    assert len(conversation["id"]) == len("conv_") + 32
    path = f"{PATH}/{conversation['id']}"
    assert answered(ada.get(path)) == conversation
    assert answered(ada.post(path, {"metadata": {"title": "Trip", "a": "b"}}))["metadata"] == {
        "title": "Trip",
        "a": "b",
    }
    stored = ada.get(f"/chat/conversations/{native(conversation['id'])}").get_json()
    assert (stored["title"], stored["source"], stored["metadata"]["a"]) == ("Trip", "responses", "b")
    assert answered(ada.post(path, {"metadata": None}))["metadata"] == {}
    assert answered(ada.delete(path)) == {
        "id": conversation["id"],
        "object": "conversation.deleted",
        "deleted": True,
    }
    for response in (
        ada.get(path),
        ada.delete(path),
        ada.post(path, {"metadata": {}}),
        ada.get(f"{path}/items"),
    ):
        refused(response, 404, "not_found")


def test_one_with_items_and_a_title(ada: Api) -> None:
    named = made(ada, items=[user("Hello")], metadata={"title": "Trip"})["id"]
    unnamed = made(ada, items=[{"role": "system", "content": "Be brief."}, user("Where to eat?")])["id"]
    titles = [ada.get(f"/chat/conversations/{native(id_)}").get_json()["title"] for id_ in (named, unnamed)]
    assert titles == ["Trip", "Where to eat?"]
    assert said(ada, unnamed) == [("system", "Be brief."), ("user", "Where to eat?")]
    assert items(ada, made(ada)["id"]) == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"metadata": {"a": 1}}, "invalid_value", "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "invalid_value", "metadata"),
        ({"items": "Hello"}, "invalid_value", "items"),
        ({"items": [user("Hello")] * 21}, "invalid_value", "items"),
        ({"items": [user("Hello"), {"type": "web_search_call"}]}, "invalid_value", "items[1].type"),
        ({"items": [user("Hello"), {"role": "tool", "content": "x"}]}, "invalid_value", "items[1].role"),
    ],
)
def test_faulty_requests_store_nothing(
    app: Flask, ada: Api, body: dict[str, Any], code: str, param: str
) -> None:
    there = made(ada)["id"]
    before = rows_of(app, ada.user_id)
    refused(ada.post(PATH, body), 400, code, param)
    if "items" in body:
        refused(ada.post(f"{PATH}/{there}/items", body), 400, code, param)
    assert rows_of(app, ada.user_id) == before
    refused(ada.post(f"{PATH}/{there}/items", {}), 400, "missing_required_parameter", "items")
    refused(ada.post(f"{PATH}/{there}", {}), 400, "missing_required_parameter", "metadata")


def test_the_list(ada: Api) -> None:
    ids = [
        made(ada, metadata={"number": str(number), "even": str(number % 2 == 0)})["id"] for number in range(4)
    ]
    ada.post(f"{PATH}/{ids[0]}/items", {"items": [user("Hello")]})
    newest = [ids[0], ids[3], ids[2], ids[1]]

    def listed(query: str = "") -> tuple[list[str], bool]:
        page = answered(ada.get(f"{PATH}{query}"))
        found = [conversation["id"] for conversation in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((found[0], found[-1]) if found else (None, None))
        return found, page["has_more"]

    assert listed() == (newest, False)
    assert listed("?order=asc") == (newest[::-1], False)
    assert listed("?limit=2") == (newest[:2], True)
    assert listed(f"?limit=2&after={newest[1]}") == (newest[2:], False)
    assert listed(f"?limit=1&order=asc&after={newest[3]}") == ([newest[2]], True)
    assert listed("?metadata[even]=True") == ([ids[0], ids[2]], False)
    assert listed("?metadata[even]=True&metadata[number]=2") == ([ids[2]], False)
    ada.patch(f"/chat/conversations/{native(ids[1])}", {"archived": True})
    assert listed("?archived=true") == ([ids[1]], False)
    assert listed("?archived=false") == (newest[:3], False)
    assert listed(f"?after={ids[1]}") == ([], False)
    filters = "&".join(f"metadata[{number}]=x" for number in range(5))
    for query, param in (
        (filters, "metadata"),
        ("archived=x", "archived"),
        ("limit=101", "limit"),
        ("order=x", "order"),
    ):
        refused(ada.get(f"{PATH}?{query}"), 400, "invalid_value", param)
    for after in ("x", f"conv_{'0' * 32}"):
        refused(ada.get(f"{PATH}?after={after}"), 404, "not_found")


# -- items ----------------------------------------------------------------------------------------------------


def test_items_are_appended_in_their_order_and_read(ada: Api) -> None:
    there = made(ada, items=[user("Weather?")])["id"]
    page = answered(
        ada.post(
            f"{PATH}/{there}/items",
            {"items": [{"role": "assistant", "content": "Let me see."}, CALL, RESULT]},
        )
    )
    assert (page["object"], page["has_more"]) == ("list", False)
    assert [item["type"] for item in page["data"]] == ["message", "function_call", "function_call_output"]
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    assert said(ada, there) == [("user", "Weather?"), ("assistant", "Let me see."), ("tool", "28")]
    found = items(ada, there)
    assert found[1:] == page["data"]
    assert found[0] == {
        "id": found[0]["id"],
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Weather?"}],
    }
    for item in found:
        assert (
            answered(ada.get(f"{PATH}/{there}/items/{item['id']}?include[]=message.output_text.logprobs"))
            == item
        )


def test_pages_of_items(ada: Api) -> None:
    there = made(
        ada, items=[user("1"), {"role": "assistant", "content": "2"}, CALL, {**CALL, "call_id": "call_2"}]
    )["id"]
    ada.post(f"{PATH}/{there}/items", {"items": [RESULT, {**RESULT, "call_id": "call_2"}, user("3")]})
    whole = [item["id"] for item in items(ada, there)]
    assert len(whole) == len(set(whole)) == 7
    for order in ("asc", "desc"):
        expected = whole if order == "asc" else whole[::-1]
        for limit in range(1, 9):
            seen: list[str] = []
            after = ""
            while True:
                page = answered(ada.get(f"{PATH}/{there}/items?order={order}&limit={limit}{after}"))
                seen += [item["id"] for item in page["data"]]
                assert len(page["data"]) <= limit
                if not page["has_more"]:
                    break
                after = f"&after={page['last_id']}"
            assert seen == expected
    assert [item["id"] for item in items(ada, there, "")] == whole[::-1]
    for after in ("x", "msg_" + "0" * 32, items(ada, made(ada, items=[user("x")])["id"])[0]["id"]):
        refused(ada.get(f"{PATH}/{there}/items?after={after}"), 404, "not_found")
    for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order")):
        refused(ada.get(f"{PATH}/{there}/items?{query}"), 400, "invalid_value", param)


def test_more_messages_than_a_page_of_items(ada: Api) -> None:
    there = made(ada)["id"]
    for begin in range(0, 60, 20):
        ada.post(f"{PATH}/{there}/items", {"items": [user(str(begin + number)) for number in range(20)]})
    assert texts(items(ada, there)) == [str(number) for number in range(60)]
    assert texts(items(ada, there, "")) == [str(number) for number in range(59, 39, -1)]


def test_items_of_a_reply_and_only_of_the_active_path(door: Door) -> None:
    thought = openai_chunk({"reasoning_content": "Hm"})
    door.script(openai_stream(thought, "Sunny."), openai_stream("Rainy."))
    conversation_id, _ = door.talk(user("Weather?"))
    found = items(door.api, conversation_id)
    assert [item["type"] for item in found] == ["message", "reasoning", "message"]
    door.talk(user("Weather?"), {"role": "assistant", "content": "Sunny."}, user("Sure?"))
    door.talk(user("Weather?"), {"role": "assistant", "content": "Sunny."}, user("Really?"))
    assert texts(items(door.api, conversation_id)) == ["Weather?", "Sunny.", "Really?", "Rainy."]
    other = items(door.api, made(door.api, items=[user("x")])["id"])[0]["id"]
    refused(door.api.get(f"{PATH}/{conversation_id}/items/{other}"), 404, "not_found")
    refused(door.api.get(f"{PATH}/{conversation_id}/items/nothing"), 404, "not_found")


def test_references_to_items_of_other_conversations(ada: Api) -> None:
    [first] = items(ada, made(ada, items=[user("Hello")])["id"])
    there = made(ada, items=[{"type": "item_reference", "id": first["id"]}])["id"]
    assert said(ada, there) == [("user", "Hello")]
    unknown = {"items": [{"type": "item_reference", "id": "msg_" + "0" * 32}]}
    refused(ada.post(f"{PATH}/{there}/items", unknown), 404, "item_not_found", "items[0]")


def test_one_effect_for_one_key(ada: Api) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = (ada.post(PATH, {"items": [user("Hello")]}, headers=headers) for _ in range(2))
    assert answered(first) == answered(second)
    there = first.get_json()["id"]
    first, second = (
        ada.post(f"{PATH}/{there}/items", {"items": [user("Again")]}, headers=headers) for _ in range(2)
    )
    assert answered(first) == answered(second)
    assert said(ada, there) == [("user", "Hello"), ("user", "Again")]
    refused(ada.post(PATH, {"items": [user("x")]}, headers=headers), 422, "idempotency_key_reused")


def test_retries_of_an_sdk_double_nothing(ada: Api) -> None:
    def tried(path: str, count: int, **body: Any) -> dict[str, Any]:
        return answered(ada.post(path, body, headers={"X-Stainless-Retry-Count": str(count)}))

    first = tried(PATH, 0, items=[user("Hello")])
    assert tried(PATH, 1, items=[user("Hello")]) == first
    assert tried(PATH, 0, items=[user("Hello")]) != first
    path = f"{PATH}/{first['id']}/items"
    again = [user("Again"), {"role": "assistant", "content": "Yes."}]
    appended = tried(path, 0, items=again)
    assert tried(path, 1, items=again) == tried(path, 2, items=again) == appended
    assert tried(path, 1, items=[]) == tried(path, 2, items=[])
    assert [content for _, content in said(ada, first["id"])] == ["Hello", "Again", "Yes."]
    ada.delete(f"{PATH}/{first['id']}")
    assert tried(PATH, 2, items=[user("Hello")])["id"] != first["id"]


def test_quotas_hold(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    there = made(ada)["id"]
    monkeypatch.setitem(app.config, "MAX_MESSAGES_PER_USER", 2)
    before = rows_of(app, ada.user_id)
    refused(ada.post(f"{PATH}/{there}/items", {"items": [user("x")] * 3}), 429, "insufficient_quota")
    refused(ada.post(PATH, {"items": [user("x")] * 3}), 429, "insufficient_quota")
    assert rows_of(app, ada.user_id) == before


# -- deleted items --------------------------------------------------------------------------------------------


def delete(api: Api, conversation_id: str, item: dict[str, Any]) -> None:
    path = f"{PATH}/{conversation_id}/items/{item['id']}"
    assert answered(api.delete(path))["object"] == "conversation"
    refused(api.get(path), 404, "not_found")
    refused(api.delete(path), 404, "not_found")


def test_the_last_item_is_deleted_with_its_message(ada: Api) -> None:
    there = made(ada, items=[user("1"), user("2")])["id"]
    delete(ada, there, items(ada, there)[1])
    assert said(ada, there) == [("user", "1")]
    delete(ada, there, items(ada, there)[0])
    assert said(ada, there) == []
    assert items(ada, there) == []


def test_an_item_in_the_middle_is_erased_in_its_place(app: Flask, ada: Api, door: Door) -> None:
    there = made(
        ada,
        items=[
            user("a secret"),
            user("first"),
            {"role": "assistant", "content": "second"},
            {"role": "assistant", "content": "a secret"},
        ],
    )["id"]
    ada.post(f"{PATH}/{there}/items", {"items": [user("third")]})
    [_, first, second, reply, third] = items(ada, there)
    delete(ada, there, reply)
    before = items(ada, there)
    delete(ada, there, before[0])
    assert items(ada, there) == before[1:]
    assert before[1:] == [first, second, third]
    assert items(ada, there, "?limit=2") == [third, second]
    path = f"/chat/conversations/{native(there)}/messages"
    found = ada.get(path).get_json()
    assert [message["content"] for message in found] == ["", "first", "second", "", "third"]
    assert [message.get("erased") for message in found] == [{"0": "message"}, None, None, {"0": "text"}, None]
    assert ada.get("/chat/search?q=secret").get_json() == []
    assert "secret" not in repr(rows_of(app, ada.user_id)["messages"])
    door.script(openai_stream("fourth"))
    door.talk(user("and now?"), headers={"X-Conversation-Id": there})
    sent = [message["content"] for message in door.sent[-1].json["messages"]]
    assert sent == ["first", "second", "third\n\nand now?"]


def test_the_title_goes_with_the_words_that_it_is_made_of(ada: Api) -> None:
    there = made(ada, items=[user("a secret"), user("other words"), user("last")])["id"]
    [first, second, last] = items(ada, there)

    def title() -> str:
        return ada.get(f"/chat/conversations/{native(there)}").get_json()["title"]

    delete(ada, there, second)
    assert title() == "a secret"
    delete(ada, there, first)
    assert title() == "last"
    delete(ada, there, last)
    assert title() == ""
    ada.post(f"{PATH}/{there}/items", {"items": [user("next")]})
    assert title() == "next"
    ada.patch(f"/chat/conversations/{native(there)}", {"title": "my own"})
    delete(ada, there, items(ada, there)[0])
    assert title() == "my own"


def test_places_of_erased_items_go_with_what_answered_them(ada: Api) -> None:
    there = made(ada, items=[user("1"), user("2"), user("3")])["id"]
    first, second, third = items(ada, there)
    delete(ada, there, first)
    delete(ada, there, second)
    delete(ada, there, third)
    conversation = ada.get(f"/chat/conversations/{native(there)}").get_json()
    assert (conversation["message_count"], conversation["active_leaf_id"]) == (0, None)


def test_parts_of_a_reply_keep_their_ids(app: Flask, door: Door) -> None:
    thought = openai_chunk({"reasoning_content": "a secret thought"})
    calls = [("call_1", "get_weather", "{}"), ("call_2", "get_time", "{}")]
    door.script(openai_stream(thought, "secret text", tool_calls=calls, finish="tool_calls"))
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for _, name, _ in calls]
    there, _ = door.talk(user("Weather?"), tools=tools)
    question, thoughts, text, first, second = items(door.api, there)
    delete(door.api, there, thoughts)
    assert items(door.api, there) == [question, text, first, second]
    delete(door.api, there, first)
    assert items(door.api, there) == [question, text, second]
    delete(door.api, there, text)
    assert items(door.api, there) == [question, second]
    kept = rows_of(app, door.api.user_id)
    assert "secret" not in repr([kept["messages"], kept["completions"]])
    [_, message] = door.api.get(f"/chat/conversations/{there}/messages").get_json()
    assert [call["id"] for call in message["tool_calls"]] == ["call_2"]
    assert message["erased"] == {"0": "reasoning", "1": "text", "2": "tool_call"}
    delete(door.api, there, second)
    assert items(door.api, there) == [question]
    assert len(door.api.get(f"/chat/conversations/{there}/messages").get_json()) == 1


def test_erased_messages_are_exported_and_imported(ada: Api, bob: Api) -> None:
    there = made(ada, items=[user("1"), {"role": "assistant", "content": "2"}, user("3")])["id"]
    _, second, _ = items(ada, there)
    delete(ada, there, second)
    with ada.get("/chat/export") as export:
        lines = export.get_data()
    report = bob.post("/chat/import", data=lines, content_type="application/x-ndjson").get_json()
    assert report["conversations"]["imported"] == 1
    [conversation] = bob.get("/chat/conversations").get_json()
    assert texts(items(bob, conversation["id"])) == ["1", "3"]


def test_use_of_the_quota_shrinks_with_what_is_erased(ada: Api) -> None:
    there = made(ada, items=[user("x" * 1000), user("2")])["id"]
    delete(ada, there, items(ada, there)[0])
    [(size,)] = run_sql(
        ada.app, "SELECT content_bytes FROM conversations WHERE user_id = :user", user=ada.user_id
    )
    assert size == 1


# -- files ----------------------------------------------------------------------------------------------------


def of_user(*parts: dict[str, Any]) -> dict[str, Any]:
    return user([*parts, {"type": "input_text", "text": "What is it?"}])


def picture(content: bytes = RED) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{data}"}


def test_pictures_and_files_of_items(app: Flask, ada: Api, door: Door) -> None:
    text = uploaded(ada, b"Text", name="a.txt", claimed="")
    named = {"type": "input_file", "file_id": f"file-{text['id']}"}
    link = {"type": "input_image", "image_url": "https://example.org/a.png"}
    there = made(ada, items=[of_user(picture(), named, link)])["id"]
    ada.post(f"{PATH}/{there}/items", {"items": [of_user(picture(), named)]})
    first, second = items(ada, there)
    shown, file, linked, said_first = first["content"]
    assert (shown["type"], shown["detail"], shown["file_id"][:5]) == ("input_image", "auto", "file-")
    assert (
        Api(app).get(shown["image_url"]).data == ada.get(f"/v1/files/{shown['file_id']}/content").data == RED
    )
    assert (file["type"], file["filename"]) == ("input_file", "a.txt")
    assert ada.get(f"/v1/files/{file['file_id']}/content").data == b"Text"
    assert linked == {
        "type": "input_image",
        "detail": "auto",
        "file_id": None,
        "image_url": link["image_url"],
    }
    assert said_first == {"type": "input_text", "text": "What is it?"}
    assert [part["type"] for part in second["content"]] == ["input_image", "input_file", "input_text"]
    assert second["content"][0]["file_id"] != shown["file_id"]
    assert len(names_of(app, ada)) == 2
    query = "?include[]=message.input_image.image_url"
    inline = answered(ada.get(f"{PATH}/{there}/items/{first['id']}{query}"))["content"][0]
    assert inline["image_url"] == picture()["image_url"]
    door.script(openai_stream("A cat."))
    door.talk(user("Well?"), headers={"X-Conversation-Id": there})
    sent = json.dumps(door.sent[-1].json)
    assert base64.b64encode(RED).decode() in sent
    delete(ada, there, first)
    assert ada.get(f"/v1/files/{shown['file_id']}").status_code == 404
    assert ada.get(f"/v1/files/{second['content'][0]['file_id']}/content").data == RED


def test_items_with_files_are_sent_again_as_they_were_read(ada: Api) -> None:
    there = made(ada, items=[of_user(picture())])["id"]
    [item] = items(ada, there)
    again = made(ada, items=[item, {"type": "item_reference", "id": item["id"]}])["id"]
    for copied in items(ada, again):
        assert [part["type"] for part in copied["content"]] == ["input_image", "input_text"]
        assert ada.get(f"/v1/files/{copied['content'][0]['file_id']}/content").data == RED


def test_faulty_files_store_nothing(app: Flask, ada: Api, bob: Api) -> None:
    his = uploaded(bob)["id"]
    for path in (PATH, f"{PATH}/{made(ada)['id']}/items"):
        before = rows_of(app, ada.user_id)
        refused(
            ada.post(path, {"items": [of_user({"type": "input_file", "file_id": his})]}), 404, "not_found"
        )
        broken = {"type": "input_image", "image_url": "data:image/png;base64,?"}
        faulty = {"items": [of_user(picture()), of_user(broken)]}
        refused(ada.post(path, faulty), 400, "invalid_value", "items[1].content[0].image_url")
        of_assistant = {"items": [{"role": "assistant", "content": [picture()]}]}
        refused(ada.post(path, of_assistant), 400, "invalid_value", "items[0].content[0].type")
        assert rows_of(app, ada.user_id) == before
    assert names_of(app, ada) == set()


def test_quotas_leave_no_file_behind(app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    there = made(ada)["id"]
    monkeypatch.setitem(app.config, "MAX_MESSAGES_PER_USER", 0)
    refused(ada.post(f"{PATH}/{there}/items", {"items": [of_user(picture())]}), 429, "insufficient_quota")
    with app.app_context():
        removal.remove_all_released_and_commit()
    assert names_of(app, ada) == set()


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
def test_a_conversation_that_its_client_keeps_has_each_message_once(door: Door, path: str) -> None:
    """As sessions of agents do it: its items are the history of the request, and then they append what is new."""
    door.script(*(openai_stream(f"Reply {number}") for number in range(1, 4)))
    kept = made(door.api, items=[user("Zero"), {"role": "assistant", "content": "Reply 0"}])["id"]
    expected = ["Zero", "Reply 0"]
    for number in range(1, 4):
        history = [
            {"role": item["role"], "content": item["content"][0]["text"]} for item in items(door.api, kept)
        ]
        history.append(user(f"Question {number}"))
        field = "input" if path == "/v1/responses" else "messages"
        answered(door.api.post(path, {"model": door.name, field: history}))
        new = [history[-1], {"role": "assistant", "content": f"Reply {number}"}]
        answered(door.api.post(f"{PATH}/{kept}/items", {"items": new}))
        expected += [f"Question {number}", f"Reply {number}"]
        assert texts(items(door.api, kept)) == expected
        assert [one["content"] for one in door.sent[-1].json["messages"]] == expected[:-1]
    assert len(door.conversations()) == 2  # that, and the one of the requests
    named = {"model": door.name, "messages": [*history, new[1], user("More")], "conversation": kept}
    assert answered(door.api.post("/v1/chat/completions", named))
    assert texts(items(door.api, kept)) == [*expected, "More", "Reply 3"]


def test_an_edit_after_items_is_a_branch_there(door: Door) -> None:
    door.script(*(openai_stream(f"Reply {number}") for number in range(1, 4)))
    begin = [user("Zero"), {"role": "assistant", "content": "Reply 0"}]
    kept = made(door.api, items=begin)["id"]
    for history in ([*begin, user("One")], [*begin, user("One, edited")], [*begin, user("One, edited")]):
        door.talk(*history, conversation=kept)
        assert door.sent[-1].json["messages"] == history
    assert texts(items(door.api, kept)) == ["Zero", "Reply 0", "One, edited", "Reply 3"]
    assert len(door.said(native(kept), "all")) == 2 + 2 + 3


@pytest.mark.parametrize("erased", [["reasoning"], ["message"], ["message", "reasoning"]])
def test_what_is_erased_is_in_no_reading_of_the_reply(door: Door, erased: list[str]) -> None:
    thought = openai_chunk({"reasoning_content": "a secret thought"})
    door.script(openai_stream(thought, "a secret text"), openai_stream("Well."))
    there, _ = door.talk(user("Weather?"))
    found = items(door.api, there)
    door.talk(user("And?"), headers={"X-Conversation-Id": there})
    for kind in erased:
        delete(door.api, there, next(item for item in found[1:] if item["type"] == kind))
    left = {"reasoning": "a secret thought", "message": "a secret text"}
    id_ = door.api.get(f"/chat/conversations/{there}/completions").get_json()[0]["id"]
    for path in (
        f"/chat/completions/{id_}",
        f"/chat/completions/{id_}/events",
        f"/v1/chat/completions/{id_}",
        f"/v1/responses/{id_}",
        f"/v1/responses/{id_}?stream=true",
        f"/api/chat/{there}",
        f"/chat/conversations/{there}/messages",
        "/chat/export",
    ):
        with door.api.get(path) as response:
            assert response.status_code == 200, path
            text = response.get_data(as_text=True)
        assert not [kind for kind in erased if left[kind] in text], path
