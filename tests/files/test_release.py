"""Files that nothing refers to any more are released, and removed after the commit."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from chat_api.files import removal
from tests.completions.chat import run_sql
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.uploads import PNG, names_of, uploaded


def remove(app: Flask) -> None:
    with app.app_context():
        removal.remove_all_released_and_commit()


def test_the_last_of_several_attachments_takes_the_bytes_with_it(app: Flask, ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    same = [uploaded(ada), uploaded(ada, message_id=message), uploaded(ada, name="other.png")]
    uploaded(bob)
    for attachment in same:
        assert len(names_of(app, ada)) == 1
        assert ada.delete(f"/chat/attachments/{attachment['id']}").status_code == 204
        assert ada.get(attachment["file_path"]).status_code == 404
        remove(app)
    assert (len(names_of(app, ada)), len(names_of(app, bob))) == (0, 1)
    assert uploaded(ada)["sha256"] == same[0]["sha256"]


def of_message(user: Api, conversation: str, message: str) -> str:
    return f"/chat/messages/{message}"


def of_branch(user: Api, conversation: str, message: str) -> str:
    parent = user.get(f"/chat/messages/{message}").get_json()["parent_id"]
    return f"/chat/messages/{parent}"


def of_conversation(user: Api, conversation: str, message: str) -> str:
    return f"/chat/conversations/{conversation}"


@pytest.mark.parametrize("path_of", [of_message, of_branch, of_conversation])
def test_deleting_what_has_attachments_removes_their_bytes(
    app: Flask, ada: Api, path_of: Callable[..., str]
) -> None:
    conversation = ada.conversation()["id"]
    ada.message(conversation)
    draft = uploaded(ada, b"as a draft", name="a.txt", claimed="")["id"]
    message = ada.message(conversation, attachment_ids=[draft])["id"]
    uploaded(ada, message_id=message)
    kept = uploaded(ada, b"elsewhere", name="a.txt", claimed="")
    assert len(names_of(app, ada)) == 3
    assert ada.delete(path_of(ada, conversation, message)).status_code == 204
    remove(app)
    assert len(names_of(app, ada)) == 1
    assert ada.get(kept["file_path"]).get_data() == b"elsewhere"
    assert run_sql(app, "SELECT 1 FROM file_releases WHERE owner_id = :user", user=ada.user_id) == []


def test_erasing_the_account_removes_its_bytes(app: Flask, make_user: Callable[..., Api], bob: Api) -> None:
    user = make_user()
    uploaded(user)
    uploaded(
        user,
        b"of a message",
        name="a.txt",
        claimed="",
        message_id=user.message(user.conversation()["id"])["id"],
    )
    uploaded(bob)
    assert user.delete("/auth/me").status_code == 204
    remove(app)
    assert (len(names_of(app, user)), len(names_of(app, bob)) > 0) == (0, True)


def test_an_expired_draft_is_deleted_with_its_bytes(app: Flask, ada: Api) -> None:
    expired, kept = uploaded(ada, b"expired", name="a.txt", claimed=""), uploaded(ada)
    run_sql(app, "UPDATE attachment_drafts SET expires_at = created_at WHERE id = :id", id=expired["id"])
    remove(app)
    assert len(names_of(app, ada)) == 1
    assert ada.get(kept["file_path"]).get_data() == PNG


def test_what_a_worker_of_the_older_release_deletes_is_swept(app: Flask, ada: Api) -> None:
    """It knows nothing of releases, and the keys delete what is below an attachment."""
    message = ada.message(ada.conversation()["id"])["id"]
    uploaded(ada, message_id=message)
    run_sql(app, "DELETE FROM attachments WHERE message_id = :id", id=message)
    remove(app)
    assert len(names_of(app, ada)) == 1
    sweep(app, "--dry-run")
    assert len(names_of(app, ada)) == 1
    sweep(app)
    assert names_of(app, ada) == set()


def sweep(app: Flask, *arguments: str) -> Any:
    result = run_flask(lambda: app, "attachments", "sweep", *arguments)
    assert result.exit_code in (0, 1), result.output
    return result


def test_sweep_counts_files_whose_bytes_are_gone(app: Flask, ada: Api) -> None:
    uploaded(ada)
    [name] = names_of(app, ada)
    with app.app_context():
        removal.storage().delete(name)
    result = sweep(app)
    assert result.exit_code == 1
    assert "files whose bytes are gone" in result.output
    ada.delete("/auth/me")
    remove(app)
