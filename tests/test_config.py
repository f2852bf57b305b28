"""The settings: defaults, what production refuses, and the secrets that development makes."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from chat_api.factory import create_app
from config import SERVED, Config, ConfigError, RateLimit, misspelt_settings

REPOSITORY = Path(__file__).resolve().parents[1]
STRONG_SECRET = "q8Zt2LrV5nXw0KjHs7Yd3GfBm6Pc9TaE1uRi4oDe"
STRONG_KEY = "kT3vQm0yXb8sRz5LhJ2cWn7aGd4fUe1oPiYtHq6KxMw="


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting from outside, and a data folder of the test's own."""
    for name in Config.__dataclass_fields__:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


def refusal(environment: pytest.MonkeyPatch, **variables: str) -> str:
    """The message with which these variables are refused."""
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        Config.from_environment()
    return str(caught.value)


def in_production(environment: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in {"APP_ENV": "production", "JWT_SECRET_KEY": STRONG_SECRET, "ENCRYPTION_KEYS": STRONG_KEY,
                        **variables}.items():  # fmt: skip
        environment.setenv(name, value)


def test_without_any_variable_it_is_development_on_sqlite(tmp_path: Path) -> None:
    config = Config.from_environment()
    assert (config.APP_ENV, config.HOST, config.PORT) == ("development", "127.0.0.1", 8000)
    assert config.uses_sqlite
    assert config.database_url == f"sqlite:///{tmp_path / 'data' / 'chat.db'}"
    assert config.worker_count == 1
    assert config.LOCAL_ACCOUNTS


def test_every_default_can_be_set_and_quotas_can_be_more(
    environment: pytest.MonkeyPatch,
) -> None:
    numbers = {
        name: field.default for name, field in Config.__dataclass_fields__.items() if field.type is int
    }
    for name, default in numbers.items():
        environment.setenv(name, str(default))
    config = Config.from_environment()
    assert {name: getattr(config, name) for name in numbers} == numbers
    for name in ("MAX_FILE_BYTES_PER_USER", "MAX_ATTACHMENTS_PER_USER", "MAX_COMPLETIONS_PER_USER"):
        environment.setenv(name, str(2 * numbers[name]))
        assert getattr(Config.from_environment(), name) == 2 * numbers[name]


def test_production_starts_with_strong_secrets_and_keeps_none_of_its_own(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_production(environment)
    config = Config.from_environment()
    assert (config.JWT_SECRET_KEY, config.ENCRYPTION_KEYS) == (STRONG_SECRET, (STRONG_KEY,))
    assert not (tmp_path / "data" / "secrets").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET_KEY", ""),
        ("JWT_SECRET_KEY", "short-but-0therwise-g00d"),
        ("JWT_SECRET_KEY", "a" * 64),
        ("JWT_SECRET_KEY", "change-me-" * 8),
        ("ENCRYPTION_KEYS", ""),
        ("ENCRYPTION_KEYS", "no-fernet-key-at-all-but-long-enough-1234567"),
        ("ENCRYPTION_KEYS", "A" * 43 + "="),
        ("ENCRYPTION_KEYS", f"{STRONG_KEY},tooshort"),
    ],
)
def test_production_refuses_a_weak_secret_naming_the_variable_and_not_the_value(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    in_production(environment)
    message = refusal(environment, **{name: value})
    assert name in message
    for secret in (value, STRONG_SECRET, STRONG_KEY, *value.split(",")):
        assert not secret or secret not in message


@pytest.mark.parametrize("token", ["short-token-123", "0" * 64, "ab" * 20])
def test_production_refuses_a_token_of_the_metrics_that_can_be_guessed(
    environment: pytest.MonkeyPatch, token: str
) -> None:
    in_production(environment, METRICS_TOKEN=token)
    with pytest.raises(ConfigError, match="METRICS_TOKEN: Too weak: at least 16") as refusal:
        Config.from_environment()
    assert token not in str(refusal.value)
    environment.setenv("APP_ENV", "development")
    assert token == Config.from_environment().METRICS_TOKEN


def test_production_takes_a_token_of_sixteen_characters(environment: pytest.MonkeyPatch) -> None:
    in_production(environment, METRICS_TOKEN="0123456789abcdef")
    assert Config.from_environment().METRICS_TOKEN == "0123456789abcdef"


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "ENCRYPTION_KEYS"])
def test_production_refuses_to_start_without_a_secret(environment: pytest.MonkeyPatch, name: str) -> None:
    in_production(environment)
    environment.delenv(name)
    with pytest.raises(ConfigError, match=name):
        Config.from_environment()


def test_all_bad_variables_are_named_at_once(environment: pytest.MonkeyPatch) -> None:
    bad = {
        "APP_ENV": "staging",
        "PORT": "http",
        "THREADS": "0",
        "WEB_CONCURRENCY": "-1",
        "LOG_LEVEL": "LOUD",
        "LOCAL_ACCOUNTS": "perhaps",
        "DATABASE_URL": "mysql://user:hunter2-the-password@db/chat",
        "DATABASE_WAIT_S": "soon",
        "MAX_BODY_BYTES": "0",
        "ENCRYPTION_KEYS": "x",
        "JWT_SECRET_KEY": "weak-secret",
        "LOGIN_LIMIT_PER_ACCOUNT": "ten a day",
        "LOGIN_LIMIT_PER_ADDRESS": "",
        "REGISTER_LIMIT_PER_ADDRESS": "0 per hour",
        "OIDC_ISSUER": "id.example.org",
        "REGISTRATION": "friends",
        "INVITATION_URL": "chat.example.org/join",
    }
    message = refusal(environment, **bad)
    assert [name for name in bad if name not in message] == []
    assert "hunter2" not in message
    assert "weak-secret" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTGOING_ALLOWED", "http://10.0.0.5"),
        ("OUTGOING_ALLOWED", "http://10.0.0.5:0"),
        ("OUTGOING_ALLOWED", "http://10.0.0.5:65536"),
        ("OUTGOING_ALLOWED", f"http://{'a' * 254}:80"),
        ("OIDC_KEYS", "https://id.example.org:65536/keys"),
        ("OIDC_KEYS", "https://user:hunter2@id.example.org/keys"),
        ("OIDC_KEYS", "https://id.example.org/keys#first"),
        ("OUTGOING_PROXY", "proxy.example:3128"),
        ("OUTGOING_PROXY", "https://user:hunter2@proxy.example:3128"),
        ("OUTGOING_PROXY", "http://user:hunter2@proxy.example"),
        ("OUTGOING_PROXY", "http://user:hunter2@proxy.example:65536"),
        ("OUTGOING_PROXY", "http://user:hunter2@proxy.example:3128/path"),
        ("OUTGOING_PROXY", "http://us er:hunter2@proxy.example:3128"),
    ],
)
def test_address_that_no_call_would_go_to_stops_the_start(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    message = refusal(environment, **{name: value})
    assert name in message
    assert "hunter2" not in message


def test_without_local_accounts_there_must_be_a_provider(environment: pytest.MonkeyPatch) -> None:
    assert "LOCAL_ACCOUNTS" in refusal(environment, LOCAL_ACCOUNTS="false")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_any_spelling_of_postgres_means_psycopg_3(environment: pytest.MonkeyPatch, scheme: str) -> None:
    environment.setenv("DATABASE_URL", f"{scheme}://ada:pw@db.example/chat?sslmode=require")
    config = Config.from_environment()
    assert config.database_url == "postgresql+psycopg://ada:pw@db.example/chat?sslmode=require"
    assert not config.uses_sqlite


@pytest.mark.parametrize("separator", [",", ", ", " ,"])
def test_several_master_keys_are_separated_by_commas(environment: pytest.MonkeyPatch, separator: str) -> None:
    keys = (STRONG_KEY, Fernet.generate_key().decode())
    in_production(environment, ENCRYPTION_KEYS=separator.join(keys))
    assert list(Config.from_environment().ENCRYPTION_KEYS) == list(keys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "sqlite:////var/lib/chat.db"),
        ("DATABASE_URL", "postgresql:///chat"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "postgresql://ada:p/w:d@[::1]:5433/chat?sslmode=require"),
        ("DATABASE_URL", "postgresql://ada@/chat?host=/run/postgresql"),
        ("MAX_IMPORT_BYTES", str(8 * 1024**3)),
        ("RETENTION_DAYS", "0"),
    ],
)
def test_unusual_value_that_works_is_accepted(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    assert str(getattr(Config.from_environment(), name)) == value


def test_message_has_one_line_for_each_setting(environment: pytest.MonkeyPatch) -> None:
    lines = refusal(environment, PORT="http", THREADS="0").splitlines()
    assert [line.split(":")[0] for line in lines] == ["setting PORT", "setting THREADS"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"keys": []}', '{"keys": [1]}', "{", "-----BEGIN PUBLIC KEY-----", "\xff"]
)
def test_file_without_keys_stops_the_start(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content.encode("latin-1"))
    given = {"OIDC_ISSUER": "https://id.example.org", "OIDC_AUDIENCE": "chat", "OIDC_KEYS": str(file)}
    assert (
        refusal(environment, **given) == "setting OIDC_KEYS: The file has no public key as PEM, and no JWKS."
    )


def test_data_folder_that_can_not_be_used_is_the_only_complaint(environment: pytest.MonkeyPatch) -> None:
    assert refusal(environment, DATA_DIR=__file__).startswith("setting DATA_DIR: Can't be used: ")
    assert "\n" not in refusal(environment, DATA_DIR=__file__)


# -- names that are nearly those of settings --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_STREAM", "MAX_STREAMS"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABASEURL", "DATABASE_URL"),
        ("JWT_SECRET_KEYS", "JWT_SECRET_KEY"),
        ("ENCRYPTION_KEY", "ENCRYPTION_KEYS"),
        ("GRACEFUL_TIMEOUT", "GRACEFUL_TIMEOUT_S"),
        ("MAX_BODY_MB", "MAX_BODY_BYTES"),
        ("ACCESS_TOKEN_HOURS", "ACCESS_TOKEN_MINUTES"),
        ("PROVIDER_IDLE_TIMEOUT_SECONDS", "PROVIDER_IDLE_TIMEOUT_S"),
        ("MAX_STREAMS_PER_USERS", "MAX_STREAMS_PER_USER"),
        ("OIDC_KEY", "OIDC_KEYS"),
        ("THREAD", "THREADS"),
        ("PROT", "PORT"),
        ("max_streams", "MAX_STREAMS"),
        ("port", "PORT"),
    ],
)
def test_misspelt_setting_is_named_with_the_likely_one(
    environment: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    environment.setenv(name, "hunter2")
    assert misspelt_settings() == [f"{name} is not a setting; did you mean {meant}?"]


UNRELATED = (
    "PATH HOME USER LOGNAME HOSTNAME HOSTTYPE HOST_IP SHELL PWD OLDPWD TERM LANG LC_ALL TZ EDITOR PAGER "
    "TMPDIR SHLVL DISPLAY MAIL LS_COLORS SSH_AUTH_SOCK SSH_CONNECTION XDG_RUNTIME_DIR "
    "DBUS_SESSION_BUS_ADDRESS INVOCATION_ID NOTIFY_SOCKET JOURNAL_STREAM LISTEN_FDS MAINPID WATCHDOG_USEC "
    "CREDENTIALS_DIRECTORY STATE_DIRECTORY SYSTEMD_EXEC_PID PYTHONPATH PYTHONUNBUFFERED VIRTUAL_ENV "
    "PIP_INDEX_URL FLASK_APP FLASK_DEBUG FLASK_ENV GUNICORN_CMD_ARGS SECRET_KEY PGHOST PGPORT PGUSER "
    "PGPASSWORD PGDATABASE POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB DATABASE DATABASE_HOST "
    "DATABASE_PORT DATABASE_USER DATABASE_NAME DATABASE_PASSWORD DB_URL REDIS_URL AMQP_URL SENTRY_DSN "
    "DATA DATA_PATH APP APP_NAME APP_ID APP_KEY NODE_ENV RAILS_ENV ENV LOG_FILE LOG_FORMAT LOG_DIR "
    "WORKERS POST SORT PORTS HOSTS http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY "
    "SSL_CERT_FILE CURL_CA_BUNDLE KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_PORT "
    "CHAT_API_PORT CHAT_API_SERVICE_HOST CHAT_API_PORT_8000_TCP OPENAI_API_KEY ANTHROPIC_API_KEY "
    "OPENAI_BASE_URL AWS_REGION AWS_SECRET_ACCESS_KEY GITHUB_TOKEN ACCESS_TOKEN ACCESS_TOKEN_SECRET "
    "REFRESH_TOKEN METRICS_PORT OIDC_CLIENT_ID OIDC_CLIENT_SECRET MAX_JOBS MAX_CONNECTIONS MAX_BODY "
    "RETENTION CI MAKEFLAGS MAKELEVEL PYTEST_CURRENT_TEST BASE_URL _ A "
)


def test_setting_and_what_belongs_to_others_is_not_named(environment: pytest.MonkeyPatch) -> None:
    for name in (*Config.__dataclass_fields__, *UNRELATED.split()):
        environment.setenv(name, "1")
    assert misspelt_settings() == []


# -- .env -------------------------------------------------------------------------------------------------


def read_in(folder: Path, code: str, **variables: str) -> str:
    """What code prints that runs with the settings of a folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "DATA_DIR": str(folder / "data"),
    }
    return subprocess.run(
        [sys.executable, "-c", f"from config import *; {code}"],
        cwd=folder,
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_env_files_fill_in_what_the_environment_does_not_have(tmp_path: Path) -> None:
    """As Flask has it: `.env` before `.flaskenv`, of this folder or of the nearest one above it."""
    (tmp_path / ".env").write_text('PORT=1111\nTHREADS=11\nexport LOG_LEVEL="DEBUG" # comment\n')
    (tmp_path / ".flaskenv").write_text("PORT=2222\nMAX_STREAMS=22\n")
    below = tmp_path / "below"
    below.mkdir()
    code = "c = Config.from_environment(); print(c.PORT, c.THREADS, c.LOG_LEVEL, c.MAX_STREAMS)"
    for folder in (tmp_path, below):
        assert read_in(folder, code) == "1111 11 DEBUG 22"
        assert read_in(folder, code, PORT="3333", MAX_STREAMS="33") == "3333 11 DEBUG 33"
        assert read_in(folder, code, FLASK_SKIP_DOTENV="1") == "8000 8 INFO 100"
        assert read_in(folder, code, FLASK_SKIP_DOTENV="false") == "1111 11 DEBUG 22"


def test_misspelt_name_in_an_env_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABSE_URL=postgresql://h/x\n")
    printed = read_in(tmp_path, "Config.from_environment(); print(*misspelt_settings())")
    assert printed == "DATABSE_URL is not a setting; did you mean DATABASE_URL?"


def test_env_file_that_is_no_text_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")
    code = "\ntry: Config.from_environment()\nexcept ConfigError as error: print(error)"
    assert read_in(tmp_path, code).startswith(f"setting .env: {tmp_path}/.env can't be read: ")


# -- the secrets of development ---------------------------------------------------------------------------


def test_development_makes_its_secrets_once(tmp_path: Path) -> None:
    first, second = Config.from_environment(), Config.from_environment()
    assert first.JWT_SECRET_KEY
    assert (first.JWT_SECRET_KEY, first.ENCRYPTION_KEYS) == (second.JWT_SECRET_KEY, second.ENCRYPTION_KEYS)
    elsewhere = Config.from_environment(DATA_DIR=str(tmp_path / "elsewhere"))
    assert elsewhere.JWT_SECRET_KEY != first.JWT_SECRET_KEY
    assert elsewhere.ENCRYPTION_KEYS != first.ENCRYPTION_KEYS


def test_only_the_owner_can_read_the_secrets_of_development(tmp_path: Path) -> None:
    Config.from_environment()
    folder = tmp_path / "data" / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert sorted(file.name for file in files) == ["encryption_key", "jwt_secret_key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_secret_that_is_set_wins_over_the_kept_one(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("JWT_SECRET_KEY", STRONG_SECRET)
    assert Config.from_environment().JWT_SECRET_KEY == STRONG_SECRET
    assert [file.name for file in (tmp_path / "data" / "secrets").iterdir()] == ["encryption_key"]


def test_processes_that_start_together_agree_on_the_secrets(tmp_path: Path) -> None:
    start = tmp_path / "start"
    code = (
        "import time, pathlib, config\n"
        "print('ready', flush=True)\n"
        f"while not pathlib.Path({str(start)!r}).exists(): time.sleep(0.001)\n"
        f"c = config.Config.from_environment(DATA_DIR={str(tmp_path / 'data')!r})\n"
        "print(c.JWT_SECRET_KEY, *c.ENCRYPTION_KEYS)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    start.touch()
    assert len({process.communicate()[0] for process in processes}) == 1
    assert not any(process.returncode for process in processes)
    assert len(list((tmp_path / "data" / "secrets").iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10 per 15 minutes", (10, 900)),
        ("100 per hour", (100, 3600)),
        ("1/second", (1, 1)),
        (" 3 PER 2 Days ", (3, 172_800)),
        ("5 per month", (5, 2_592_000)),
    ],
)
def test_a_limit_is_so_many_in_a_window(text: str, limit: tuple[int, int]) -> None:
    assert RateLimit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "10", "10 per", "0 per hour", "1 per 0 hours", "10 per fortnight",
                                  "1/second; 5/minute", "-1 per hour", "ten per hour", "1 per hours ago"])  # fmt: skip
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a limit"):
        RateLimit.parse(text)


@pytest.mark.parametrize(
    "path", ["api/chat", "/api/chat/", "/", "/chat", "/chat/ui", "/v1/ui", "/api//chat", "/a b", "/.."]
)
def test_the_path_of_the_ai_sdk_is_one_of_its_own(environment: pytest.MonkeyPatch, path: str) -> None:
    assert "AI_SDK_PATH" in refusal(environment, AI_SDK_PATH=path)


@pytest.mark.parametrize("path", ["", "/api/chat", "/ui", "/apps/one/chat"])
def test_the_path_of_the_ai_sdk_may_be_another(environment: pytest.MonkeyPatch, path: str) -> None:
    environment.setenv("AI_SDK_PATH", path)
    assert path == Config.from_environment().AI_SDK_PATH


def test_no_other_path_is_taken_by_the_ai_sdk() -> None:
    """What is served first in a path must be refused for it."""
    served = {rule.rule.split("/")[1] for rule in create_app(Config.from_environment()).url_map.iter_rules()}
    assert served - {"", "api"} == SERVED
