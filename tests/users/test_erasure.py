"""Erasing a user: every row of theirs goes, and nobody else's."""

import pytest
from flask import Flask

from chat_api.auth import service as auth
from chat_api.database.session import db
from chat_api.search_index.models import SearchBacklog
from tests.support.api import PASSWORD, Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import ask_through_dialect, begin_elsewhere, invite, owned_rows
from tests.support.uploads import extract_text, uploaded

LONG = "All that was said. " * 300  # enough for several rows of words on Postgres


def test_deleting_the_account_erases_all_that_it_owns_in_every_table(
    app: Flask, ada: Api, bob: Api, provider: ScriptedProvider, backend: str
) -> None:
    for user in (ada, bob):
        message = user.message(user.conversation()["id"], LONG)
        user.attachment(message["id"])
        uploaded(user, message_id=message["id"])
        draft = uploaded(user, b"a draft", name="a.txt", claimed="")
        link = user.post(f"/chat/attachments/{draft['id']}/link", {"single_use": True}).get_json()["url"]
        assert Api(app).get(link).status_code == 200
        gone = uploaded(user, b"released", name="a.txt", claimed="")
        assert user.delete(f"/chat/attachments/{gone['id']}").status_code == 204
        extract_text(user)
        provider_id = user.provider(api_endpoint=provider.url)["id"]
        user.config(provider_id)
        user.completion(message["conversation_id"], provider_id)
        ask_through_dialect(user, provider_id)
        begin_elsewhere(app, user.user_id, message, provider_id)
        user.made("/auth/tokens", {"name": "script"}, headers={"Idempotency-Key": "one"})
        invite(user)
        with app.app_context():
            db.session.add(SearchBacklog(user_id=user.user_id, upto_id=message["id"], replaces=False))
            db.session.commit()
    bobs = owned_rows(app, bob.user_id)
    empty = {table for table, count in owned_rows(app, ada.user_id).items() if not count}
    always_empty = {"long_message_terms"} if backend == "sqlite" else set()
    assert empty == always_empty, "This test must fill every table that knows a user."
    assert ada.delete("/auth/me").status_code == 204
    left = owned_rows(app, ada.user_id)
    assert left.pop("file_releases") == 3, "Their bytes are deleted after the commit."
    assert not any(left.values())
    assert owned_rows(app, bob.user_id) == bobs


def test_a_login_that_has_ended_already_does_not_stop_the_erasure(app: Flask, ada: Api) -> None:
    """Its access token is obeyed in other workers for up to half a second, and with the password it may erase."""
    assert ada.get("/auth/me").status_code == 200  # reads which logins have ended
    with app.app_context():  # as in another worker
        auth.end_logins(user_id=ada.user_id)
        db.session.commit()
    erased = ada.delete("/auth/me", json={"current_password": PASSWORD})
    if erased.status_code == 401:  # on a slow machine the half second was over
        pytest.skip("The token was not obeyed any more.")
    assert erased.status_code == 204
