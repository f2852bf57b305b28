"""The `openai` package: conversations, items, files, embeddings, and what responses are counted and compacted to."""

import base64
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.e2e.account import Account
from tests.live.client import serving
from tests.support.provider import Reply, openai_stream
from tests.support.server import GunicornServer


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[GunicornServer]:
    with serving() as running:
        yield running


def said(text: str) -> Any:
    return {"type": "message", "role": "user", "content": text}


def test_conversations_and_items(client: OpenAI, me: Account) -> None:
    conversation = client.conversations.create(items=[said("Hello")], metadata={"topic": "demo"})
    assert conversation.metadata == {"topic": "demo"}
    assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.retrieve(conversation.id).id == conversation.id
    made = client.conversations.items.create(
        conversation.id, items=[said(str(number)) for number in range(5)]
    )
    assert len(made.data) == 5
    me.script(openai_stream("Here."))
    response = client.responses.create(model=me.name, input="Where?", conversation=conversation.id)
    assert response.conversation is not None
    assert response.conversation.id == conversation.id
    found: list[Any] = list(client.conversations.items.list(conversation.id, limit=2, order="asc"))
    texts = [item.content[0].text for item in found]
    assert texts == ["Hello", *"01234", "Where?", "Here."]
    assert found[-1].id == response.output[0].id
    item = client.conversations.items.retrieve(
        found[0].id, conversation_id=conversation.id, include=["message.input_image.image_url"]
    )
    assert item == found[0]
    deleted = client.conversations.items.delete(found[1].id, conversation_id=conversation.id)
    assert deleted.id == conversation.id
    left: list[Any] = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.id for item in left] == [item.id for item in found if item.id != found[1].id]
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


def test_files(client: OpenAI, me: Account) -> None:
    files = [client.files.create(file=(f"{n}.txt", b"Text %d" % n), purpose="user_data") for n in range(3)]
    assert [file.id for file in client.files.list(limit=2)] == [file.id for file in files[::-1]]
    assert client.files.retrieve(files[0].id) == files[0]
    assert client.files.content(files[0].id).content == b"Text 0"
    expiring = client.files.create(
        file=("a.txt", b"a"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert expiring.expires_at == expiring.created_at + 3600
    me.script(openai_stream("Zero."))
    content: Any = [
        {"type": "input_file", "file_id": files[0].id},
        {"type": "input_text", "text": "What is it?"},
    ]
    client.responses.create(model=me.name, input=[{"role": "user", "content": content}])
    assert "Text 0" in str(me.sent()[-1]["messages"])
    assert client.files.delete(files[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(files[0].id)


def test_embeddings(client: OpenAI, me: Account) -> None:
    encoded = base64.b64encode(struct.pack("<3f", 0.5, 1, 2)).decode()
    body = (
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":"%b"}],"model":"m",'
        b'"usage":{"prompt_tokens":8,"total_tokens":8}}' % encoded.encode()
    )
    me.script(Reply(body, content_type="application/json"))
    answer = client.embeddings.create(model=me.name, input="Hello")
    assert answer.data[0].embedding == [0.5, 1, 2]
    assert answer.usage.total_tokens == 8
    assert me.sent()[-1]["encoding_format"] == "base64"


def test_counted_and_compacted(client: OpenAI, me: Account) -> None:
    counted = client.responses.input_tokens.count(model=me.name, input="Hello there")
    assert counted.input_tokens > 0
    me.script(openai_stream("We spoke."), openai_stream("Gladly."))
    compaction = client.responses.compact(model=me.name, input=[said("Hello")])
    assert compaction.usage.total_tokens > 0
    items: Any = [item.model_dump(exclude_none=True) for item in compaction.output]
    assert client.responses.create(model=me.name, input=[*items, said("More?")]).output_text == "Gladly."
    assert me.sent()[-1]["messages"][0] == {"role": "system", "content": "We spoke."}
    there = client.conversations.create(items=items)
    [stored] = client.conversations.items.list(there.id)
    assert stored.type == "message"
