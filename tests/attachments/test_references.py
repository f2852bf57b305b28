"""Files that messages name without taking them over."""

import pytest
import sqlalchemy as sa
from flask import Flask

from chat_api.attachments.references import FoundFile, attach_files, find_files
from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.errors import NotFound, Unavailable
from chat_api.files.models import AttachmentDraft
from tests.support.api import Api
from tests.support.uploads import PNG, names_of, uploaded


def attached(user: Api, message_id: str, *files: FoundFile) -> list[str]:
    named = [(new_id(), file) for file in files]
    with user.app.app_context():
        attach_files(user_id=user.user_id, message_id=message_id, files=named)
        db.session.commit()
    return [id_ for id_, _ in named]


def found(user: Api, *attachment_ids: str) -> dict[str, FoundFile]:
    with user.app.app_context():
        return find_files(user_id=user.user_id, attachment_ids=attachment_ids)


def test_one_file_is_of_many_messages(app: Flask, ada: Api) -> None:
    conversation = ada.conversation()["id"]
    first, second = (ada.message(conversation)["id"] for _ in range(2))
    draft, text = uploaded(ada), uploaded(ada, b"Text", name="a.txt", claimed="")
    files = found(ada, draft["id"], text["id"], draft["id"])
    ids = attached(ada, first, files[draft["id"]], files[text["id"]])
    again = found(ada, *ids)
    ids += attached(ada, second, again[ids[0]])
    assert [
        (each["id"], each["file_name"], each["file_type"], each["size_bytes"])
        for message_id in (first, second)
        for each in ada.get(f"/chat/messages/{message_id}/attachments").get_json()
    ] == [
        (ids[0], "cat.png", "image/png", len(PNG)),
        (ids[1], "a.txt", "text/plain", 4),
        (ids[2], "cat.png", "image/png", len(PNG)),
    ]
    assert len(names_of(app, ada)) == 2
    assert ada.delete(f"/chat/attachments/{draft['id']}").status_code == 204
    assert ada.get(f"/chat/attachments/{ids[2]}/content").get_data() == PNG


def test_what_can_not_be_found(ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    his = uploaded(bob)["id"]
    of_his = uploaded(bob, message_id=bob.message(bob.conversation()["id"])["id"])["id"]
    expired = uploaded(ada)["id"]
    with ada.app.app_context():
        its = (AttachmentDraft.user_id == ada.user_id, AttachmentDraft.id == expired)
        db.session.execute(
            sa.update(AttachmentDraft).where(*its).values(expires_at=AttachmentDraft.created_at)
        )
        db.session.commit()
    gone = ada.conversation()["id"]
    of_deleted = uploaded(ada, message_id=ada.message(gone)["id"])["id"]
    ada.delete(f"/chat/conversations/{gone}")
    for attachment_id in (his, of_his, expired, of_deleted, ada.attachment(message)["id"], new_id()):
        with pytest.raises(NotFound):
            found(ada, uploaded(ada)["id"], attachment_id)


def test_a_file_that_was_removed_meanwhile(ada: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    [file] = found(ada, uploaded(ada)["id"]).values()
    with pytest.raises(Unavailable):
        attached(ada, message, file._replace(file_id=new_id()))
    assert ada.get(f"/chat/messages/{message}/attachments").get_json() == []
