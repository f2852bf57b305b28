"""What stands in the tables, read past the service."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from chat_api.auth import invitations
from chat_api.auth import service as auth
from chat_api.completions.models import Completion, CompletionCheckpoint
from chat_api.conversations.models import Conversation
from chat_api.database.columns import new_id, now
from chat_api.database.session import db
from chat_api.messages.models import Message
from tests.conftest import TEMPLATE, migrate
from tests.support.api import Api
from tests.support.postgres import create_database, drop_database, ensure_template


def owned_rows(app: Flask, user_id: str) -> dict[str, int]:
    """How many rows each table has of this user; tables that know no user are left out."""
    counts = {}
    with app.app_context():
        for table in db.metadata.sorted_tables:
            owner = table.c.id if table.name == "users" else table.c.get("user_id", table.c.get("owner_id"))
            if owner is not None:
                query = sa.select(sa.func.count()).select_from(table).where(owner == user_id)
                counts[table.name] = db.session.scalar(query) or 0
    return counts


def path_in_tables(app: Flask, user_id: str, conversation_id: str, *, counts_bytes: bool = True) -> list[str]:
    """The ids on the active path, after a look at all rows: they form one tree, and the path is one way up in it.

    Without `counts_bytes` an older release has appended, whose bytes are counted only when somebody looks for faults.
    """
    here = (Message.user_id == user_id, Message.conversation_id == conversation_id)
    with app.app_context():
        conversation = db.session.get_one(Conversation, (user_id, conversation_id))
        found = db.session.scalars(sa.select(Message).where(*here).order_by(Message.position)).all()
        rows = {message.id: message for message in found}
        for message in found:
            if message.parent_id is not None:
                assert message.parent_id in rows, "It answers what is not in this conversation."
                assert rows[message.parent_id].position < message.position
        positions = [message.position for message in found]
        assert len(set(positions)) == len(positions)
        assert all(0 < position <= conversation.last_position for position in positions)
        assert conversation.message_count == len(rows)
        if counts_bytes:
            assert conversation.content_bytes == sum(message.size_bytes for message in found)
        path: list[str] = []
        id_ = conversation.active_leaf_id
        while id_ is not None:
            path.insert(0, id_)
            id_ = rows[id_].parent_id
        assert [message.id for message in found if message.on_path] == path
        assert conversation.path_length == len(path)
        return path


def everything_stored(app: Flask) -> str:
    """All values of all tables as text, and the bytes of the SQLite file and its log."""
    with app.app_context():
        parts = [
            repr(tuple(row))
            for table in db.metadata.sorted_tables
            for row in db.session.execute(sa.select(table))
        ]
        path = db.engine.url.database
        if app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite") and path:
            files = [file for file in (Path(path), Path(path + "-wal")) if file.exists()]
            # Read by another process: if this one closed the file, it would lose all of its locks on it, and whoever
            # comes next would take the log for abandoned (sqlite.org/howtocorrupt.html, section 2.2)
            parts.append(
                subprocess.run(["cat", *files], capture_output=True, check=True).stdout.decode("latin-1")
            )
    return "\n".join(parts)


def begin_elsewhere(app: Flask, user_id: str, message: dict[str, Any], provider_id: str) -> str:
    """The id of a reply to this message that another worker writes for the next minute: `By the river`, so far."""
    moment, completion_id = now(), new_id()
    completion = Completion(
        user_id=user_id,
        id=completion_id,
        conversation_id=message["conversation_id"],
        parent_id=message["id"],
        message_id=new_id(),
        provider_id=provider_id,
        model="m",
        status="in_progress",
        prompt_tokens=1,
        usage_estimated=True,
        omitted_messages=0,
        worker_id=new_id(),
        lease_expires_at=moment + timedelta(minutes=1),
        created_at=moment,
    )
    pieces = [(0, '[["text","By the "]]'), (7, '[["text","river"]]')]
    with app.app_context():
        db.session.add(completion)
        db.session.flush()
        for position, chunks in pieces:
            db.session.add(
                CompletionCheckpoint(
                    user_id=user_id, completion_id=completion_id, position=position, chunks=chunks
                )
            )
        db.session.commit()
    return completion_id


def ask_through_dialect(user: Api, provider_id: str) -> str:
    """The id of a reply to a client of OpenAI's dialect that may send its request again, below /v1."""
    body = {"model": f"{provider_id}/m", "messages": [{"role": "user", "content": "Hello"}]}
    response = user.post("/v1/chat/completions", body, headers={"X-Stainless-Retry-Count": "0"})
    assert response.status_code == 200, response.get_data(as_text=True)
    answered: str = response.get_json()["id"]
    return answered


@contextmanager
def fresh_database(backend: str, folder: Path, *, migrated: bool = True) -> Iterator[str]:
    """The URL of a database of one test's own."""
    if backend == "sqlite":
        url = f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}"
        if migrated:
            migrate(url, folder)
        yield url
        return
    name = f"own_{uuid.uuid4().hex[:12]}"
    template = ensure_template(TEMPLATE, lambda url: migrate(url, folder)) if migrated else None
    try:
        yield create_database(name, template)
    finally:
        drop_database(name)


def invite(user: Api, email: str | None = None) -> str:
    """An invitation of a user, whatever their role; its id."""
    with user.app.app_context():
        invitation, _ = invitations.create_invitation(user_id=user.user_id, email=email, expires_in_days=7)
        db.session.commit()
        return str(invitation.id)


def promote(user: Api) -> None:
    """Make a user an admin, who has logged in since."""
    with user.app.app_context():
        auth.set_role(email=user.user["email"], role="admin")
        db.session.commit()
    user.token = user.log_in().token
