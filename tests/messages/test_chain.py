"""The chain hash of a message, however it was stored: as if a client had computed it from the texts alone."""

from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.database import statements
from chat_api.database.chaining import chained
from chat_api.database.session import db
from chat_api.messages import service
from chat_api.messages.chain import digest_of
from chat_api.messages.models import Message
from tests.completions.chat import Chat
from tests.support.api import Api
from tests.support.provider import ScriptedProvider
from tests.transfer.exports import exported, imported


def chains_in(app: Flask, user_id: str) -> dict[str, str | None]:
    with app.app_context():
        query = sa.select(Message.id, Message.chain_hash).where(Message.user_id == user_id)
        return {row.id: row.chain_hash for row in db.session.execute(query)}


def expected_chains(user: Api, conversation_id: str) -> dict[str, str | None]:
    """What the messages' texts say, on all branches."""
    chains: dict[str | None, str | None] = {None: ""}
    for message in user.get(f"/chat/conversations/{conversation_id}/messages?branch=all").get_json():
        digest = digest_of(
            role=message["role"],
            content=message["content"],
            tool_calls=message.get("tool_calls", []),
            tool_call_id=message.get("tool_call_id"),
        )
        chains[message["id"]] = chained(chains[message["parent_id"]], digest)
    return {id_: chain for id_, chain in chains.items() if id_ is not None}


def digest_of_call(arguments: str) -> str:
    return digest_of(
        role="assistant", content="", tool_calls=[{"id": "a", "name": "f", "arguments": arguments}]
    )


def forget_chain(app: Flask, message: dict[str, Any]) -> None:
    """As a release has left it that knows no chain hashes."""
    with app.app_context():
        db.session.execute(sa.update(Message).where(Message.id == message["id"]).values(chain_hash=None))
        db.session.commit()


def test_messages_of_all_branches_have_one(app: Flask, ada: Api) -> None:
    id_ = ada.conversation()["id"]
    first = ada.message(id_, "Grüße \\ ' \" 你好")
    ada.message(id_, "Hello", role="assistant")
    ada.message(id_, "Another question", parent_id=first["id"])
    ada.calling(id_, "call_1", "call_2")
    ada.message(id_, "", role="tool", tool_call_id="call_1")
    ada.message(id_, "Be brief.", role="system", parent_id=None)
    chains = chains_in(app, ada.user_id)
    assert chains == expected_chains(ada, id_)
    assert len(set(chains.values())) == 6


@pytest.mark.parametrize(
    ("sent", "sent_again"),
    [
        ('{"b": 1, "a": [1, 2.0]}', '{"a":[1,2],"b":1}'),
        ('{"n": 1e2, "z": -0.0}', '{"n":100,"z":0}'),
        ('{"n": 12345678901234567891}', '{"n":12345678901234567000}'),
        ('{"n": 1e21, "x": true}', '{"n":1e+21,"x":true}'),
        ("", "{}"),
    ],
)
def test_arguments_are_compared_as_javascript_writes_them(sent: str, sent_again: str) -> None:
    assert digest_of_call(sent) == digest_of_call(sent_again)


@pytest.mark.parametrize(
    ("one", "other"), [('{"n": 1}', '{"n": true}'), ('{"n": 1.5}', '{"n": 1}'), ('{"n": "1"}', '{"n": 1}')]
)
def test_other_arguments_are_others(one: str, other: str) -> None:
    assert digest_of_call(one) != digest_of_call(other)


@pytest.mark.parametrize("depth", [10, 253, 254, 255, 300, 900, 1023, 1024, 5000])
def test_arguments_that_are_nested_too_deeply_are_compared_as_text(depth: int) -> None:
    arguments = "[" * depth + "1" + "]" * depth
    assert digest_of_call(arguments) == digest_of_call(arguments)
    assert digest_of_call(arguments) != digest_of_call("[" + arguments + "]")


def test_a_key_makes_no_difference(app: Flask, ada: Api) -> None:
    id_ = ada.conversation()["id"]
    ada.message(id_, "One")
    body = {"conversation_id": id_, "role": "assistant", "content": "Two"}
    assert ada.post("/chat/messages", body, headers={"Idempotency-Key": "k"}).status_code == 201
    assert chains_in(app, ada.user_id) == expected_chains(ada, id_)


def test_replies_have_one_on_the_path_and_beside_it(app: Flask, ada: Api, provider: ScriptedProvider) -> None:
    chat = Chat.begin(ada, provider)
    chat.reply()
    chat.reply(content=None, parent_id=chat.messages[0]["id"])
    chat.reply(content="And now?")
    chains = chains_in(app, ada.user_id)
    assert len(chains) == 5
    assert None not in chains.values()
    assert chains == expected_chains(ada, chat.conversation_id)


def test_equal_histories_have_equal_ones(app: Flask, ada: Api, bob: Api) -> None:
    found = []
    for user in (ada, bob):
        id_ = user.conversation()["id"]
        user.message(id_, "One")
        user.message(id_, "Two", role="assistant")
        found.append(list(chains_in(app, user.user_id).values()))
    assert sorted(map(str, found[0])) == sorted(map(str, found[1]))


@pytest.mark.parametrize("others", [{"role": "user"}, {"content": "Two "}, {"content": "two"}])
def test_another_word_is_another_history(others: dict[str, str]) -> None:
    said: dict[str, Any] = {"role": "assistant", "content": "Two"}
    assert digest_of(**{**said, **others}) != digest_of(**said)


def test_calls_files_and_results_count() -> None:
    def digest(**fields: Any) -> str:
        return digest_of(**{"role": "assistant", "content": "", **fields})

    def call(arguments: str) -> list[dict[str, str]]:
        return [{"id": "a", "name": "f", "arguments": arguments}]

    assert digest(tool_calls=call('{"b":1, "a": 2}')) == digest(tool_calls=call('{"a":2,"b":1}'))
    assert digest(tool_calls=call("")) == digest(tool_calls=call("{}"))
    different = [
        digest(),
        digest(tool_calls=call("{}")),
        digest(tool_calls=call("{broken")),
        digest(tool_call_id="a"),
        digest(file_hashes=["00"]),
        digest(file_hashes=["01"]),
    ]
    assert len(set(different)) == len(different)


def test_what_answers_an_older_release_has_none(app: Flask, ada: Api) -> None:
    id_ = ada.conversation()["id"]
    first = ada.message(id_, "One")
    forget_chain(app, first)
    ada.message(id_, "Two", role="assistant")
    ada.message(id_, "Three", parent_id=first["id"])
    assert set(chains_in(app, ada.user_id).values()) == {None}


def test_a_reply_that_is_replaced_gets_another(app: Flask, ada: Api) -> None:
    id_ = ada.conversation()["id"]
    ada.message(id_, "One")
    reply = ada.message(id_, "Tw", role="assistant")
    with app.app_context(), statements.transaction():
        service.replace_reply(
            user_id=ada.user_id, message_id=reply["id"], content="Two", status="completed", words=[]
        )
    assert chains_in(app, ada.user_id) == expected_chains(ada, id_)


def test_imports_compute_them_again(app: Flask, ada: Api, bob: Api) -> None:
    id_ = ada.conversation()["id"]
    first = ada.message(id_, "One")
    ada.calling(id_, "call_1")
    ada.message(id_, "1", role="tool", tool_call_id="call_1")
    ada.message(id_, "Two", parent_id=first["id"])
    earlier = b"".join(orjson.dumps(line) + b"\n" for line in exported(ada))
    ada.message(id_, "Three")
    later = b"".join(orjson.dumps(line) + b"\n" for line in exported(ada))
    assert b"chain" not in later
    for content in (earlier, later):
        imported(bob, content)
        chains = chains_in(app, bob.user_id)
        assert None not in chains.values()
        assert chains == expected_chains(bob, id_)
    assert chains == chains_in(app, ada.user_id)
