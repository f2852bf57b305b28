"""What belongs to somebody else does not exist for you: all routes, all tables, and the schema itself."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import IntegrityError
from werkzeug.test import TestResponse

from chat_api.attachments.models import Attachment
from chat_api.database.columns import new_id
from chat_api.database.session import Base, db
from chat_api.messages.models import Message
from chat_api.users.quotas import REFUSES_WITHIN_S
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import ask_through_dialect, begin_elsewhere, invite
from tests.support.uploads import extract_text, uploaded
from tests.transfer import exports

Ids = dict[str, str]
WITHOUT_REQUESTS = {"search_backlog"}  # its rows come from upgrades and rebuilds, and no request names one
DIARY = "Dear diary! " * 300  # long enough for several rows of words
OWNED_TABLES = sorted(
    name
    for name, table in Base.metadata.tables.items()
    if "user_id" in table.c and name not in WITHOUT_REQUESTS
)


@dataclass
class Trespass:
    """A request that takes one id that is not the sender's; the other ids in it are the sender's own."""

    method: str
    path: str
    kind: str  # of the id that is not the sender's
    body: dict[str, Any] | None = None


def completion_of(**ids: Any) -> dict[str, Any]:
    """A body that asks for a reply in one's own conversation of one's own provider, but for these ids."""
    own = {"conversation_id": "{my_conversation}", "provider_id": "{my_provider}"}
    return {**own, "model": "m", "content": "Mine now", **ids}


# every route with an id in its path or body, once for each id; {theirs} is the id of the other user's object
TRESPASSES = {
    "delete_token": Trespass("DELETE", "/auth/tokens/{theirs}", "token"),
    "get_token": Trespass("GET", "/auth/tokens/{theirs}", "token"),
    "delete_invitation": Trespass("DELETE", "/auth/invitations/{theirs}", "invitation"),
    "get_invitation": Trespass("GET", "/auth/invitations/{theirs}", "invitation"),
    "get_conversation": Trespass("GET", "/chat/conversations/{theirs}", "conversation"),
    "update_conversation": Trespass(
        "PATCH", "/chat/conversations/{theirs}", "conversation", {"title": "Mine now"}
    ),
    "update_conversation to a leaf": Trespass(
        "PATCH", "/chat/conversations/{my_conversation}", "message", {"active_leaf_id": "{theirs}"}
    ),
    "delete_conversation": Trespass("DELETE", "/chat/conversations/{theirs}", "conversation"),
    "list_messages": Trespass("GET", "/chat/conversations/{theirs}/messages", "conversation"),
    "list_messages of all branches": Trespass(
        "GET", "/chat/conversations/{theirs}/messages?branch=all", "conversation"
    ),
    "list_messages around one": Trespass(
        "GET", "/chat/conversations/{my_conversation}/messages?around={theirs}", "message"
    ),
    "list_messages around one of all branches": Trespass(
        "GET", "/chat/conversations/{my_conversation}/messages?branch=all&around={theirs}", "message"
    ),
    "create_message": Trespass(
        "POST",
        "/chat/messages",
        "conversation",
        {"conversation_id": "{theirs}", "role": "user", "content": "Mine now"},
    ),
    "create_message to a message": Trespass(
        "POST",
        "/chat/messages",
        "message",
        {"conversation_id": "{my_conversation}", "role": "user", "content": "x", "parent_id": "{theirs}"},
    ),
    "get_message": Trespass("GET", "/chat/messages/{theirs}", "message"),
    "delete_message": Trespass("DELETE", "/chat/messages/{theirs}", "message"),
    "list_attachments": Trespass("GET", "/chat/messages/{theirs}/attachments", "message"),
    "create_attachment": Trespass(
        "POST",
        "/chat/attachments",
        "message",
        {"message_id": "{theirs}", "file_type": "image/png", "file_path": "a.png"},
    ),
    "create_message with an upload": Trespass(
        "POST",
        "/chat/messages",
        "draft",
        {
            "conversation_id": "{my_conversation}",
            "role": "user",
            "content": "x",
            "attachment_ids": ["{theirs}"],
        },
    ),
    "get_content": Trespass("GET", "/chat/attachments/{theirs}/content", "upload"),
    "get_content of a draft": Trespass("GET", "/chat/attachments/{theirs}/content", "draft"),
    "create_link": Trespass("POST", "/chat/attachments/{theirs}/link", "upload"),
    "create_link of a draft": Trespass("POST", "/chat/attachments/{theirs}/link", "draft"),
    "get_text": Trespass("GET", "/chat/attachments/{theirs}/text", "upload"),
    "get_attachment of an upload": Trespass("GET", "/chat/attachments/{theirs}", "upload"),
    "get_attachment of a draft": Trespass("GET", "/chat/attachments/{theirs}", "draft"),
    "delete_attachment of an upload": Trespass("DELETE", "/chat/attachments/{theirs}", "upload"),
    "delete_attachment of a draft": Trespass("DELETE", "/chat/attachments/{theirs}", "draft"),
    "get_attachment": Trespass("GET", "/chat/attachments/{theirs}", "attachment"),
    "delete_attachment": Trespass("DELETE", "/chat/attachments/{theirs}", "attachment"),
    "get_provider": Trespass("GET", "/chat/llm-providers/{theirs}", "provider"),
    "update_provider": Trespass("PATCH", "/chat/llm-providers/{theirs}", "provider", {"name": "Mine now"}),
    "delete_provider": Trespass("DELETE", "/chat/llm-providers/{theirs}", "provider"),
    "create_config": Trespass(
        "POST",
        "/chat/user-llm-configs",
        "provider",
        {"user_id": "{me}", "provider_id": "{theirs}", "api_key": "sk-1"},
    ),
    "create_completion in a conversation": Trespass(
        "POST", "/chat/completions", "conversation", completion_of(conversation_id="{theirs}")
    ),
    "create_completion of a provider": Trespass(
        "POST", "/chat/completions", "provider", completion_of(provider_id="{theirs}")
    ),
    "create_completion to a message": Trespass(
        "POST", "/chat/completions", "message", completion_of(parent_id="{theirs}")
    ),
    "create_completion as a preview": Trespass(
        "POST",
        "/chat/completions?dry_run=true",
        "conversation",
        completion_of(conversation_id="{theirs}"),
    ),
    "preview_completion in a conversation": Trespass(
        "POST", "/chat/completions/preview", "conversation", completion_of(conversation_id="{theirs}")
    ),
    "preview_completion of a provider": Trespass(
        "POST", "/chat/completions/preview", "provider", completion_of(provider_id="{theirs}")
    ),
    "preview_completion to a message": Trespass(
        "POST", "/chat/completions/preview", "message", completion_of(parent_id="{theirs}")
    ),
    "create_completion with an upload": Trespass(
        "POST", "/chat/completions", "draft", completion_of(attachment_ids=["{theirs}"])
    ),
    "create_completion with an upload in its content": Trespass(
        "POST",
        "/chat/completions",
        "draft",
        completion_of(content=[{"type": "attachment", "attachment_id": "{theirs}"}]),
    ),
    "preview_completion with an upload": Trespass(
        "POST", "/chat/completions/preview", "draft", completion_of(attachment_ids=["{theirs}"])
    ),
    "list_completions": Trespass("GET", "/chat/conversations/{theirs}/completions", "conversation"),
    "get_response": Trespass("GET", "/v1/responses/{theirs}", "completion"),
    "delete_response": Trespass("DELETE", "/v1/responses/{theirs}", "completion"),
    "list_input_items": Trespass("GET", "/v1/responses/{theirs}/input_items", "completion"),
    "cancel_response": Trespass("POST", "/v1/responses/{theirs}/cancel", "completion"),
    "get_chat_completion": Trespass("GET", "/v1/chat/completions/{theirs}", "completion"),
    "list_chat_completions": Trespass("GET", "/v1/chat/completions?after={theirs}", "completion"),
    "update_chat_completion": Trespass(
        "POST", "/v1/chat/completions/{theirs}", "chat completion", {"metadata": {"a": "mine now"}}
    ),
    "delete_chat_completion": Trespass("DELETE", "/v1/chat/completions/{theirs}", "chat completion"),
    "list_chat_completion_messages": Trespass(
        "GET", "/v1/chat/completions/{theirs}/messages", "chat completion"
    ),
    "list_openai_conversations": Trespass("GET", "/v1/conversations?after={theirs}", "conversation"),
    "get_openai_conversation": Trespass("GET", "/v1/conversations/{theirs}", "conversation"),
    "update_openai_conversation": Trespass(
        "POST", "/v1/conversations/{theirs}", "conversation", {"metadata": {"title": "Mine now"}}
    ),
    "delete_openai_conversation": Trespass("DELETE", "/v1/conversations/{theirs}", "conversation"),
    "list_openai_items": Trespass("GET", "/v1/conversations/{theirs}/items", "conversation"),
    "list_openai_items after one": Trespass(
        "GET", "/v1/conversations/{my_conversation}/items?after={theirs}", "message"
    ),
    "create_openai_items": Trespass(
        "POST",
        "/v1/conversations/{theirs}/items",
        "conversation",
        {"items": [{"role": "user", "content": "Mine now"}]},
    ),
    "create_openai_items of a reference": Trespass(
        "POST",
        "/v1/conversations/{my_conversation}/items",
        "message",
        {"items": [{"type": "item_reference", "id": "{theirs}"}]},
    ),
    "create_openai_conversation of a reference": Trespass(
        "POST", "/v1/conversations", "message", {"items": [{"type": "item_reference", "id": "{theirs}"}]}
    ),
    "get_openai_item": Trespass("GET", "/v1/conversations/{my_conversation}/items/{theirs}", "message"),
    "delete_openai_item": Trespass("DELETE", "/v1/conversations/{my_conversation}/items/{theirs}", "message"),
    "get_file": Trespass("GET", "/v1/files/{theirs}", "draft"),
    "get_file of an upload": Trespass("GET", "/v1/files/file-{theirs}", "upload"),
    "get_file_content": Trespass("GET", "/v1/files/{theirs}/content", "draft"),
    "get_file_content of an upload": Trespass("GET", "/v1/files/{theirs}/content", "upload"),
    "delete_file": Trespass("DELETE", "/v1/files/{theirs}", "draft"),
    "delete_file of an upload": Trespass("DELETE", "/v1/files/{theirs}", "upload"),
    "list_files": Trespass("GET", "/v1/files?after={theirs}", "draft"),
    "get_completion": Trespass("GET", "/chat/completions/{theirs}", "completion"),
    "get_completion in progress": Trespass("GET", "/chat/completions/{theirs}", "running"),
    "get_events": Trespass("GET", "/chat/completions/{theirs}/events", "completion"),
    "create_ticket": Trespass("POST", "/chat/completions/{theirs}/events/ticket", "completion"),
    "cancel_completion": Trespass("POST", "/chat/completions/{theirs}/cancel", "completion"),
    "check_provider": Trespass("POST", "/chat/llm-providers/{theirs}/check", "provider"),
    "list_models": Trespass("GET", "/chat/llm-providers/{theirs}/models", "provider"),
    "get_config of a user": Trespass("GET", "/chat/user-llm-configs/{theirs}/{my_provider}", "user"),
    "get_config of a provider": Trespass("GET", "/chat/user-llm-configs/{me}/{theirs}", "provider"),
    "replace_config of a user": Trespass(
        "PUT", "/chat/user-llm-configs/{theirs}/{my_provider}", "user", {"api_key": "sk-1"}
    ),
    "replace_config of a provider": Trespass(
        "PUT", "/chat/user-llm-configs/{me}/{theirs}", "provider", {"api_key": "sk-1"}
    ),
    "delete_config of a user": Trespass("DELETE", "/chat/user-llm-configs/{theirs}/{my_provider}", "user"),
    "delete_config of a provider": Trespass("DELETE", "/chat/user-llm-configs/{me}/{theirs}", "provider"),
}
# where another user's chat, as one that was never used, is no error but nothing
CHATS = {
    "get_chat": ("GET", "/api/chat/{chat}", 404),
    "resume_ui_stream": ("GET", "/api/chat/{chat}/stream", 204),
    "stop_ui_stream": ("POST", "/api/chat/{chat}/stop", 200),
}
# the body names the owner: that is refused aloud (403), see the tests below
ENDPOINT: dict[str, str] = {}  # of the provider that replies to these tests
# whose paths name no id
NAMED_ELSEWHERE = {
    "list_chat_completions",
    "list_files",
    "list_openai_conversations",
    "create_openai_conversation",
}
NAMES_THE_OWNER = {"create_conversation", "create_config"}


@pytest.fixture(autouse=True, scope="module")
def _endpoint(provider: ScriptedProvider) -> None:
    ENDPOINT["url"] = provider.url


@dataclass(frozen=True)
class Neighbours:
    """Two users of whom nothing changes, so all tests may have the same: that takes 0.2 s for each."""

    ada: Api
    hers: Ids
    bob: Api
    his: Ids


@pytest.fixture(scope="module")
def neighbours(make_user: Callable[..., Api], _endpoint: None) -> Neighbours:
    ada, bob = make_user(), make_user()
    return Neighbours(ada, filled(ada), bob, filled(bob))


def filled(user: Api) -> Ids:
    """Give a user a row in every table that has owners; the ids by kind."""
    conversation = user.made(
        "/chat/conversations",
        {"user_id": user.user_id, "title": "Diary"},
        headers={"Idempotency-Key": new_id()},
    )
    message = user.message(conversation["id"], DIARY)
    provider = user.provider(api_endpoint=ENDPOINT["url"])
    config = user.config(provider["id"])
    elsewhere = user.message(user.conversation()["id"])
    ids = {
        "user": user.user_id,
        "conversation": conversation["id"],
        "chat": elsewhere["conversation_id"],
        "message": message["id"],
        "attachment": user.attachment(message["id"])["id"],
        "upload": uploaded(user, b"of the message", name="a.txt", claimed="", message_id=message["id"])["id"],
        "draft": uploaded(user, b"a draft", name="a.txt", claimed="")["id"],
        "provider": provider["id"],
        "config": config["id"],
        "completion": user.completion(conversation["id"], provider["id"])["id"],
        "running": begin_elsewhere(user.app, user.user_id, elsewhere, provider["id"]),
        "token": user.made("/auth/tokens", {"name": "script"})["id"],
        "invitation": invite(user),
    }
    ids["chat completion"] = ask_through_dialect(user, provider["id"]).removeprefix("chatcmpl-")
    extract_text(user)
    link = user.post(f"/chat/attachments/{ids['draft']}/link", {"single_use": True}).get_json()["url"]
    assert Api(user.app).get(link).status_code == 200
    released = uploaded(user, b"released", name="a.txt", claimed="")["id"]
    assert user.delete(f"/chat/attachments/{released}").status_code == 204
    return ids


def filled_in(value: Any, places: dict[str, str]) -> Any:
    """A value of a body with the ids where their names stand."""
    if isinstance(value, str):
        return value.format(**places)
    if isinstance(value, list):
        return [filled_in(each, places) for each in value]
    return {name: filled_in(each, places) for name, each in value.items()}


def sent(trespass: Trespass, sender: Api, mine: Ids, their_id: str) -> TestResponse:
    places = {"theirs": their_id, "me": sender.user_id, "my_provider": mine["provider"],
              "my_conversation": mine["conversation"]}  # fmt: skip
    body = filled_in(trespass.body or {}, places)
    return sender.request(trespass.method, trespass.path.format(**places), json=body or None)


def rows_of(app: Flask, user_id: str) -> dict[str, list[Any]]:
    """All that the database holds for a user."""
    with app.app_context():
        found = {}
        for table in Base.metadata.sorted_tables:
            owner = table.c.get("user_id", table.c.get("owner_id"))
            if owner is not None:
                rows = db.session.execute(sa.select(table).where(owner == user_id))
                found[table.name] = sorted(repr(tuple(row)) for row in rows)
        return found


def changed_tables(*pairs: tuple[dict[str, list[Any]], dict[str, list[Any]]]) -> dict[str, Any]:
    """The tables whose rows are not those of before."""
    return {
        table: (rows, now[table])
        for before, now in pairs
        for table, rows in before.items()
        if rows != now[table]
    }


def told(response: TestResponse) -> dict[str, Any]:
    """The answer without what differs in every answer."""
    return {name: value for name, value in response.get_json().items() if name != "request_id"}


@pytest.mark.parametrize("name", TRESPASSES)
def test_other_users_id_is_answered_like_one_that_was_never_used(
    app: Flask, neighbours: Neighbours, name: str
) -> None:
    trespass, ada, bob = TRESPASSES[name], neighbours.ada, neighbours.bob
    before = rows_of(app, ada.user_id), rows_of(app, bob.user_id)
    refused = sent(trespass, bob, neighbours.his, neighbours.hers[trespass.kind])
    unknown = sent(trespass, bob, neighbours.his, new_id())
    assert (refused.status_code, told(refused)) == (404, told(unknown))
    assert dict(refused.headers).keys() == dict(unknown.headers).keys()
    assert not changed_tables((before[0], rows_of(app, ada.user_id)), (before[1], rows_of(app, bob.user_id)))


@pytest.mark.parametrize("name", TRESPASSES)
def test_same_request_with_ones_own_id_is_answered(ada: Api, name: str) -> None:
    """Without this the 404s above could have another reason."""
    trespass, hers = TRESPASSES[name], filled(ada)
    own_id = hers[trespass.kind] if name != "create_config" else ada.provider()["id"]
    with sent(trespass, ada, hers, own_id) as response:
        assert response.status_code < 300


def test_every_route_with_an_id_is_tried(app: Flask, stranger: Api) -> None:
    document = stranger.get("/openapi.json").get_json()
    schemas = document["components"]["schemas"]
    expected = set()
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.rpartition(".")[2]
        if any("Id" in type(converter).__name__ for converter in rule._converters.values()):
            expected.add(name)
    for path in document["paths"].values():
        if "post" in path and "requestBody" in path["post"] and path["post"]["operationId"] != "import_all":
            reference = path["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            if any(field.endswith("_id") for field in schemas[reference.rpartition("/")[2]]["properties"]):
                expected.add(path["post"]["operationId"])
    tried = {name.split(" ")[0] for name in TRESPASSES} | NAMES_THE_OWNER | set(CHATS)
    tried -= NAMED_ELSEWHERE
    assert expected == tried, "Add the new route to TRESPASSES: whose ids does it take?"


@pytest.mark.parametrize("table", OWNED_TABLES)
def test_every_table_with_an_owner_takes_part(
    app: Flask, neighbours: Neighbours, backend: str, table: str
) -> None:
    if (table, backend) == ("long_message_terms", "sqlite"):
        pytest.skip("FTS5 has room for all words of a message in one row.")
    assert rows_of(app, neighbours.ada.user_id)[table], f"Let `filled` make a row in {table}."


def test_providers_are_in_no_ones_hands_but_their_owners(ada: Api, bob: Api, admin: Api) -> None:
    own, shared = ada.provider(), admin.provider(shared=True)
    assert shared["owner_id"] is None
    assert bob.get(f"/chat/llm-providers/{own['id']}").status_code == 404
    assert admin.get(f"/chat/llm-providers/{own['id']}").status_code == 404
    assert bob.get(f"/chat/llm-providers/{shared['id']}").get_json() == shared


def test_a_shared_provider_replies_with_each_users_own_key(
    ada: Api, bob: Api, admin: Api, provider: ScriptedProvider
) -> None:
    shared = admin.provider(shared=True, api_endpoint=provider.url)["id"]
    ada.config(shared, "key-of-ada-0123456789")
    model = ada.user_id
    ada.completion(ada.conversation()["id"], shared, model=model)
    assert provider.of_model(model)[0].headers["authorization"] == "Bearer key-of-ada-0123456789"
    body = {
        "conversation_id": bob.conversation()["id"],
        "provider_id": shared,
        "model": model,
        "content": "x",
    }
    for refused in (bob.post("/chat/completions", body), bob.get(f"/chat/llm-providers/{shared}/models")):
        assert (refused.status_code, "config" in refused.get_json()["detail"]) == (404, True)
    assert len(provider.of_model(model)) == 1


def test_a_reply_in_progress_is_stopped_by_nobody_else(app: Flask, ada: Api, bob: Api) -> None:
    hers = filled(ada)
    before = rows_of(app, ada.user_id)
    path = f"/chat/completions/{hers['running']}"
    for refused in (bob.post(f"{path}/cancel"), bob.get(f"{path}/events"), bob.get(path)):
        assert refused.status_code == 404
    assert not changed_tables((before, rows_of(app, ada.user_id)))
    assert ada.get(path).get_json()["message"]["content"] == "By the river"


@pytest.mark.parametrize("name", CHATS)
def test_other_users_chats_are_like_those_that_were_never_used(
    app: Flask, ada: Api, bob: Api, name: str
) -> None:
    method, path, status = CHATS[name]
    hers = filled(ada)
    before = rows_of(app, ada.user_id), rows_of(app, bob.user_id)
    answers = [bob.request(method, path.format(chat=chat)) for chat in (hers["chat"], new_id())]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].get_data() == answers[1].get_data()
    assert not changed_tables((before[0], rows_of(app, ada.user_id)), (before[1], rows_of(app, bob.user_id)))
    assert ada.request(method, path.format(chat=hers["chat"])).status_code == 200


# -- exports and imports, which are full of ids -----------------------------------------------------------------


def exported(user: Api) -> list[dict[str, Any]]:
    with user.get("/chat/export") as response:
        return [json.loads(line) for line in response.get_data().splitlines()]


def test_an_export_holds_nothing_of_others(ada: Api, bob: Api, admin: Api) -> None:
    shared = admin.provider(shared=True)
    bob.config(shared["id"])
    hers, his = filled(ada), filled(bob)
    lines = exported(bob)
    text = json.dumps(lines)
    assert not [kind for kind, id_ in hers.items() if id_ in text]
    assert {
        his[kind] for kind in ("user", "conversation", "message", "attachment", "provider", "completion")
    } <= {line.get("id") for line in lines}
    # what everybody uses is no one's: only that he uses it is his
    assert [line["type"] for line in lines if shared["id"] in line.values()] == ["config"]


def file_with(ids: Ids) -> bytes:
    """An export whose every line takes an id of somebody's: as its own, or as that of what it belongs to."""
    own = [exports.conversation() for _ in range(4)]
    said = [exports.message(line, 1) for line in own]
    provider = exports.provider(id=ids["provider"])
    taken = exports.conversation(id=ids["conversation"], active_leaf_id=ids["message"], title="Mine now")
    first = exports.message(taken, 1, id=ids["message"], content="Mine now")
    things = [exports.attachment(first, id=ids["attachment"]),
              exports.completion(first, id=ids["completion"], provider_id=ids["provider"])]  # fmt: skip
    elsewhere = exports.message(taken, 2)  # of that conversation, behind one of one's own
    answer = exports.message(own[1], 2, {"id": ids["other"]})
    hanging = [
        exports.attachment(said[2], message_id=ids["other"]),
        exports.completion({**said[3], "id": ids["other"]}),
    ]
    return exports.file_of(
        provider, taken, first, *things, own[0], said[0], elsewhere, own[1], said[1], answer,
        own[2], said[2], hanging[0], own[3], said[3], hanging[1])  # fmt: skip


def test_an_import_touches_reveals_and_takes_nothing_of_others(
    app: Flask, ada: Api, bob: Api, make_user: Any
) -> None:
    hers = filled(ada)
    hers["other"] = ada.message(hers["conversation"])["id"]
    unused = {kind: new_id() for kind in hers}
    before, carol = rows_of(app, ada.user_id), make_user()
    reports, exported_by = [], []
    for user, ids in ((bob, hers), (carol, unused)):
        response = user.post("/chat/import", data=file_with(ids), content_type="application/x-ndjson")
        assert response.status_code == 200
        reports.append(response.get_json())
        lines = [line for line in exported(user) if line["type"] not in ("account", "export")]
        assert [line["id"] for line in lines if line["type"] == "provider"] != [ids["provider"]]
        exported_by.append([(line["type"], line.get("title"), line.get("content")) for line in lines])
    for report in reports:
        for error in report["errors"]:
            del error["conversation_id"]
    # with ids that are somebody's it goes exactly as with ids that are nobody's
    assert reports[0] == reports[1]
    assert exported_by[0] == exported_by[1]
    assert reports[0]["conversations"] == {"imported": 1, "updated": 0, "unchanged": 0, "failed": 4}
    assert not changed_tables((before, rows_of(app, ada.user_id)))
    assert ada.get(f"/chat/messages/{hers['message']}").get_json()["content"] == DIARY
    assert bob.get(f"/chat/messages/{hers['message']}").get_json()["content"] == "Mine now"


# -- the schema ---------------------------------------------------------------------------------------------


def test_database_refuses_a_message_in_another_users_conversation(app: Flask, ada: Api, bob: Api) -> None:
    conversation = ada.conversation()["id"]
    intruder = Message(
        user_id=bob.user_id,
        id=new_id(),
        conversation_id=conversation,
        position=1,
        role="user",
        content="x",
        size_bytes=1,
    )
    with app.app_context():
        db.session.add(intruder)
        with pytest.raises(IntegrityError):
            db.session.flush()


def test_database_refuses_an_attachment_on_another_users_message(app: Flask, ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    intruder = Attachment(
        user_id=bob.user_id, message_id=message, position=1, file_type="image/png", file_path="a"
    )
    with app.app_context():
        db.session.add(intruder)
        with pytest.raises(IntegrityError):
            db.session.flush()


def test_database_refuses_a_reply_to_another_users_message(app: Flask, ada: Api, bob: Api) -> None:
    hers, his = ada.message(ada.conversation()["id"]), bob.message(bob.conversation()["id"])
    for mixed in ({**his, "id": hers["id"]}, {**his, "conversation_id": hers["conversation_id"]}):
        with pytest.raises(IntegrityError):
            begin_elsewhere(app, bob.user_id, mixed, new_id())


# -- naming the owner ---------------------------------------------------------------------------------------


def conversation_for(user_id: str) -> dict[str, str]:
    return {"user_id": user_id, "title": "For somebody"}


def test_naming_another_owner_is_forbidden(app: Flask, ada: Api, bob: Api) -> None:
    before = rows_of(app, ada.user_id)
    config = {"user_id": ada.user_id, "provider_id": bob.provider()["id"], "api_key": "sk-1"}
    for path, body in (
        ("/chat/conversations", conversation_for(ada.user_id)),
        ("/chat/user-llm-configs", config),
    ):
        refused = bob.post(path, body)
        unknown = bob.post(path, body | {"user_id": new_id()})
        assert (refused.status_code, told(refused)) == (403, told(unknown))
    assert not changed_tables((before, rows_of(app, ada.user_id)))


@pytest.mark.parametrize("role", ["admin", "service"])
def test_trusted_account_acts_for_a_user_by_the_bodys_user_id(
    ada: Api, make_user: Callable[..., Api], role: str
) -> None:
    acting = make_user(role)
    made = acting.made("/chat/conversations", conversation_for(ada.user_id))
    assert ada.get(f"/chat/conversations/{made['id']}").get_json() == made
    assert acting.get(f"/chat/conversations/{made['id']}").status_code == 404  # it is hers alone


@pytest.mark.parametrize("role", ["admin", "service"])
def test_trusted_account_acts_for_a_user_by_header(
    ada: Api, make_user: Callable[..., Api], role: str
) -> None:
    acting, hers = make_user(role), filled(ada)
    headers = {"X-Act-As": ada.user_id}
    time.sleep(
        REFUSES_WITHIN_S
    )  # so that the first look at what is used reads it, and finds what others made
    for path in (
        f"/chat/conversations/{hers['conversation']}",
        f"/chat/conversations/{hers['conversation']}/messages",
        f"/chat/messages/{hers['message']}",
        f"/chat/messages/{hers['message']}/attachments",
        "/chat/conversations",
        f"/chat/llm-providers/{hers['provider']}",
        f"/chat/user-llm-configs/{ada.user_id}/{hers['provider']}",
        f"/chat/conversations/{hers['conversation']}/completions",
        f"/chat/completions/{hers['completion']}",
        f"/chat/llm-providers/{hers['provider']}/models",
        "/chat/llm-providers",
        "/chat/user-llm-configs",
        "/chat/usage",
    ):
        answer = acting.get(path, headers=headers)
        assert (answer.status_code, answer.get_json()) == (200, ada.get(path).get_json())
    events = f"/chat/completions/{hers['completion']}/events"
    with acting.get(events, headers=headers) as seen, ada.get(events) as own:
        assert (seen.status_code, seen.get_data()) == (200, own.get_data())
    message = {"conversation_id": hers["conversation"], "role": "user", "content": "From the back end"}
    made = acting.made("/chat/messages", message, headers=headers)
    assert made in ada.get(f"/chat/conversations/{hers['conversation']}/messages").get_json()
    place = f"/chat/conversations/{hers['conversation']}"
    renamed = acting.patch(place, {"title": "By the back end"}, headers=headers)
    assert renamed.get_json() == ada.get(place).get_json()
    asked = {"conversation_id": hers["conversation"], "provider_id": hers["provider"], "model": "m"}
    reply = acting.made("/chat/completions", asked, headers=headers)
    assert ada.get(f"/chat/completions/{reply['id']}").get_json() == reply
    assert acting.get(f"/chat/completions/{reply['id']}").status_code == 404
    cancelled = acting.post(f"/chat/completions/{reply['id']}/cancel", headers=headers)
    assert (cancelled.status_code, cancelled.get_json()) == (200, reply)
    provider = acting.made(
        "/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example"}, headers=headers
    )
    assert provider["owner_id"] == ada.user_id
    path = f"/chat/llm-providers/{provider['id']}"
    assert acting.patch(path, {"name": "Q"}, headers=headers).get_json() == ada.get(path).get_json()
    config = f"/chat/user-llm-configs/{ada.user_id}/{provider['id']}"
    assert acting.put(config, {"api_key": "sk-1"}, headers=headers).status_code == 201
    assert acting.put(config, {"api_key": "sk-2"}).status_code == 200  # the path names her as well
    for changed in (config, path, f"/chat/messages/{made['id']}", place):
        assert acting.delete(changed, headers=headers).status_code == 204
        assert ada.get(changed).status_code == 404


def test_acting_for_one_user_reaches_no_third_one(ada: Api, bob: Api, trusted: Api) -> None:
    headers = {"X-Act-As": ada.user_id}
    assert (
        trusted.post("/chat/conversations", conversation_for(bob.user_id), headers=headers).status_code == 403
    )
    his = bob.conversation()["id"]
    assert trusted.get(f"/chat/conversations/{his}", headers=headers).status_code == 404


@pytest.mark.parametrize("role", ["admin", "service"])
def test_acting_for_an_unknown_user_is_404(make_user: Callable[..., Api], role: str) -> None:
    acting, nobody = make_user(role), str(uuid.uuid4())
    own = acting.conversation()["id"]
    assert acting.post("/chat/conversations", conversation_for(nobody)).status_code == 404
    config = {"user_id": nobody, "provider_id": acting.provider()["id"], "api_key": "sk-1"}
    assert acting.post("/chat/user-llm-configs", config).status_code == 404
    for user_id in (nobody, "nobody", "", "0", "' OR 1=1 --", f"{{{nobody}}}", nobody.replace("-", "")):
        refused = acting.get(f"/chat/conversations/{own}", headers={"X-Act-As": user_id})
        assert refused.status_code == 404, user_id


def test_ordinary_user_acts_for_nobody_else(ada: Api, bob: Api) -> None:
    """And can't find out that way who exists."""
    hers = ada.conversation()["id"]
    answers = [
        bob.get(f"/chat/conversations/{hers}", headers={"X-Act-As": user_id})
        for user_id in (ada.user_id, str(uuid.uuid4()), "nobody")
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert told(answers[0]) == told(answers[1]) == told(answers[2])


def test_acting_for_oneself_is_allowed(ada: Api) -> None:
    hers = ada.conversation()["id"]
    assert (
        ada.get(f"/chat/conversations/{hers}", headers={"X-Act-As": ada.user_id.upper()}).status_code == 200
    )


def test_acting_for_an_admin_makes_no_admin(admin: Api, trusted: Api) -> None:
    provider = {"name": "P", "api_endpoint": "https://p.example", "shared": True}
    shared = admin.made("/chat/llm-providers", provider)
    path, headers = f"/chat/llm-providers/{shared['id']}", {"X-Act-As": admin.user_id}
    for refused in (
        trusted.post("/chat/llm-providers", provider, headers=headers),
        trusted.patch(path, {"name": "Q"}, headers=headers),
        trusted.delete(path, headers=headers),
    ):
        assert refused.status_code == 403
    assert admin.get(path).get_json() == shared


def test_only_an_admin_shares_a_provider(ada: Api, trusted: Api) -> None:
    for user in (ada, trusted):
        body = {"name": "P", "api_endpoint": "https://p.example", "shared": True}
        assert user.post("/chat/llm-providers", body).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/me"),
        ("DELETE", "/auth/me"),
        ("POST", "/auth/logout"),
        ("GET", "/auth/tokens"),
        ("POST", "/auth/tokens"),
    ],
)
def test_nobody_acts_for_another_in_accounts(ada: Api, admin: Api, method: str, path: str) -> None:
    refused = admin.request(method, path, headers={"X-Act-As": ada.user_id}, json={"name": "script"})
    assert refused.status_code == 403
    assert ada.get("/auth/me").status_code == 200
    assert admin.get("/auth/me").status_code == 200
