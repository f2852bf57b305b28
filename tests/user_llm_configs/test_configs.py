"""Users' provider keys: encrypted, bound to user and provider, rotated while the service runs, never returned."""

import io
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask
from werkzeug.test import TestResponse

from chat_api.database.columns import new_id
from chat_api.database.session import db
from chat_api.errors import KeyUnreadable
from chat_api.telemetry.logs import JsonFormatter
from chat_api.user_llm_configs import service
from chat_api.user_llm_configs.models import UserLLMConfig
from tests.conftest import serving
from tests.support.api import PASSWORD, Api, new_email
from tests.support.tables import everything_stored, fresh_database

KEY = "sk-live-7Yh2kQ9vXw4ZrT6bNc81"


@pytest.fixture
def own_url(backend: str, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own."""
    with fresh_database(backend, tmp_path) as url:
        yield url


def register(app: Flask) -> Api:
    body = {"email": new_email(), "password": PASSWORD}
    return Api(app, user=Api(app).made("/auth/register", body)).log_in()


def opened(app: Flask, config: dict[str, Any]) -> str:
    """The key that the service would send to the provider."""
    with app.app_context():
        owner = {"user_id": config["user_id"], "provider_id": config["provider_id"]}
        return service.open_access(**owner).endpoint.api_key


def ciphertexts_of(app: Flask, *configs: dict[str, Any]) -> list[str]:
    with app.app_context():
        rows = [db.session.get(UserLLMConfig, (config["user_id"], config["id"])) for config in configs]
        return [row.encrypted_api_key for row in rows if row]


def overwrite(app: Flask, config: dict[str, Any], ciphertext: str) -> None:
    with app.app_context():
        own = (UserLLMConfig.user_id == config["user_id"], UserLLMConfig.id == config["id"])
        db.session.execute(sa.update(UserLLMConfig).where(*own).values(encrypted_api_key=ciphertext))
        db.session.commit()


# -- at rest ----------------------------------------------------------------------------------------------


def test_a_key_is_nowhere_in_the_database(app: Flask, ada: Api) -> None:
    body = {"user_id": ada.user_id, "provider_id": ada.provider()["id"], "api_key": KEY}
    config = ada.made("/chat/user-llm-configs", body, headers={"Idempotency-Key": "k"})
    assert opened(app, config) == KEY
    stored = everything_stored(app)
    assert config["id"] in stored
    assert KEY not in stored
    assert KEY[:12] not in stored
    assert KEY.encode().hex() not in stored


def test_a_key_that_is_moved_to_another_row_does_not_open_there(app: Flask, ada: Api, bob: Api) -> None:
    configs = [
        ada.config(ada.provider()["id"], "key-of-ada-0123456789"),
        ada.config(ada.provider()["id"], "another-of-ada-0123456789"),
        bob.config(bob.provider()["id"], "key-of-bob-0123456789"),
    ]
    ciphertext = ciphertexts_of(app, *configs)
    for config, moved in zip(configs, ciphertext[1:] + ciphertext[:1], strict=True):
        overwrite(app, config, moved)
        with pytest.raises(KeyUnreadable):
            opened(app, config)
    for config, own in zip(configs, ciphertext, strict=True):
        overwrite(app, config, own)
        assert opened(app, config).endswith("0123456789")


def test_a_changed_ciphertext_does_not_decrypt(app: Flask, ada: Api) -> None:
    config = ada.config(ada.provider()["id"], KEY)
    (ciphertext,) = ciphertexts_of(app, config)
    overwrite(app, config, ciphertext[:40] + ("A" if ciphertext[40] != "A" else "B") + ciphertext[41:])
    with pytest.raises(KeyUnreadable) as caught:
        opened(app, config)
    assert KEY not in str(caught.value)


def test_without_its_master_key_a_stored_key_does_not_open(own_url: str, tmp_path: Path) -> None:
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(Fernet.generate_key().decode(),)) as app:
        user = register(app)
        config = user.config(user.provider()["id"], KEY)
    with (
        serving(own_url, tmp_path, ENCRYPTION_KEYS=(Fernet.generate_key().decode(),)) as app,
        pytest.raises(KeyUnreadable),
    ):
        opened(app, config)


# -- rotating the master key ------------------------------------------------------------------------------


def test_keys_are_rotated_while_requests_write_and_then_the_old_one_is_not_needed(
    own_url: str, tmp_path: Path
) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    configs: list[dict[str, Any]] = []
    token_body, replay = {"name": "script"}, {"Idempotency-Key": "k"}
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(old,)) as app:
        users = [register(app) for _ in range(3)]
        for user in users:
            configs += [
                user.config(user.provider()["id"], f"sk-before-{number}-0123456789") for number in range(10)
            ]
        tokens = [user.made("/auth/tokens", token_body, headers=replay)["id"] for user in users]
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new, old)) as app:
        ended = threading.Event()

        def write(user: Api) -> None:
            writer = Api(app, user.token, user.user)
            while not ended.is_set():
                configs.append(writer.config(writer.provider()["id"], "sk-during-0123456789"))

        threads = [threading.Thread(target=write, args=(user,)) for user in users[:2]]
        for thread in threads:
            thread.start()
        result = app.test_cli_runner().invoke(args=["keys", "rotate"])
        ended.set()
        for thread in threads:
            thread.join()
        assert result.exit_code == 0, result.output
        assert result.output.startswith("Rotated 33,")
        assert result.output.endswith("can't be opened 0.\n")
        again = app.test_cli_runner().invoke(args=["keys", "rotate"])
        assert again.output.startswith("Rotated 0,")
    assert len(configs) > 30
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new,)) as app:
        keys = [opened(app, config) for config in configs]
        assert keys[:30] == [f"sk-before-{number}-0123456789" for number in range(10)] * 3
        assert set(keys[30:]) == {"sk-during-0123456789"}
        answers = [Api(app, user.token).post("/auth/tokens", token_body, headers=replay) for user in users]
        assert [answer.get_json()["id"] for answer in answers] == tokens


def test_a_key_that_is_replaced_while_it_is_rotated_stays_the_newer_one(own_url: str, tmp_path: Path) -> None:
    """The rotation has read the old key, and is about to write it under the new master key."""
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(old,)) as app:
        user = register(app)
        config = user.config(user.provider()["id"], "sk-before-0123456789")
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new, old)) as app:
        path = f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}"
        answers: list[int] = []

        def replace() -> None:
            body = {"api_key": "sk-during-0123456789"}
            answers.append(Api(app, user.token).put(path, body).status_code)

        replacing = threading.Thread(target=replace)

        def replace_first(connection: Any, cursor: Any, sql: str, *rest: Any) -> None:
            if sql.startswith("UPDATE user_llm_configs") and replacing.ident is None:
                replacing.start()
                replacing.join(timeout=1)  # on SQLite it waits for the rotation, its one writer, to end

        with app.app_context():
            engine = db.engine
        sa.event.listen(engine, "before_cursor_execute", replace_first)
        try:
            assert app.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
        finally:
            sa.event.remove(engine, "before_cursor_execute", replace_first)
        replacing.join()
        assert answers == [200]
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new,)) as app:
        assert opened(app, config) == "sk-during-0123456789"


def test_rotating_says_what_it_cannot_open_and_rotates_the_rest(own_url: str, tmp_path: Path) -> None:
    lost, old, new = (Fernet.generate_key().decode() for _ in range(3))
    for key in (lost, old):
        with serving(own_url, tmp_path, ENCRYPTION_KEYS=(key,)) as app:
            user = register(app)
            config = user.config(user.provider()["id"], KEY)
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new, old)) as app:
        result = app.test_cli_runner().invoke(args=["keys", "rotate"])
        assert result.exit_code == 1
        assert "Rotated 1, already current 0, can't be opened 1." in result.output
        assert not [key for key in (lost, old, new, KEY) if key in result.output]
    with serving(own_url, tmp_path, ENCRYPTION_KEYS=(new,)) as app:
        assert opened(app, config) == KEY


# -- listing, replacing, forgetting -----------------------------------------------------------------------


def path_of(config: dict[str, Any]) -> str:
    return f"/chat/user-llm-configs/{config['user_id']}/{config['provider_id']}"


@pytest.mark.happy_path("list_configs")
def test_the_list_has_ones_own_configs_with_masked_keys(ada: Api, bob: Api, admin: Api) -> None:
    shared = admin.provider(shared=True)["id"]
    bob.config(shared)
    made = [ada.config(provider, KEY) for provider in (ada.provider()["id"], shared, ada.provider()["id"])]
    answer = ada.get("/chat/user-llm-configs")
    assert answer.get_json() == made
    assert {config["api_key"] for config in made} == {"****" + KEY[-4:]}
    assert KEY not in answer.get_data(as_text=True)


@pytest.mark.happy_path("replace_config")
def test_put_replaces_the_key_and_all_that_goes_with_it(app: Flask, ada: Api) -> None:
    provider = ada.provider()["id"]
    body = {"user_id": ada.user_id, "provider_id": provider, "api_key": KEY, "default_model": "m"}
    before = ada.made("/chat/user-llm-configs", {**body, "context_window": 1000})
    answer = ada.put(path_of(before), {"api_key": "sk-other-0123456789", "default_model": "n"})
    after = answer.get_json()
    assert (answer.status_code, "Location" in answer.headers) == (200, False)
    assert after == ada.get(path_of(before)).get_json()
    assert after["updated_at"] > before["updated_at"]
    unchanged = {name: before[name] for name in ("id", "user_id", "provider_id", "created_at")}
    assert after == unchanged | {
        "api_key": "****6789",
        "default_model": "n",
        "context_window": None,
        "updated_at": after["updated_at"],
    }
    assert opened(app, after) == "sk-other-0123456789"
    assert KEY not in answer.get_data(as_text=True)


def test_put_makes_a_config_where_there_is_none(app: Flask, ada: Api) -> None:
    path = f"/chat/user-llm-configs/{ada.user_id}/{ada.provider()['id']}"
    answer = ada.put(path, {"api_key": KEY, "default_model": "m", "context_window": 1000})
    made = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (201, path)
    assert ada.get(path).get_json() == made
    assert (made["default_model"], made["context_window"]) == ("m", 1000)
    assert made["created_at"] == made["updated_at"]
    assert opened(app, made) == KEY


def test_the_answer_of_a_put_has_no_tag(ada: Api) -> None:
    """RFC 9110 section 9.3.4: what is stored is not what was sent."""
    path = f"/chat/user-llm-configs/{ada.user_id}/{ada.provider()['id']}"
    for status in (201, 200):
        answer = ada.put(path, {"api_key": KEY})
        assert (answer.status_code, "ETag" in answer.headers) == (status, False)


def test_the_same_key_again_is_another_version(ada: Api) -> None:
    config = ada.config(ada.provider()["id"], KEY)
    before = ada.get(path_of(config)).headers["ETag"]
    assert ada.put(path_of(config), {"api_key": KEY}).status_code == 200
    assert ada.get(path_of(config)).headers["ETag"] != before


def test_first_puts_at_once_leave_one_config(app: Flask, ada: Api) -> None:
    path, start = f"/chat/user-llm-configs/{ada.user_id}/{ada.provider()['id']}", threading.Barrier(6)

    def put(number: int) -> TestResponse:
        start.wait()
        return ada.put(path, {"api_key": f"sk-0123456789-{number:04}"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(put, range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    [config] = ada.get("/chat/user-llm-configs").get_json()
    assert {answer.get_json()["id"] for answer in answers} == {config["id"]}
    last = next(answer.get_json() for answer in answers if answer.get_json() == config)
    assert opened(app, config).endswith(last["api_key"][-4:])


def test_a_put_of_what_can_not_be_there_is_not_found(ada: Api, bob: Api, trusted: Api) -> None:
    own, his = ada.provider()["id"], bob.provider()["id"]
    for user, owner, provider in (
        (ada, ada.user_id, new_id()),
        (ada, ada.user_id, his),
        (ada, bob.user_id, his),
        (ada, new_id(), own),
        (trusted, new_id(), own),
        (trusted, bob.user_id, own),
    ):
        answer = user.put(f"/chat/user-llm-configs/{owner}/{provider}", {"api_key": KEY})
        assert answer.status_code == 404
        assert KEY not in answer.get_data(as_text=True)
    assert bob.get("/chat/user-llm-configs").get_json() == []


@pytest.mark.happy_path("delete_config")
def test_a_forgotten_key_is_gone_and_can_be_given_again(app: Flask, ada: Api) -> None:
    config, kept = (ada.config(ada.provider()["id"], KEY) for _ in range(2))
    assert ada.delete(path_of(config)).status_code == 204
    assert ada.get(path_of(config)).status_code == 404
    assert ada.delete(path_of(config)).status_code == 404
    assert ada.get("/chat/user-llm-configs").get_json() == [kept]
    again = ada.config(config["provider_id"], "sk-again-0123456789")
    assert again["id"] != config["id"]
    assert opened(app, again) == "sk-again-0123456789"


# -- never returned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "masked"),
    [
        ("sk-0123456789abcdef", "****cdef"),
        ("0123456789abcdef", "****cdef"),
        ("0123456789abcde", "****cde"),
        ("01234567", "****67"),
        ("0123", "****3"),
        ("012", "****"),
        ("0", "****"),
    ],
)
def test_answers_show_at_most_the_last_four_characters_and_little_of_a_short_key(
    ada: Api, key: str, masked: str
) -> None:
    provider = ada.provider()["id"]
    config = ada.config(provider, key)
    assert config["api_key"] == masked
    got = ada.get(f"/chat/user-llm-configs/{ada.user_id}/{provider}")
    assert got.get_json() == config
    if len(key) > 4:
        assert key not in got.get_data(as_text=True)


def test_refusals_do_not_repeat_the_key(ada: Api) -> None:
    provider = ada.provider()["id"]
    body = {"user_id": ada.user_id, "provider_id": provider, "api_key": KEY}
    ada.made("/chat/user-llm-configs", body)
    answers = [
        ada.post("/chat/user-llm-configs", body),
        ada.post("/chat/user-llm-configs", {**body, "provider_id": ada.user_id}),
        ada.post("/chat/user-llm-configs", {**body, "user_id": provider}),
        ada.post("/chat/user-llm-configs", {**body, "api_key": [KEY]}),
        ada.post("/chat/user-llm-configs", {**body, "api_key": f"{KEY}\n"}),
        ada.post("/chat/user-llm-configs", {**body, "api_key": KEY * 200}),
        ada.post("/chat/user-llm-configs", {**body, "provider_id": KEY}),
        ada.post("/chat/user-llm-configs", data=f'{{"api_key": "{KEY}', content_type="application/json"),
    ]
    path = f"/chat/user-llm-configs/{ada.user_id}"
    answers += [
        ada.put(f"{path}/{provider}", {"api_key": f"{KEY}\n"}),
        ada.put(f"{path}/{provider}", {"api_key": KEY, "default_model": [KEY]}),
        ada.put(f"{path}/{ada.user_id}", {"api_key": KEY}),
        ada.put(f"{path}/{provider}", {"api_key": KEY}, headers={"If-Match": '"another"'}),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [409, 404, 403, 400, 400, 400, 400, 400, 400, 400, 404, 412]
    assert not [answer for answer in answers if KEY in answer.get_data(as_text=True)]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that the service and its libraries log, as they would write it."""
    text = io.StringIO()
    handlers = {"chat_api": JsonFormatter(), "sqlalchemy": None, "": None}
    level, added = logging.getLogger("chat_api").level, []
    for name, formatter in handlers.items():
        handler = logging.StreamHandler(text)
        handler.setFormatter(formatter)
        logging.getLogger(name).addHandler(handler)
        added.append((name, handler))
    yield text
    for name, handler in added:
        logging.getLogger(name).removeHandler(handler)
    logging.getLogger("chat_api").setLevel(level)


def drop_a_column(app: Flask) -> None:
    with app.app_context():
        db.session.execute(sa.text("ALTER TABLE user_llm_configs DROP COLUMN sealed_api_key"))
        db.session.commit()


def refuse_by_a_constraint(app: Flask) -> None:
    """A refusal whose DETAIL quotes the row on Postgres."""
    with app.app_context():
        if db.engine.dialect.name == "postgresql":
            db.session.execute(sa.text("ALTER TABLE user_llm_configs ADD CHECK (length(sealed_api_key) < 5)"))
        else:
            db.session.execute(
                sa.text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON user_llm_configs"
                    " BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            )
        db.session.commit()


def fail_in_the_middle(app: Flask) -> None:
    """An error of our own, caused by another one."""
    sa.event.listen(UserLLMConfig, "before_insert", _fail)


def _fail(mapper: Any, connection: Any, config: UserLLMConfig) -> None:
    try:
        raise KeyError(config.id)
    except KeyError as error:
        raise RuntimeError("the insert fails") from error


@pytest.mark.parametrize("break_it", [drop_a_column, refuse_by_a_constraint, fail_in_the_middle])
def test_a_key_is_in_no_log_and_no_traceback(
    own_url: str, tmp_path: Path, written: io.StringIO, capfd: pytest.CaptureFixture[str], break_it: Any
) -> None:
    with serving(own_url, tmp_path, LOG_LEVEL="DEBUG") as app:
        user = register(app)
        body = {"user_id": user.user_id, "provider_id": user.provider()["id"], "api_key": KEY}
        break_it(app)
        try:
            response = user.post("/chat/user-llm-configs", body, headers={"Idempotency-Key": KEY})
        finally:
            if sa.event.contains(UserLLMConfig, "before_insert", _fail):
                sa.event.remove(UserLLMConfig, "before_insert", _fail)
        assert user.get("/auth/me").status_code == 200
    assert response.status_code in (409, 500, 503), response.get_data(as_text=True)
    output = written.getvalue() + "".join(capfd.readouterr())
    assert '"route":"/chat/user-llm-configs"' in output
    assert ("traceback" in output) == (response.status_code != 409)
    for secret in (KEY, PASSWORD, user.token, user.refresh_token):
        assert str(secret) not in output
        assert str(secret) not in response.get_data(as_text=True)
