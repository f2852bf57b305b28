"""Erasing a user: every row of theirs goes, and nobody else's."""

import pytest
from flask import Flask

from chat_api.auth import service as auth
from chat_api.database.session import db
from chat_api.search_index.models import SearchBacklog
from tests.support.api import PASSWORD, Api
from tests.support.provider import ScriptedProvider
from tests.support.tables import begin_elsewhere, invite, owned_rows


def test_deleting_the_account_erases_all_that_it_owns_in_every_table(
    app: Flask, ada: Api, bob: Api, provider: ScriptedProvider
) -> None:
    for user in (ada, bob):
        message = user.message(user.conversation()["id"])
        user.attachment(message["id"])
        provider_id = user.provider(api_endpoint=provider.url)["id"]
        user.config(provider_id)
        user.completion(message["conversation_id"], provider_id)
        begin_elsewhere(app, user.user_id, message, provider_id)
        user.made("/auth/tokens", {"name": "script"}, headers={"Idempotency-Key": "one"})
        invite(user)
        with app.app_context():
            db.session.add(SearchBacklog(user_id=user.user_id, upto_id=message["id"], replaces=False))
            db.session.commit()
    bobs = owned_rows(app, bob.user_id)
    assert all(owned_rows(app, ada.user_id).values()), "This test must fill every table that knows a user."
    assert ada.delete("/auth/me").status_code == 204
    assert not any(owned_rows(app, ada.user_id).values())
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
