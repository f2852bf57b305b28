"""Every setting of the service with its default: the only place that reads the environment.

`Config.from_environment()` reads all variables at once and, where some are wrong, names every one of them
in a single `ConfigError`, so that an operator mends a deployment in one go. `python -m config` prints new secrets.
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from environs import Env, EnvValidationError
from limits import parse
from marshmallow.validate import OneOf, Range

MINIMUM_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key for HS256 is at least as long as its hash
MINIMUM_DISTINCT_CHARACTERS = 12  # "aaaa…" and "change-me-change-me-…" are long, but no secrets
# what the gate for outgoing calls takes, see chat_api/llm/addresses.py
ORIGIN = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))", re.ASCII
)
KEYS_URL = re.compile(ORIGIN.pattern + r"?([/?][\x21\x22\x24-\x7e]*)?", re.ASCII)
PROJECT_FOLDER = Path(__file__).resolve().parent


class ConfigError(Exception):
    """The settings can't be used; the message names each variable and what is wrong with it."""


@dataclass(frozen=True)
class Config:
    """The settings of one deployment. Names are those of the environment variables."""

    # -- where it runs --------------------------------------------------------------------------------
    # "development" makes its own secrets; "production" refuses to start without strong ones
    APP_ENV: str = "development"
    # address and port that gunicorn listens on
    HOST: str = "127.0.0.1"
    PORT: int = 8000
    # worker processes; 0 means one on SQLite and one per core on Postgres
    WEB_CONCURRENCY: int = 0
    # "threads", or "gevent" for a service that holds very many streams (Postgres only)
    WORKER_CLASS: str = "threads"
    # requests that one worker handles at the same time, besides streams
    THREADS: int = 8
    # seconds that a stopping worker gives running requests to end
    GRACEFUL_TIMEOUT_S: int = 30
    # seconds that an idle connection is kept for the client's next request
    KEEPALIVE_S: int = 75
    # addresses of reverse proxies whose X-Forwarded-* headers gunicorn believes
    FORWARDED_ALLOW_IPS: str = "127.0.0.1,::1"
    # how many reverse proxies stand in front; 0 takes the client's address from the connection
    TRUSTED_PROXIES: int = 0
    # least severity of a log line
    LOG_LEVEL: str = "INFO"

    # -- what it keeps --------------------------------------------------------------------------------
    # folder of the embedded database and of the development secrets
    DATA_DIR: str = str(PROJECT_FOLDER / "data")
    # empty means SQLite in DATA_DIR; postgresql://user:password@host/name for production
    DATABASE_URL: str = ""
    # connections to Postgres that one worker may hold for its hot statements, and again for the rest
    DATABASE_POOL_SIZE: int = 8
    # seconds that a request waits for a connection or a lock before it is answered with 503
    DATABASE_WAIT_S: int = 5
    # seconds that Postgres may spend on one statement
    DATABASE_STATEMENT_TIMEOUT_S: int = 15
    # days after which `flask retention` deletes a conversation that nobody used, if it is not pinned; 0: never
    RETENTION_DAYS: int = 0
    # largest request body, in bytes; 1 MiB of text may take 6 MiB when every character is escaped
    MAX_BODY_BYTES: int = 8 * 1024 * 1024
    # largest file that is imported, in bytes as it is sent, and again as it is unpacked
    MAX_IMPORT_BYTES: int = 1024 * 1024 * 1024

    # -- secrets --------------------------------------------------------------------------------------
    # signs access and refresh tokens; at least 32 bytes
    JWT_SECRET_KEY: str = ""
    # Fernet keys that encrypt what is secret at rest, comma-separated; the first encrypts, all decrypt
    ENCRYPTION_KEYS: tuple[str, ...] = ()

    # -- accounts -------------------------------------------------------------------------------------
    # lifetime of an access token
    ACCESS_TOKEN_MINUTES: int = 15
    # a login ends when it was not refreshed for so many days
    REFRESH_TOKEN_DAYS: int = 30
    # a login ends so many days after the password was given, however often it was refreshed
    LOGIN_MAX_DAYS: int = 180
    # failed logins of one account before it has to wait
    LOGIN_LIMIT_PER_ACCOUNT: str = "10 per 15 minutes"
    # logins from one address, whatever the account
    LOGIN_LIMIT_PER_ADDRESS: str = "300 per 15 minutes"
    # registrations from one address
    REGISTER_LIMIT_PER_ADDRESS: str = "1000 per hour"
    # false: no registration and no login here; tokens come from the identity provider below
    LOCAL_ACCOUNTS: bool = True
    # issuer that tokens of the identity provider must name; empty turns such tokens off
    OIDC_ISSUER: str = ""
    # audience that they must name
    OIDC_AUDIENCE: str = ""
    # their keys: path of a PEM file or of a JWKS file, or URL of a JWKS
    OIDC_KEYS: str = ""

    # -- replies of LLM providers ---------------------------------------------------------------------
    # replies, and clients that wait for one or for a list of models, that one worker holds; more are refused with 503
    MAX_STREAMS: int = 100
    # replies in progress of one user over all workers, and clients that wait for one in each; more: 429
    MAX_STREAMS_PER_USER: int = 10
    # scheme://host:port, comma-separated: exceptions from the rule that providers are https at public addresses
    OUTGOING_ALLOWED: tuple[str, ...] = ()
    # tokens that a model takes in, where neither provider nor config says it
    CONTEXT_WINDOW_TOKENS: int = 128_000
    # seconds to wait for a connection to a provider, for the first byte of its answer, for the next one, for all
    PROVIDER_CONNECT_TIMEOUT_S: int = 5
    PROVIDER_FIRST_BYTE_TIMEOUT_S: int = 120
    PROVIDER_IDLE_TIMEOUT_S: int = 60
    PROVIDER_TOTAL_TIMEOUT_S: int = 1800
    # largest reply, in bytes of its text, thoughts and tool calls; what comes after is cut off
    MAX_REPLY_BYTES: int = 1024 * 1024

    # -- watching it ----------------------------------------------------------------------------------
    # bearer token that may read /metrics; empty turns the page off
    METRICS_TOKEN: str = ""

    @classmethod
    def from_environment(cls, **overrides: Any) -> "Config":
        """Read and check all settings; `overrides` win over the environment. Raises ConfigError."""
        problems: dict[str, list[str]] = {}
        config = replace(cls(**_read_environment(problems)), **overrides)
        try:
            if not config.DATABASE_URL:  # the embedded database is nobody else's to read
                Path(config.DATA_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
            if config.APP_ENV == "development":
                config = config._with_development_secrets()
        except OSError as error:
            problems["DATA_DIR"] = [f"Can't be written: {error.strerror}."]
        problems.update(config._problems())
        if problems:
            lines = [f"  {name}: {' '.join(texts)}" for name, texts in sorted(problems.items())]
            raise ConfigError("The service can't start with these settings:\n" + "\n".join(lines))
        return config

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL: `postgres://` and `postgresql://` mean psycopg 3, empty means SQLite."""
        if not self.DATABASE_URL:
            return f"sqlite:///{Path(self.DATA_DIR).resolve() / 'chat.db'}"
        scheme, separator, rest = self.DATABASE_URL.partition("://")
        if scheme in ("postgres", "postgresql"):
            scheme = "postgresql+psycopg"
        return scheme + separator + rest

    @property
    def metrics_folder(self) -> Path | None:
        """Where the workers of this port keep their counters for each other; None where /metrics is off."""
        return Path(self.DATA_DIR).resolve() / "metrics" / str(self.PORT) if self.METRICS_TOKEN else None

    @property
    def uses_sqlite(self) -> bool:
        """Whether the embedded database is used."""
        return self.database_url.startswith("sqlite")

    @property
    def worker_count(self) -> int:
        """Worker processes: as set, else one on SQLite (it has one writer) and one per core on Postgres."""
        return self.WEB_CONCURRENCY or (1 if self.uses_sqlite else os.cpu_count() or 1)

    def as_flask_settings(self) -> dict[str, Any]:
        """All settings under their names, for `app.config`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _problems(self) -> dict[str, list[str]]:
        """What can't be used, by variable."""
        problems: dict[str, list[str]] = {}
        if complaint := _weakness(self.JWT_SECRET_KEY):
            problems["JWT_SECRET_KEY"] = [complaint]
        if complaint := _not_fernet_keys(self.ENCRYPTION_KEYS):
            problems["ENCRYPTION_KEYS"] = [complaint]
        for name in ("LOGIN_LIMIT_PER_ACCOUNT", "LOGIN_LIMIT_PER_ADDRESS", "REGISTER_LIMIT_PER_ADDRESS"):
            if not _is_limit(getattr(self, name)):
                problems[name] = ["Must be one limit, such as: 10 per 15 minutes."]
        if not self.database_url.startswith(("sqlite:", "postgresql+psycopg:")):
            problems["DATABASE_URL"] = ["Must begin with postgresql:// or sqlite:///."]
        if self.WORKER_CLASS == "gevent" and self.uses_sqlite:
            problems["WORKER_CLASS"] = ["gevent needs Postgres: on SQLite one waiting writer would stop all."]
        if wrong := [origin for origin in self.OUTGOING_ALLOWED if not _is_url(origin, ORIGIN)]:
            problems["OUTGOING_ALLOWED"] = [f"Not scheme://host:port: {', '.join(wrong)}."]
        if self.OIDC_ISSUER and not (self.OIDC_AUDIENCE and self.OIDC_KEYS):
            problems["OIDC_ISSUER"] = ["Needs OIDC_AUDIENCE and OIDC_KEYS beside it."]
        if self.OIDC_KEYS.startswith(("http://", "https://")):
            if not _is_url(self.OIDC_KEYS, KEYS_URL):
                problems["OIDC_KEYS"] = ["Not a URL of a host, without credentials and fragment."]
        elif self.OIDC_KEYS:
            if not os.access(self.OIDC_KEYS, os.R_OK):
                problems["OIDC_KEYS"] = ["There is no such file, or it can't be read."]
        if not self.LOCAL_ACCOUNTS and not self.OIDC_ISSUER:
            problems["LOCAL_ACCOUNTS"] = ["Without local accounts OIDC_ISSUER must be set."]
        return problems

    def _with_development_secrets(self) -> "Config":
        """Fill in missing secrets from the data folder, where they are made once."""
        if self.JWT_SECRET_KEY and self.ENCRYPTION_KEYS:
            return self
        return replace(
            self,
            JWT_SECRET_KEY=self.JWT_SECRET_KEY or self._kept("jwt_secret_key", secrets.token_urlsafe(48)),
            ENCRYPTION_KEYS=self.ENCRYPTION_KEYS
            or (self._kept("encryption_key", Fernet.generate_key().decode()),),
        )

    def _kept(self, name: str, fresh: str) -> str:
        """The secret in the data folder; `fresh` becomes it where there is none.

        Several processes may start at once: the file is linked into place whole, the first link wins.
        """
        folder = Path(self.DATA_DIR) / "secrets"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        if not path.exists():
            draft = folder / f".{name}.{secrets.token_hex(8)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(fresh)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # another process was first: its secret counts
            finally:
                draft.unlink()
        return path.read_text()


def _read_environment(problems: dict[str, list[str]]) -> Mapping[str, Any]:
    """The variables that are set, parsed by type; what does not parse goes into `problems`."""
    env = Env(eager=False)
    readers: dict[Any, Any] = {int: env.int, bool: env.bool, str: env.str}
    checks: dict[str, Any] = {
        "APP_ENV": OneOf(["development", "production"]),
        "WORKER_CLASS": OneOf(["threads", "gevent"]),
        "MAX_REPLY_BYTES": Range(1, 16 * 1024 * 1024),
        "LOG_LEVEL": OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]),
        "PORT": Range(1, 65535),
        "THREADS": Range(1, 2000),
        "WEB_CONCURRENCY": Range(0, 256),
        "TRUSTED_PROXIES": Range(0, 10),
        "RETENTION_DAYS": Range(0, 36_500),
    }
    settings: dict[str, Any] = {}
    for field in fields(Config):
        if field.name not in os.environ:
            continue
        if field.type == tuple[str, ...]:
            texts = env.list(field.name, subcast=str) or ()
            settings[field.name] = tuple(text.strip() for text in texts if text.strip())
            continue
        at_least_one = Range(min=1) if field.type is int else None
        validate = checks.get(field.name, at_least_one)
        settings[field.name] = readers[field.type](field.name, validate=validate)
    try:
        env.seal()
    except EnvValidationError as error:
        messages: Any = error.error_messages
        problems.update({name: list(texts) for name, texts in messages.items()})
    return {name: value for name, value in settings.items() if name not in problems}


def _is_limit(text: str) -> bool:
    """Whether the throttle can read it: `parse` takes the first of several limits and drops the rest."""
    try:
        return parse(text).amount > 0 and not set(text) & set(",;|")
    except ValueError:
        return False


def _is_url(text: str, shape: re.Pattern[str]) -> bool:
    """Whether it has this shape, and a port that there is."""
    match = shape.fullmatch(text)
    return match is not None and 0 < int(match["port"] or 1) < 65536


def _weakness(secret: str) -> str | None:
    """What is wrong with a signing secret, for the operator; never the secret itself."""
    if not secret:
        return "Must be set: make one with `python -m config`."
    if len(secret.encode()) < MINIMUM_SECRET_BYTES or len(set(secret)) < MINIMUM_DISTINCT_CHARACTERS:
        return f"Too weak: at least {MINIMUM_SECRET_BYTES} random bytes; `python -m config` makes one."
    return None


def _not_fernet_keys(keys: tuple[str, ...]) -> str | None:
    """What is wrong with the encryption keys, for the operator; never a key itself."""
    if not keys:
        return "Must be set: make one with `python -m config`."
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError:
            return f"Key {number} is no Fernet key; `python -m config` makes one."
        if len(set(key)) < MINIMUM_DISTINCT_CHARACTERS:
            return f"Key {number} is too weak; `python -m config` makes one."
    return None


def fresh_secrets() -> str:
    """New secrets as lines of an environment file."""
    return f"JWT_SECRET_KEY={secrets.token_urlsafe(48)}\nENCRYPTION_KEYS={Fernet.generate_key().decode()}"


if __name__ == "__main__":  # the way to the first secrets: without them no other command starts in production
    print(fresh_secrets())  # noqa: T201
