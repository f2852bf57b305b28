"""Exports as the tests write, read and compare them."""

import hashlib
import io
import zipfile
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id
from chat_api.database.session import Base, db
from tests.support.api import Api

TIME = "2026-11-23T09:30:00.123456Z"
NDJSON = "application/x-ndjson"
Line = dict[str, Any]


def conversation(**fields: Any) -> Line:
    return {
        "type": "conversation",
        "id": new_id(),
        "title": "A conversation",
        "archived": False,
        "pinned": False,
        "active_leaf_id": None,
        "last_position": 0,
        "source": "native",
        "created_at": TIME,
        "updated_at": TIME,
        **fields,
    }


def message(of: Line, position: int, parent: Line | None = None, **fields: Any) -> Line:
    return {
        "type": "message",
        "id": new_id(),
        "conversation_id": of["id"],
        "parent_id": parent["id"] if parent else None,
        "position": position,
        "role": "user",
        "content": "Hello",
        "status": "completed",
        "created_at": TIME,
        **fields,
    }


def attachment(of: Line, **fields: Any) -> Line:
    return {
        "type": "attachment",
        "id": new_id(),
        "message_id": of["id"],
        "file_type": "image/png",
        "file_path": "uploads/a.png",
        "created_at": TIME,
        **fields,
    }


def content_line(of: Line, content: bytes, **fields: Any) -> Line:
    """The line of an attachment with this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    named = {"file_name": "cat.png", "size_bytes": len(content), "sha256": sha256, "path": f"files/{sha256}"}
    return attachment(of, **named | fields)


def zip_of(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def completion(of: Line, **fields: Any) -> Line:
    return {
        "type": "completion",
        "id": new_id(),
        "conversation_id": of["conversation_id"],
        "parent_id": of["id"],
        "branch_id": None,
        "message_id": new_id(),
        "provider_id": new_id(),
        "model": "m",
        "status": "completed",
        "finish_reason": "stop",
        "omitted_messages": 0,
        "omitted_attachments": None,
        "reasoning": None,
        "warnings": None,
        "last_event_id": 6,
        "created_at": TIME,
        "finished_at": TIME,
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "estimated": False},
        "problem": None,
        "outline": [["text", 5]],
        **fields,
    }


def provider(**fields: Any) -> Line:
    return {
        "type": "provider",
        "id": new_id(),
        "name": "P",
        "api_endpoint": "https://p.example/v1",
        "api_format": "openai",
        "context_window": None,
        "created_at": TIME,
        **fields,
    }


def chain(of: Line, length: int) -> list[Line]:
    """So many messages, each the answer to the one before it."""
    messages: list[Line] = []
    for position in range(1, length + 1):
        messages.append(message(of, position, messages[-1] if messages else None))
    return messages


def whole(length: int = 3) -> list[Line]:
    """The lines of a conversation."""
    first = conversation()
    return [first, *chain(first, length)]


def file_of(*lines: Line | bytes, end: bool = True) -> bytes:
    """An export with these lines between its head and its end."""
    kinds = [line.get("type") for line in lines if isinstance(line, dict)]
    head: Line = {"type": "export", "version": 1, "exported_at": TIME}
    last: Line = {
        "type": "end",
        "conversations": kinds.count("conversation"),
        "messages": kinds.count("message"),
    }
    every = [head, *lines, *([last] if end else [])]
    return b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in every)


def send(user: Api, content: bytes, content_type: str | None = NDJSON, **options: Any) -> TestResponse:
    return user.post("/chat/import", data=content, content_type=content_type, **options)


def imported(user: Api, content: bytes, content_type: str | None = NDJSON) -> dict[str, Any]:
    """What the import of this file answers."""
    response = send(user, content, content_type)
    assert response.status_code == 200, response.get_data(as_text=True)
    report: dict[str, Any] = response.get_json()
    return report


def exported(user: Api) -> list[Line]:
    """The lines of the user's export, as they are."""
    return lines_of(user.get("/chat/export"))


def lines_of(response: TestResponse) -> list[Line]:
    """The lines of an export, of which the client has taken leave."""
    with response:
        assert response.status_code == 200, response.get_data(as_text=True)
        return [orjson.loads(line) for line in response.get_data().splitlines()]


def restorable(lines: Iterable[Line]) -> list[Line]:
    """Those that do not tell whose export it is, or when it was made."""
    return [line for line in lines if line["type"] not in ("export", "account", "config")]


def rows_of(app: Flask, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """All that the database holds for a user, but for the account itself."""
    with app.app_context():
        found = {}
        for table in Base.metadata.sorted_tables:
            owner = table.c.get("user_id", table.c.get("owner_id"))
            if owner is not None:
                rows = db.session.execute(sa.select(table).where(owner == user_id)).mappings()
                found[table.name] = sorted((dict(row) for row in rows), key=repr)
        return found
