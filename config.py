"""Every setting of the service with its default: the only module that reads the environment.

`Config.from_environment()` reads all variables at once and names every invalid one in a single `ConfigError`, so that
an operator can correct them all at once. `.env` and `.flaskenv` are read as `flask` reads them, so that the service and
all commands have the same settings. `python -m config` prints new secrets.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from dotenv import dotenv_values, find_dotenv
from environs import Env, EnvValidationError
from marshmallow.validate import OneOf, Range

MINIMUM_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key for HS256 is at least as long as its hash
MINIMUM_DISTINCT_CHARACTERS = 12  # "aaaa…" and "change-me-change-me-…" are long, but no secrets
MINIMUM_TOKEN_CHARACTERS = 16  # of METRICS_TOKEN, which is only compared
# what the gate for outgoing calls accepts, see chat_api/egress/addresses.py
ORIGIN = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))", re.ASCII
)
PROXY_URL = re.compile(
    r"http://([A-Za-z0-9._~!$&'()*+,;=%-]*(:[A-Za-z0-9._~!$&'()*+,;=%-]*)?@)?"
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):(?P<port>[0-9]{1,5})/?",
    re.ASCII,
)
RATE_LIMIT = re.compile(r"\s*(\d{1,9})\s*(?:/|per)\s*(\d{1,9})?\s*([a-z]+?)s?\s*", re.ASCII | re.IGNORECASE)
WINDOWS_S = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 360 * 86_400,
}
PAGE_ORIGIN = re.compile(ORIGIN.pattern + "?", re.ASCII)
PUBLIC_URL = re.compile(ORIGIN.pattern + r"?(/[A-Za-z0-9._~-]+)*", re.ASCII)
PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)
SERVED = {
    "auth",
    "chat",
    "completions",
    "conversations",
    "docs",
    "embeddings",
    "files",
    "healthz",
    "metrics",
    "models",
    "openapi.json",
    "readyz",
    "responses",
    "v1",
}  # first parts of paths
KEYS_URL = re.compile(ORIGIN.pattern + r"?([/?][\x21\x22\x24-\x7e]*)?", re.ASCII)
S3_ENDPOINT = re.compile(ORIGIN.pattern + r"?/?", re.ASCII)
# chat_api/storage/ reads it; a bucket's name has no other characters
S3_STORAGE = re.compile(r"s3://[A-Za-z0-9._-]{3,255}(/[A-Za-z0-9._~!$'()*+,;=@/-]*)?", re.ASCII)
ACCEL_PATH = re.compile(r"/[A-Za-z0-9._~/-]+/", re.ASCII)
# the shape of SQLAlchemy's make_url; SQLAlchemy itself must not be imported before gevent has patched the sockets
DATABASE_URL_SHAPE = re.compile(
    r"(?P<driver>sqlite|postgresql\+psycopg)://([^:/]*(:[^@]*)?@)?"
    r"(\[[^/?]+\]|[^/:?]+)?(:(?P<port>[0-9]{1,5}))?(/(?P<database>[^?]*))?(\?(?P<query>.*))?"
)
RATE_LIMITS = (
    "LOGIN_LIMIT_PER_ACCOUNT",
    "LOGIN_LIMIT_ALL_NETWORKS",
    "LOGIN_LIMIT_PER_ADDRESS",
    "REGISTER_LIMIT_PER_ADDRESS",
)
PROJECT_FOLDER = Path(__file__).resolve().parent
# upper bounds of numbers, by the unit at the end of the name: none overflows a timestamp, a driver or a kernel
LARGEST = {"S": 86_400, "MINUTES": 525_600, "DAYS": 36_500, "BYTES": 2**40, "TOKENS": 10**9}
LARGEST_COUNT = 100_000
UNITS = {*LARGEST, "SECONDS", "MS", "HOURS", "KB", "MB", "GB", "KIB", "MIB", "GIB"}


class ConfigError(Exception):
    """The settings can't be used. The message has a line for each one that names it and says what is wrong."""

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        lines = [f"setting {name}: {' '.join(texts)}" for name, texts in sorted(problems.items())]
        super().__init__("\n".join(lines))


class RateLimit(NamedTuple):
    """So many attempts in a window of time, as in `10 per 15 minutes`."""

    amount: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> "RateLimit":
        """Read the value of a setting. Raises ValueError."""
        match = RATE_LIMIT.fullmatch(text)
        amount, count, unit = match.groups() if match else ("0", None, "")
        limit = cls(int(amount), int(count or 1) * WINDOWS_S.get(unit.lower(), 0))
        if not limit.amount or not limit.window_s:
            raise ValueError("not a limit")
        return limit


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
    # requests that one worker handles at the same time, besides streams; three quarters of them may be of one user
    THREADS: int = 8
    # seconds that a stopping worker waits for running requests
    GRACEFUL_TIMEOUT_S: int = 30
    # seconds that an idle client connection is kept open
    KEEPALIVE_S: int = 75
    # slowest rate at which a client may send a body or read a response, and the longest time for either
    CLIENT_RATE_BYTES: int = 8192
    CLIENT_TIMEOUT_S: int = 3600
    # addresses of the reverse proxies whose X-Forwarded-* headers are trusted
    FORWARDED_ALLOW_IPS: str = "127.0.0.1,::1"
    # number of reverse proxies before the service; 0 takes the client's address from the connection
    TRUSTED_PROXIES: int = 0
    # the address of the service as its clients have it, for the OpenAPI document; empty: what each request came by
    PUBLIC_URL: str = ""
    # where chats of the AI SDK are served, as the `api` of useChat; empty: nowhere
    AI_SDK_PATH: str = "/api/chat"
    # minimum log level
    LOG_LEVEL: str = "INFO"

    # -- storage --------------------------------------------------------------------------------------
    # folder of the embedded database, of the development secrets and of temporary files of uploads
    DATA_DIR: str = str(PROJECT_FOLDER / "data")
    # empty means SQLite in DATA_DIR; postgresql://user:password@host/name for production
    DATABASE_URL: str = ""
    # size of each of a worker's two Postgres connection pools
    DATABASE_POOL_SIZE: int = 8
    # seconds that a request waits for a database connection or a lock before it gets 503
    DATABASE_WAIT_S: int = 5
    # seconds after which Postgres cancels a statement
    DATABASE_STATEMENT_TIMEOUT_S: int = 15
    # days without use after which `flask retention` deletes a conversation that is not pinned; 0: never
    RETENTION_DAYS: int = 0
    # largest request body, in bytes; 1 MiB of text may take 6 MiB when every character is escaped
    MAX_BODY_BYTES: int = 8 * 1024 * 1024
    # largest body of a request below /v1 that may have files in it, in bytes; Base64 takes four for three
    MAX_INLINE_BODY_BYTES: int = 20 * 1024 * 1024
    # whether chat completions below /v1 are stored that do not say `store`
    CHAT_COMPLETIONS_STORE: bool = True
    # largest import file, in bytes, both as uploaded and after decompression
    MAX_IMPORT_BYTES: int = 1024 * 1024 * 1024
    # largest attachment, in bytes
    MAX_ATTACHMENT_BYTES: int = 100 * 1024 * 1024
    # where the contents of attachments are: empty for the folder `files` in DATA_DIR, the path of another folder, or
    # s3://bucket/prefix
    ATTACHMENT_STORAGE: str = ""
    # where contents are read that are not there, while they are moved: as above
    ATTACHMENT_STORAGE_FALLBACK: str = ""
    # address of an S3-compatible server; empty: Amazon's
    S3_ENDPOINT_URL: str = ""
    # path at which nginx has the folder of contents as an internal location, to send them itself; empty: it doesn't
    ACCEL_REDIRECT: str = ""
    # longest and usual lifetime of a signed link to a content
    MAX_LINK_S: int = 3600
    LINK_S: int = 300

    # -- what one user may store ----------------------------------------------------------------------
    MAX_CONVERSATIONS_PER_USER: int = 100_000
    # messages, and the bytes of their contents
    MAX_MESSAGES_PER_USER: int = 1_000_000
    MAX_MESSAGE_BYTES_PER_USER: int = 2 * 1024 * 1024 * 1024
    MAX_ATTACHMENTS_PER_USER: int = 100_000
    # bytes of the contents of attachments, each content once
    MAX_FILE_BYTES_PER_USER: int = 10 * 1024 * 1024 * 1024
    # uploads that belong to no message yet
    MAX_DRAFTS_PER_USER: int = 1000
    MAX_COMPLETIONS_PER_USER: int = 500_000
    MAX_PROVIDERS_PER_USER: int = 100
    # keys for providers
    MAX_CONFIGS_PER_USER: int = 200
    # responses that are kept for an Idempotency-Key, in 24 hours
    MAX_STORED_RESPONSES_PER_USER: int = 10_000

    # -- secrets --------------------------------------------------------------------------------------
    # signs access and refresh tokens; at least 32 bytes
    JWT_SECRET_KEY: str = ""
    # Fernet keys for encryption at rest, comma-separated; the first encrypts, all decrypt
    ENCRYPTION_KEYS: tuple[str, ...] = ()

    # -- accounts -------------------------------------------------------------------------------------
    # lifetime of an access token
    ACCESS_TOKEN_MINUTES: int = 15
    # days without a refresh after which a login ends
    REFRESH_TOKEN_DAYS: int = 30
    # days after which a login ends, however often it was refreshed
    LOGIN_MAX_DAYS: int = 180
    # minutes after a login in which a personal access token can be created, or the account erased, without the password
    RECENT_LOGIN_MINUTES: int = 5
    # rate limit of failed logins per account and client network
    LOGIN_LIMIT_PER_ACCOUNT: str = "10 per 15 minutes"
    # rate limit of logins per account from all networks together that it has not logged in from before
    LOGIN_LIMIT_ALL_NETWORKS: str = "100 per hour"
    # rate limit of logins per client address, over all accounts
    LOGIN_LIMIT_PER_ADDRESS: str = "300 per 15 minutes"
    # rate limit of registrations per client address
    REGISTER_LIMIT_PER_ADDRESS: str = "1000 per hour"
    # who can register: open (everybody), invite (with an invitation of an admin), closed (only `flask users create`)
    REGISTRATION: str = "open"
    # page of the client on which one registers with an invitation; its links have the code in their fragment
    INVITATION_URL: str = ""
    # false: no registration and no login; all tokens come from the identity provider below
    LOCAL_ACCOUNTS: bool = True
    # issuer (`iss`) required in tokens of the identity provider; empty: no such tokens are accepted
    OIDC_ISSUER: str = ""
    # audience (`aud`) required in these tokens: as what this service is known to the identity provider
    OIDC_AUDIENCE: str = "chat-api"
    # keys that verify these tokens: path of a PEM or JWKS file, or URL of a JWKS; empty: where the issuer's discovery
    # document (/.well-known/openid-configuration) says
    OIDC_KEYS: str = ""

    # -- replies of LLM providers ---------------------------------------------------------------------
    # completions in progress per worker, and clients that wait for one or for a list of models; beyond it: 503
    MAX_STREAMS: int = 100
    # completions in progress per user over all workers, and waiting clients per worker; beyond it: 429
    MAX_STREAMS_PER_USER: int = 10
    # origins of pages, scheme://host[:port], comma-separated, that may use the service from a browser (CORS)
    CORS_ORIGINS: tuple[str, ...] = ()
    # scheme://host:port, comma-separated: exceptions from the rule that providers use https and public addresses
    OUTGOING_ALLOWED: tuple[str, ...] = ()
    # http://user:password@host:port of an HTTP proxy for all outgoing calls; empty: they go straight to the provider
    OUTGOING_PROXY: str = ""
    # context window in tokens, where neither provider nor config has one
    CONTEXT_WINDOW_TOKENS: int = 128_000
    # most of a conversation that is read and sent for one reply, in bytes, whatever the context window
    MAX_CONTEXT_BYTES: int = 4 * 1024 * 1024
    # most of files that is sent with one reply's request: in bytes as they are stored, and in estimated tokens
    MAX_SENT_FILE_BYTES: int = 20 * 1024 * 1024
    MAX_SENT_FILE_TOKENS: int = 100_000
    # seconds to wait for a provider: connecting, first byte of the response, each further byte, whole response
    PROVIDER_CONNECT_TIMEOUT_S: int = 5
    PROVIDER_FIRST_BYTE_TIMEOUT_S: int = 120
    PROVIDER_IDLE_TIMEOUT_S: int = 60
    PROVIDER_TOTAL_TIMEOUT_S: int = 1800
    # largest reply, in bytes of text, reasoning and tool calls; the rest is cut off
    MAX_REPLY_BYTES: int = 1024 * 1024
    # most bytes of the pictures, recordings and videos in a reply; what is more is left out
    MAX_REPLY_FILE_BYTES: int = 32 * 1024 * 1024

    # -- monitoring -----------------------------------------------------------------------------------
    # bearer token for /metrics; empty: /metrics is disabled
    METRICS_TOKEN: str = ""

    @classmethod
    def from_environment(cls, **overrides: Any) -> "Config":
        """Read and check all settings; `overrides` win over the environment. Raises ConfigError."""
        problems: dict[str, list[str]] = {}
        load_env_files()
        config = replace(cls(**_read_environment(problems)), **overrides)
        try:
            if not config.DATABASE_URL:  # private: it holds the embedded database
                Path(config.DATA_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
            if config.APP_ENV == "development":
                config = config._with_development_secrets()
        except OSError as error:
            problems["DATA_DIR"] = [f"Can't be used: {error.strerror}."]
        except UnicodeDecodeError:
            problems["DATA_DIR"] = ["A file in its folder `secrets` is not text."]
        for name, texts in config._problems().items():
            is_consequence = name in ("JWT_SECRET_KEY", "ENCRYPTION_KEYS") and "DATA_DIR" in problems
            if not is_consequence:
                problems.setdefault(name, texts)
        if problems:
            raise ConfigError(problems)
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
    def uses_sqlite(self) -> bool:
        """Whether the embedded database is used."""
        return self.database_url.startswith("sqlite")

    @property
    def worker_count(self) -> int:
        """Worker processes: as set, else one on SQLite (it has one writer) and one per core on Postgres."""
        return self.WEB_CONCURRENCY or (1 if self.uses_sqlite else os.cpu_count() or 1)

    @property
    def requests_per_user(self) -> int:
        """How many requests of one user a worker runs: a quarter of its slots and connections is for others."""
        runs = self.THREADS if self.WORKER_CLASS == "threads" else self.DATABASE_POOL_SIZE
        return max(1, min(runs, self.DATABASE_POOL_SIZE) * 3 // 4)

    def as_flask_settings(self) -> dict[str, Any]:
        """All settings under their names, for `app.config`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _problems(self) -> dict[str, list[str]]:
        """What is wrong with the values, by setting."""
        problems: dict[str, list[str]] = {}
        if complaint := _weakness(self.JWT_SECRET_KEY):
            problems["JWT_SECRET_KEY"] = [complaint]
        if complaint := _not_fernet_keys(self.ENCRYPTION_KEYS):
            problems["ENCRYPTION_KEYS"] = [complaint]
        if self.APP_ENV == "production" and self.METRICS_TOKEN and _is_guessable(self.METRICS_TOKEN):
            problems["METRICS_TOKEN"] = [
                f"Too weak: at least {MINIMUM_TOKEN_CHARACTERS} random characters; "
                "`openssl rand -hex 16` makes one."
            ]
        for name in RATE_LIMITS:
            if not _is_limit(getattr(self, name)):
                problems[name] = ["Must be one limit, such as: 10 per 15 minutes."]
        if complaint := _not_a_database(self.database_url):
            problems["DATABASE_URL"] = [complaint]
        if wrong := [text for text in self.FORWARDED_ALLOW_IPS.split(",") if not _is_network(text.strip())]:
            problems["FORWARDED_ALLOW_IPS"] = [f"No IP addresses or networks: {', '.join(wrong)}."]
        if self.WORKER_CLASS == "gevent" and self.uses_sqlite:
            problems["WORKER_CLASS"] = [
                "gevent needs Postgres: on SQLite one waiting writer would block all requests."
            ]
        if wrong := [origin for origin in self.CORS_ORIGINS if not _is_url(origin, PAGE_ORIGIN)]:
            problems["CORS_ORIGINS"] = [f"Not scheme://host or scheme://host:port: {', '.join(wrong)}."]
        if wrong := [origin for origin in self.OUTGOING_ALLOWED if not _is_url(origin, ORIGIN)]:
            problems["OUTGOING_ALLOWED"] = [f"Not scheme://host:port: {', '.join(wrong)}."]
        if self.OUTGOING_PROXY and not _is_url(self.OUTGOING_PROXY, PROXY_URL):
            problems["OUTGOING_PROXY"] = [
                "Must be http://host:port or http://user:password@host:port, special characters percent-encoded."
            ]
        if self.OIDC_ISSUER and not self.OIDC_AUDIENCE:
            problems["OIDC_ISSUER"] = ["Needs OIDC_AUDIENCE, too."]
        if self.OIDC_ISSUER and not self.OIDC_KEYS and not _is_url(self.OIDC_ISSUER, KEYS_URL):
            problems["OIDC_ISSUER"] = ["Must be the issuer's URL, or OIDC_KEYS must be set."]
        if self.PUBLIC_URL and not _is_url(self.PUBLIC_URL, PUBLIC_URL):
            problems["PUBLIC_URL"] = [
                "Must be a URL of a host, perhaps with a path, without a slash at the end."
            ]
        if self.AI_SDK_PATH and not _is_path_of_its_own(self.AI_SDK_PATH):
            problems["AI_SDK_PATH"] = [
                "Must be empty, or a path without a slash at the end that is none of the service's own."
            ]
        for name in ("ATTACHMENT_STORAGE", "ATTACHMENT_STORAGE_FALLBACK"):
            if not _is_storage(getattr(self, name)):
                problems[name] = ["Must be empty, the absolute path of a folder, or s3://bucket/prefix."]
        if self.S3_ENDPOINT_URL and not _is_url(self.S3_ENDPOINT_URL, S3_ENDPOINT):
            problems["S3_ENDPOINT_URL"] = ["Must be http(s)://host or http(s)://host:port."]
        if self.ACCEL_REDIRECT and not ACCEL_PATH.fullmatch(self.ACCEL_REDIRECT):
            problems["ACCEL_REDIRECT"] = [
                "Must be the path of an internal location, such as /internal-files/."
            ]
        if self.LINK_S > self.MAX_LINK_S:
            problems["LINK_S"] = ["Must be at most MAX_LINK_S."]
        if self.INVITATION_URL and not _is_url(self.INVITATION_URL, KEYS_URL):
            problems["INVITATION_URL"] = ["Must be a URL of a host, without credentials and fragment."]
        if self.OIDC_KEYS.startswith(("http://", "https://")):
            if not _is_url(self.OIDC_KEYS, KEYS_URL):
                problems["OIDC_KEYS"] = ["Must be a URL of a host, without credentials and fragment."]
        elif self.OIDC_KEYS and (complaint := _not_a_key_file(Path(self.OIDC_KEYS))):
            problems["OIDC_KEYS"] = [complaint]
        if not self.LOCAL_ACCOUNTS and not self.OIDC_ISSUER:
            problems["LOCAL_ACCOUNTS"] = ["Without local accounts OIDC_ISSUER must be set."]
        return problems

    def _with_development_secrets(self) -> "Config":
        """Fill in missing secrets from the data folder, where they are generated once."""
        if self.JWT_SECRET_KEY and self.ENCRYPTION_KEYS:
            return self
        return replace(
            self,
            JWT_SECRET_KEY=self.JWT_SECRET_KEY or self._kept("jwt_secret_key", secrets.token_urlsafe(48)),
            ENCRYPTION_KEYS=self.ENCRYPTION_KEYS
            or (self._kept("encryption_key", Fernet.generate_key().decode()),),
        )

    def _kept(self, name: str, fresh: str) -> str:
        """The secret in the data folder, which is `fresh` the first time.

        Several processes may start at once: each links a complete file, and the first link wins.
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
                pass  # another process was first: its secret is used
            finally:
                draft.unlink()
        return path.read_text()


def load_env_files() -> None:
    """Add the variables of `.env` and `.flaskenv` to the environment, where they are not set yet.

    The same files, order and switch (FLASK_SKIP_DOTENV) as in Flask's own commands. Raises ConfigError.
    """
    if os.environ.get("FLASK_SKIP_DOTENV", "0").lower() not in ("", "0", "false", "no"):
        return
    values: dict[str, str | None] = {}
    for name in (".flaskenv", ".env"):
        path = find_dotenv(name, usecwd=True)
        try:
            values |= dotenv_values(path, encoding="utf-8") if path else {}
        except (OSError, ValueError) as error:
            raise ConfigError({name: [f"{path} can't be read: {error}."]}) from None
    for name, value in values.items():
        if value is not None:
            os.environ.setdefault(name, value)


def misspelt_settings() -> list[str]:
    """A sentence about each variable of the environment that is no setting, but has nearly the name of one."""
    return [
        f"{name} is not a setting; did you mean {meant}?"
        for name in sorted(os.environ)
        if (meant := _setting_meant_by(name))
    ]


def _setting_meant_by(name: str) -> str | None:
    """The setting whose name this is nearly; None for a setting, and for whatever belongs to other programs.

    Nearly is: in lower case, with another unit at its end, or a typing error or two, of which a short name has so many
    innocent neighbours (POST, SORT) that only exchanged letters count.
    """
    settings = Config.__dataclass_fields__
    if name in settings:
        return None
    stem, _, unit = name.upper().rpartition("_")
    for setting in settings:
        own_stem, _, own_unit = setting.rpartition("_")
        has_other_unit = bool(stem) and stem == own_stem and {unit, own_unit} <= UNITS
        if name.upper() == setting or has_other_unit:
            return setting
    near = [setting for setting in settings if _may_be_near(name.upper(), setting)]
    if not near:
        return None
    nearest = min(near, key=lambda setting: _typing_errors(name.upper(), setting))
    errors = _typing_errors(name.upper(), nearest)
    if len(nearest) < 5:
        return nearest if errors == 1 and sorted(name) == sorted(nearest) else None
    return nearest if errors <= (1 if len(nearest) < 8 else 2) else None


def _may_be_near(one: str, other: str) -> bool:
    """Whether two typing errors can lie between them: each changes the length by one and the set of letters by two.

    Spares nearly all comparisons, which would take a tenth of a second at the start of every process.
    """
    return abs(len(one) - len(other)) <= 2 and len(set(one) ^ set(other)) <= 4


def _typing_errors(one: str, other: str) -> int:
    """How many letters are missing, superfluous, wrong or exchanged with the next (Damerau-Levenshtein distance)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        current = [i]
        for j, expected in enumerate(other, 1):
            cost = min(last[j] + 1, current[j - 1] + 1, last[j - 1] + (letter != expected))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == expected:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def _read_environment(problems: dict[str, list[str]]) -> Mapping[str, Any]:
    """The settings in the environment, parsed by type; one that can't be parsed goes into `problems`."""
    env = Env(eager=False)
    readers: dict[Any, Any] = {int: env.int, bool: env.bool, str: env.str}
    checks: dict[str, Any] = {
        "APP_ENV": OneOf(["development", "production"]),
        "REGISTRATION": OneOf(["open", "invite", "closed"]),
        "WORKER_CLASS": OneOf(["threads", "gevent"]),
        "MAX_REPLY_BYTES": Range(1, 16 * 1024 * 1024),
        "MAX_REPLY_FILE_BYTES": Range(0, 1024 * 1024 * 1024),
        "MAX_CONVERSATIONS_PER_USER": Range(1, 10**7),
        "MAX_MESSAGES_PER_USER": Range(1, 10**9),
        "MAX_ATTACHMENTS_PER_USER": Range(1, 10**9),
        "MAX_COMPLETIONS_PER_USER": Range(1, 10**9),
        "LOG_LEVEL": OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]),
        "PORT": Range(1, 65535),
        "THREADS": Range(1, 2000),
        "WEB_CONCURRENCY": Range(0, 256),
        "TRUSTED_PROXIES": Range(0, 10),
        "RETENTION_DAYS": Range(0, LARGEST["DAYS"]),
    }
    settings: dict[str, Any] = {}
    for field in fields(Config):
        if field.name not in os.environ:
            continue
        if not _is_utf8(os.environ[field.name]):
            problems[field.name] = ["Is not UTF-8."]
            continue
        if field.type == tuple[str, ...]:
            texts = env.list(field.name, subcast=str) or ()
            settings[field.name] = tuple(text.strip() for text in texts if text.strip())
            continue
        unit = field.name.removesuffix("_PER_USER").rpartition("_")[2]
        largest = LARGEST.get(unit, LARGEST_COUNT)
        validate = checks.get(field.name, Range(1, largest) if field.type is int else None)
        settings[field.name] = readers[field.type](field.name, validate=validate)
    try:
        env.seal()
    except EnvValidationError as error:
        messages: Any = error.error_messages
        problems.update({name: list(texts) for name, texts in messages.items()})
    return {name: value for name, value in settings.items() if name not in problems}


def _is_limit(text: str) -> bool:
    try:
        RateLimit.parse(text)
    except ValueError:
        return False
    return True


def _is_path_of_its_own(text: str) -> bool:
    """Whether it is a path below which nothing else is served."""
    return PATH.fullmatch(text) is not None and text.split("/")[1] not in SERVED


def _is_storage(text: str) -> bool:
    """Whether it names a storage of files; not with `..`, which a path has more than one meaning with."""
    if ".." in text.split("/") or any(ord(each) < 32 for each in text):
        return False
    return (
        not text or S3_STORAGE.fullmatch(text) is not None or (text.startswith("/") and text.strip("/") != "")
    )


def _is_network(text: str) -> bool:
    """Whether gunicorn can read it as one of its trusted addresses; it also takes none, and * for all."""
    try:
        return text in ("", "*") or bool(ip_network(text))
    except ValueError:
        return False


def _is_url(text: str, shape: re.Pattern[str]) -> bool:
    """Whether it has this shape, and a port that exists."""
    match = shape.fullmatch(text)
    return match is not None and 0 < int(match["port"] or 1) < 65536


def _is_utf8(text: str) -> bool:
    """Whether a variable is text; Python keeps other bytes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _not_a_database(url: str) -> str | None:
    """What is wrong with the URL of a database, for the operator; never the URL, which may hold a password."""
    if not url.startswith(("sqlite:", "postgresql+psycopg:")):
        return "Must begin with postgresql:// or sqlite:///."
    match = DATABASE_URL_SHAPE.fullmatch(url)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return "Must be a URL: postgresql://user:password@host:port/name, special characters percent-encoded."
    if match["driver"] == "sqlite" and (not match["database"] or match["query"] is not None):
        return "Must be sqlite:/// and the path of a file, without parameters."
    return None


def _not_a_key_file(path: Path) -> str | None:
    """What is wrong with a file of public keys, for the operator."""
    try:
        text = path.read_text()
        if not text.lstrip().startswith("{"):
            load_pem_public_key(text.encode())
        elif not all(key["kty"] for key in json.loads(text)["keys"] or [{}]):
            raise ValueError
    except OSError as error:
        return f"The file can't be read: {error.strerror}."
    except (ValueError, TypeError, KeyError, RecursionError):
        return "The file has no public key as PEM, and no JWKS."
    return None


def _weakness(secret: str) -> str | None:
    """What is wrong with a signing secret, for the operator; never the secret itself."""
    if not secret:
        return "Must be set; `python -m config` generates one."
    if len(secret.encode()) < MINIMUM_SECRET_BYTES or len(set(secret)) < MINIMUM_DISTINCT_CHARACTERS:
        return f"Too weak: at least {MINIMUM_SECRET_BYTES} random bytes; `python -m config` generates one."
    return None


def _is_guessable(token: str) -> bool:
    """Whether a token is short, or repeats few characters."""
    return len(token) < MINIMUM_TOKEN_CHARACTERS or len(set(token)) < MINIMUM_TOKEN_CHARACTERS // 2


def _not_fernet_keys(keys: tuple[str, ...]) -> str | None:
    """What is wrong with the encryption keys, for the operator; never a key itself."""
    if not keys:
        return "Must be set; `python -m config` generates one."
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError:
            return f"Key {number} is not a Fernet key; `python -m config` generates one."
        if len(set(key)) < MINIMUM_DISTINCT_CHARACTERS:
            return f"Key {number} is too weak; `python -m config` generates one."
    return None


def fresh_secrets() -> str:
    """New secrets as lines of an environment file."""
    return f"JWT_SECRET_KEY={secrets.token_urlsafe(48)}\nENCRYPTION_KEYS={Fernet.generate_key().decode()}"


if __name__ == "__main__":  # for the first secrets: without them no other command starts in production
    print(fresh_secrets())  # noqa: T201
