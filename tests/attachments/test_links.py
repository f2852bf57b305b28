"""Signed links: a download without a token, for a short time, and not longer than the login that it was made with."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from flask import Flask

from chat_api.auth.models import RevokedLogin
from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.files import remover
from chat_api.keyring import Keyring
from chat_api.operations import maintenance
from config import fresh_secrets
from tests.attachments.test_downloads import LARGE, _lasting
from tests.completions.chat import run_sql
from tests.conftest import serving, user_maker
from tests.support.api import PASSWORD, Api
from tests.support.problems import assert_problem
from tests.support.tables import everything_stored, owned_rows
from tests.support.uploads import PNG, names_of, uploaded

MANY = 3600  # the default of MAX_LINK_S


def link_to(user: Api, attachment: dict[str, Any], **options: Any) -> str:
    """The address of a link."""
    answer = user.post(f"/chat/attachments/{attachment['id']}/link", options)
    assert answer.status_code == 200, answer.get_json()
    return str(answer.get_json()["url"])


def later(seconds: float) -> time_machine.travel:
    return time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.fixture
def browser(app: Flask) -> Api:
    """Somebody without a token."""
    return Api(app)


@pytest.mark.happy_path("create_link")
def test_link_opens_the_content_without_a_token(app: Flask, ada: Api, browser: Api) -> None:
    attachment = uploaded(ada)
    began = datetime.now(UTC)
    answer = ada.post(f"/chat/attachments/{attachment['id']}/link", {"expires_in_s": 60, "single_use": True})
    assert answer.status_code == 200
    made = answer.get_json()
    assert set(made) == {"url", "expires_at", "single_use"}
    assert made["single_use"] is True
    lifetime = datetime.fromisoformat(made["expires_at"]) - began
    assert 60 <= lifetime.total_seconds() < 65
    assert answer.headers["Cache-Control"] == "no-store"
    path, _, link = made["url"].partition("?link=")
    assert path == attachment["file_path"]
    assert link.encode() not in everything_stored(app).encode()
    by_token, by_link = ada.get(path), browser.get(made["url"])
    assert (by_link.status_code, by_link.get_data()) == (200, PNG)
    assert _lasting(by_token.headers) == _lasting(by_link.headers)


def test_link_may_be_used_again_until_it_expires(ada: Api, browser: Api) -> None:
    url = link_to(ada, uploaded(ada))  # without a body: for LINK_S
    for seconds, status in ((0, 200), (1, 200), (298, 200), (301, 401)):
        with later(seconds):
            answer = browser.get(url)
        assert answer.status_code == status, seconds
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_link_takes_ranges_and_conditions(ada: Api, browser: Api) -> None:
    attachment = uploaded(ada, LARGE, name="a.bin", claimed="")
    url = link_to(ada, attachment)
    part = browser.get(url, headers={"Range": "bytes=10-19"}, buffered=True)
    assert (part.status_code, part.get_data()) == (206, LARGE[10:20])
    assert browser.get(url, headers={"If-None-Match": f'"{attachment["sha256"]}"'}).status_code == 304
    assert browser.request("HEAD", url).headers["Content-Length"] == str(len(LARGE))


@pytest.mark.parametrize("seconds", [0, -1, MANY + 1, 10**9, 1.5, "60", True])
def test_lifetime_has_limits(ada: Api, seconds: Any) -> None:
    answer = ada.post(f"/chat/attachments/{uploaded(ada)['id']}/link", {"expires_in_s": seconds})
    assert_problem(answer, 400, "expires_in_s")


def test_longest_lifetime_is_that_of_the_setting(
    app: Flask, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/chat/attachments/{uploaded(ada)['id']}/link"
    assert ada.post(path, {"expires_in_s": MANY}).status_code == 200
    monkeypatch.setitem(app.config, "MAX_LINK_S", 10)
    assert ada.post(path, {"expires_in_s": 11}).status_code == 400
    assert ada.post(path, {"expires_in_s": 10}).status_code == 200


def test_there_is_no_link_to_what_is_not_ones_own_or_has_no_content(ada: Api, bob: Api, browser: Api) -> None:
    attachment = uploaded(ada)
    label = ada.attachment(ada.message(ada.conversation()["id"])["id"])
    answers = [bob.post(f"/chat/attachments/{id_}/link", {}) for id_ in (attachment["id"], new_id())]
    for answer in answers:
        assert_problem(answer, 404)
    assert answers[0].get_json()["detail"] == answers[1].get_json()["detail"]
    assert_problem(ada.post(f"/chat/attachments/{label['id']}/link", {}), 404)
    assert_problem(browser.post(f"/chat/attachments/{attachment['id']}/link", {}), 401)
    assert_problem(
        ada.post(f"/chat/attachments/{attachment['id']}/link", {"disposition": "inline"}), 400, "disposition"
    )


def test_link_opens_nothing_else(ada: Api, bob: Api, browser: Api) -> None:
    one, other, his = uploaded(ada), uploaded(ada, b"other", name="a.txt", claimed=""), uploaded(bob)
    query = link_to(ada, one).partition("?")[2]
    for path in (
        other["file_path"],
        his["file_path"],
        f"/chat/attachments/{one['id']}",
        f"/chat/attachments/{one['id']}/text",
        "/chat/conversations",
    ):
        assert browser.get(f"{path}?{query}").status_code == 401, path
    for method, path in (
        ("DELETE", f"/chat/attachments/{one['id']}"),
        ("POST", f"/chat/attachments/{one['id']}/link"),
        ("POST", "/chat/attachments"),
        ("DELETE", one["file_path"]),
    ):
        assert browser.request(method, f"{path}?{query}").status_code in (401, 405), path
    link = query.partition("=")[2]
    assert browser.get("/auth/me", headers={"Authorization": f"Bearer {link}"}).status_code == 401
    # whoever sends a token is who the token says
    assert bob.get(f"{one['file_path']}?{query}").status_code == 404
    assert Api(browser.app, "nonsense").get(f"{one['file_path']}?{query}").status_code == 401


def test_what_is_no_link_opens_nothing(app: Flask, ada: Api, browser: Api) -> None:
    attachment = uploaded(ada)
    path, _, link = link_to(ada, attachment).partition("?link=")
    key = fresh_secrets().partition("ENCRYPTION_KEYS=")[2]
    forged = Keyring((key,)).encrypt(b"[]", encryption_context=("attachment link", attachment["id"]))
    stored = app.extensions["chat_api.keyring"].encrypt(b"sk-1", encryption_context=("user_llm_configs", "x"))
    for wrong in (
        "",
        "x",
        link[:-1],
        link.swapcase(),
        forged,
        stored,
        str(ada.token),
        "é",
        "\x00",
        "A" * 5000,
    ):
        assert_problem(browser.get(path, query_string={"link": wrong}), 401)
    assert_problem(browser.get(f"{path}?link={link}&link={link}"), 400, "link")
    assert_problem(browser.get(f"{path}?link=%ff"), 401)
    assert_problem(browser.get(path, environ_overrides={"QUERY_STRING": "link=\xff"}), 400)
    assert_problem(browser.get(path), 401)
    assert browser.get(f"{path}?link={link}").status_code == 200


def test_link_ends_with_its_attachment(app: Flask, ada: Api, browser: Api) -> None:
    message = ada.message(ada.conversation()["id"])
    draft, attached = uploaded(ada), uploaded(ada, message_id=message["id"])
    urls = [link_to(ada, each) for each in (draft, attached)]
    assert [browser.get(url).status_code for url in urls] == [200, 200]
    assert ada.delete(f"/chat/attachments/{draft['id']}").status_code == 204
    assert [browser.get(url).status_code for url in urls] == [404, 200]
    assert ada.delete(f"/chat/messages/{message['id']}").status_code == 204
    assert_problem(browser.get(urls[1]), 404)


def test_link_ends_with_the_login_and_does_not_come_back(only_user: Api) -> None:
    """Also when the revocation is forgotten, which it is when the last access token has expired."""
    ada, app, browser = only_user, only_user.app, Api(only_user.app)
    login = ada.log_in()
    url = link_to(login, uploaded(ada), expires_in_s=MANY)
    assert browser.get(url).status_code == 200
    assert login.post("/auth/logout").status_code == 204
    assert_problem(browser.get(url), 401)
    with later(1800):
        with app.app_context():
            maintenance.purge_expired()
            assert db.session.query(RevokedLogin).count() == 0
        assert_problem(browser.get(url), 401)


def test_link_outlives_the_access_token(ada: Api, browser: Api) -> None:
    url = link_to(ada.log_in(), uploaded(ada), expires_in_s=MANY)
    with later(MANY - 60):
        assert browser.get(url).status_code == 200


def test_link_ends_with_the_token_of_a_script(app: Flask, ada: Api, browser: Api) -> None:
    made = ada.made("/auth/tokens", {"name": "script"})
    url = link_to(Api(app, made["token"], ada.user), uploaded(ada))
    assert browser.get(url).status_code == 200
    assert ada.delete(f"/auth/tokens/{made['id']}").status_code == 204
    assert_problem(browser.get(url), 401)


def test_link_ends_with_the_password_and_the_account(make_user: Callable[..., Api], browser: Api) -> None:
    user = make_user()
    other = user.log_in()
    mine, others = (link_to(each, uploaded(user)) for each in (user, other))
    change = {"current_password": PASSWORD, "password": "another horse battery"}
    assert user.patch("/auth/me", change).status_code == 200
    assert [browser.get(url).status_code for url in (mine, others)] == [200, 401]
    assert user.delete("/auth/me").status_code == 204
    assert browser.get(mine).status_code in (401, 404)


def test_link_of_a_service_account_ends_with_its_role(
    app: Flask, ada: Api, make_user: Callable[..., Api], browser: Api
) -> None:
    service = make_user("service")
    token = service.made("/auth/tokens", {"name": "script"})["token"]
    path = f"/chat/attachments/{uploaded(ada)['id']}/link"
    url = Api(app, token).post(path, {}, headers={"X-Act-As": ada.user_id}).get_json()["url"]
    assert browser.get(url).status_code == 200
    run_sql(app, "UPDATE users SET role = 'user' WHERE id = :id", id=service.user_id)
    assert_problem(browser.get(url), 401)


def test_link_of_a_key_that_is_no_longer_in_use_opens_nothing(
    app: Flask, ada: Api, browser: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = link_to(ada, uploaded(ada))
    fresh = fresh_secrets().partition("ENCRYPTION_KEYS=")[2]
    monkeypatch.setitem(app.extensions, "chat_api.keyring", Keyring((fresh, *app.config["ENCRYPTION_KEYS"])))
    assert browser.get(url).status_code == 200  # keys are rotated
    monkeypatch.setitem(app.extensions, "chat_api.keyring", Keyring((fresh,)))
    assert_problem(browser.get(url), 401)


# -- for a single use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["small", "large"])
def test_single_use_is_one_answer_with_bytes(app: Flask, ada: Api, browser: Api, content: bytes) -> None:
    attachment = uploaded(ada, content, name="a.bin", claimed="")
    url = link_to(ada, attachment, single_use=True)
    etag = f'"{attachment["sha256"]}"'
    assert browser.request("HEAD", url).status_code == 200
    assert browser.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert browser.get(url, headers={"If-Match": '"x"'}).status_code == 412
    assert browser.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
    assert owned_rows(app, ada.user_id)["used_links"] == 0
    first = browser.get(url, headers={"Range": "bytes=0-9"}, buffered=True)
    assert (first.status_code, first.get_data()) == (206, content[:10])
    for header in ({}, {"If-None-Match": etag}, {"Range": "bytes=10-"}):
        for method in ("GET", "HEAD"):
            assert browser.request(method, url, headers=header).status_code == 401, (method, header)
    assert "has been used" in browser.get(url).get_json()["detail"]
    # who goes on with the download gets another link, to the same bytes
    headers = {"Range": "bytes=10-", "If-Range": etag}
    rest = browser.get(link_to(ada, attachment, single_use=True), headers=headers, buffered=True)
    assert (rest.status_code, rest.get_data()) == (206, content[10:])


def test_what_could_not_be_sent_is_no_use(app: Flask, ada: Api, browser: Api) -> None:
    attachment = uploaded(ada)
    url = link_to(ada, attachment, single_use=True)
    [name] = names_of(app, ada)
    file = Path(app.config["DATA_DIR"]) / "files" / name
    content = file.read_bytes()
    file.unlink()
    assert browser.get(url).status_code == 404
    file.write_bytes(content)
    assert browser.get(url).status_code == 200
    assert browser.get(url).status_code == 401


def test_used_links_are_forgotten_when_they_have_expired(only_user: Api) -> None:
    ada, app, browser = only_user, only_user.app, Api(only_user.app)
    attachment = uploaded(ada)
    for seconds in (60, 600):
        assert browser.get(link_to(ada, attachment, single_use=True, expires_in_s=seconds)).status_code == 200
    assert owned_rows(app, ada.user_id)["used_links"] == 2
    with later(61), app.app_context():
        maintenance.purge_expired()
    assert owned_rows(app, ada.user_id)["used_links"] == 1
    with later(601), app.app_context():
        app.extensions[remover.EXTENSION]._expiry_due = 0.0
        app.extensions[remover.EXTENSION].work()
    assert owned_rows(app, ada.user_id)["used_links"] == 0


def test_link_has_the_path_prefix_of_the_service(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path, TRUSTED_PROXIES=1) as app:
        user = user_maker(app)()
        attachment = uploaded(user)
        answer = user.post(
            f"/chat/attachments/{attachment['id']}/link", headers={"X-Forwarded-Prefix": "/ai"}
        )
    assert answer.get_json()["url"].startswith(f"/ai{attachment['file_path']}?link=")
