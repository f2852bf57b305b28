"""Tickets: a stream of events without a token, for a minute and for one completion."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from chat_api.auth import tickets
from tests.completions.chat import Chat, Stream, joined
from tests.support.api import Api
from tests.support.provider import openai_stream


def ticket_of(api: Api, completion_id: str) -> str:
    answer = api.post(f"/chat/completions/{completion_id}/events/ticket")
    assert answer.status_code == 200
    assert answer.get_json()["expires_in"] == 60
    return str(answer.get_json()["url"])


@pytest.mark.happy_path("create_ticket")
def test_a_ticket_opens_the_events_without_a_token(app: Flask, chat: Chat) -> None:
    chat.script(openai_stream("By ", "the ", "river."))
    completion = chat.ask(background=True).get_json()
    url = ticket_of(chat.api, completion["id"])
    browser = Api(app)
    assert joined(Stream(browser.get(url)).rest()) == "By the river."
    again = browser.get(
        url, headers={"Last-Event-ID": "3"}
    )  # an EventSource reconnects with the same address
    assert joined(Stream(again).rest()) == "the river."


def test_a_ticket_opens_nothing_else(app: Flask, chat: Chat) -> None:
    one, other = chat.reply(), chat.reply(content="More")
    ticket = ticket_of(chat.api, one["id"]).partition("?")[2]
    browser = Api(app)
    assert browser.get(f"/chat/completions/{other['id']}/events?{ticket}").status_code == 401
    assert browser.get(f"/chat/completions/{one['id']}?{ticket}").status_code == 401
    assert browser.post(f"/chat/completions/{one['id']}/cancel?{ticket}").status_code == 401
    assert browser.get(f"/chat/conversations?{ticket}").status_code == 401
    assert browser.get("/auth/me", headers={"Authorization": f"Bearer {ticket}"}).status_code == 401


def test_a_caller_of_an_earlier_request_needs_no_ticket_and_gets_nothing(app: Flask, chat: Chat) -> None:
    """What a ticket says is bound to its request, even where several have one application context."""
    completion = chat.reply()
    url = ticket_of(chat.api, completion["id"])
    browser = Api(app)
    with app.app_context():
        assert browser.get(url).status_code == 200
        for path in (url.partition("?")[0], f"/chat/completions/{completion['id']}", "/chat/conversations"):
            assert browser.get(path).status_code == 401


def test_a_ticket_is_over_after_a_minute(app: Flask, chat: Chat) -> None:
    url = ticket_of(chat.api, chat.reply()["id"])
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=59)):
        assert Api(app).get(url).status_code == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=62)):
        assert Api(app).get(url).status_code == 401


def test_what_is_no_ticket_opens_nothing(app: Flask, chat: Chat) -> None:
    url = ticket_of(chat.api, chat.reply()["id"])
    path, _, ticket = url.partition("?ticket=")
    forged = tickets.URLSafeTimedSerializer("another secret", salt="chat-api ticket").dumps(["x"])
    for wrong in ("", "x", ticket[:-1], ticket.swapcase(), forged, str(chat.api.token), "é", "a.b.c"):
        assert Api(app).get(path, query_string={"ticket": wrong}).status_code == 401, wrong
    assert Api(app).get(path, environ_overrides={"QUERY_STRING": "ticket=\xff"}).status_code == 400


def test_nobody_gets_a_ticket_for_the_completion_of_another(ada: Api, bob: Api, chat: Chat) -> None:
    completion = chat.reply()
    path = f"/chat/completions/{completion['id']}/events/ticket"
    assert bob.post(path).status_code == 404
    assert Api(bob.app).post(path).status_code == 401


def test_a_ticket_ends_with_its_login_or_token(app: Flask, chat: Chat) -> None:
    completion = chat.reply()["id"]
    login = chat.api.log_in()
    url = ticket_of(login, completion)
    assert login.post("/auth/logout").status_code == 204
    assert Api(app).get(url).status_code == 401
    made = chat.api.made("/auth/tokens", {"name": "script"})
    url = ticket_of(Api(app, made["token"], chat.api.user), completion)
    assert Api(app).get(url).status_code == 200
    assert chat.api.delete(f"/auth/tokens/{made['id']}").status_code == 204
    assert Api(app).get(url).status_code == 401


def test_a_ticket_of_a_service_account_is_for_the_user_it_acts_for(
    app: Flask, chat: Chat, trusted: Api
) -> None:
    path = f"/chat/completions/{chat.reply()['id']}/events/ticket"
    url = trusted.post(path, headers={"X-Act-As": chat.api.user_id}).get_json()["url"]
    assert Api(app).get(url).status_code == 200
