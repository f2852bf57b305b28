"""Uploads as clients send them, and what is in the storage."""

import io
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from chat_api.database.session import db
from chat_api.files.models import AttachmentText, StoredFile
from tests.support.api import Api

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(range(100))


def upload(
    user: Api,
    content: bytes = PNG,
    *,
    name: str = "cat.png",
    claimed: str = "image/png",
    headers: dict[str, str] | None = None,
    path: str = "/chat/attachments",
    **fields: str,
) -> TestResponse:
    """Send a file as a browser does."""
    form: dict[str, Any] = {**fields, "file": FileStorage(io.BytesIO(content), name, content_type=claimed)}
    boundary, body = encode_multipart(form)  # the client itself would make a temporary file of a large one
    content_type = f"multipart/form-data; boundary={boundary}"
    return user.request("POST", path, data=body, content_type=content_type, headers=headers)


def uploaded(user: Api, content: bytes = PNG, **options: Any) -> dict[str, Any]:
    response = upload(user, content, **options)
    assert response.status_code == 201, response.get_json()
    attachment: dict[str, Any] = response.get_json()
    return attachment


def stored_names(app: Flask) -> set[str]:
    folder = Path(app.config["DATA_DIR"]) / "files"
    return {path.relative_to(folder).as_posix() for path in folder.glob("*-*/*")}


def names_of(app: Flask, user: Api) -> set[str]:
    return {name for name in stored_names(app) if name.startswith(user.user_id)}


def extract_text(user: Api) -> None:
    """Store a text for one of the user's files, as if it had been extracted."""
    with user.app.app_context():
        its = sa.select(StoredFile.id).where(StoredFile.user_id == user.user_id)
        file_id = db.session.scalars(its.order_by(StoredFile.id)).first()
        db.session.merge(AttachmentText(user_id=user.user_id, file_id=file_id, text="What it says"))
        done = sa.update(StoredFile).where(StoredFile.user_id == user.user_id, StoredFile.id == file_id)
        db.session.execute(done.values(text_state="done"))
        db.session.commit()
