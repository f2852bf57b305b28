"""The public keys of an identity provider, from a file, from its JWKS URL, or from where its issuer says that it is.

Anyone can send a token with a key id that nobody knows, so what such a token may cause is bounded: one fetch at a
time, in a thread of its own, and none for a while after one that brought nothing. Requests with a known key never
wait for a fetch; of the others a few wait, outside their request slots, and the rest are refused at once.
"""

import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from jwt import PyJWKSet

from ..egress.cancellation import CancelToken
from ..egress.errors import EgressError
from ..egress.gate import Gate, HttpRequest
from ..egress.limits import Limits
from ..errors import Unavailable
from ..server.slots import Slots, release_request_slot

DISCOVERY_PATH = "/.well-known/openid-configuration"
ALGORITHMS = ["RS256", "ES256"]
FETCH_TIMEOUT_S = 5
KEEP_KEYS_S = 300  # older keys are fetched again, and used until the fetch has ended
LONGEST_KEEP_S = 3600  # a provider that is away so long lets nobody in: its keys may have been revoked
REFRESH_INTERVAL_S = 10  # no fetch for so long after one that failed, or was made for an unknown key id
MAX_KEYS_BYTES = 1024 * 1024
MAX_WAITING = 8  # requests of a worker that wait for a fetch

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """A key that may sign (RFC 7517 section 4.2). One without an id fits every token."""

    id: str | None
    algorithms: Sequence[str]
    value: Any


class FileKeys:
    """The keys of a JWKS file, or the one of a PEM file."""

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        if text.lstrip().startswith("{"):
            self._keys = _keys_of(json.loads(text))
        else:
            self._keys = [Key(None, ALGORITHMS, text)]

    def find(self, key_id: str | None) -> list[Key]:
        """The keys that a token with this key id may be signed with."""
        return _matching(self._keys, key_id)


class RemoteKeys:
    """The keys at a URL. The operator configured the address, so any is allowed."""

    def __init__(self, url: str, *, proxy: str = "") -> None:
        self._url = url
        self._gate = Gate(allowed_origins=(url,), proxy=proxy)
        self._lock = threading.Lock()
        self._keys: list[Key] = []
        self._fetched_at = float("-inf")
        self._no_fetch_until = float("-inf")
        self._has_failed = False  # the latest fetch
        self._fetch_ended: threading.Event | None = None  # of the fetch in progress
        self._waiting = Slots(
            MAX_WAITING, full="Too many requests are waiting for the identity provider's keys; retry."
        )

    def find(self, key_id: str | None) -> list[Key]:
        """The keys that a token with this key id may be signed with. Raises Unavailable if that can't be known."""
        found = self._usable(key_id)
        if found:
            if time.monotonic() - self._fetched_at > KEEP_KEYS_S:
                self._start_fetch()
            return found
        has_ended = self._wait_for_fetch()
        found = self._usable(key_id)
        if not found and (not has_ended or self._has_failed or not self._keys):
            raise Unavailable("The identity provider's keys could not be fetched; retry.")
        return found

    def _wait_for_fetch(self) -> bool:
        """Wait for the end of a fetch, if one may be made now; whether none is in progress afterwards."""
        ended = self._start_fetch()
        if ended is None:
            return True
        with self._waiting.take():
            release_request_slot()
            return ended.wait(FETCH_TIMEOUT_S + 1)

    def _usable(self, key_id: str | None) -> list[Key]:
        is_too_old = time.monotonic() - self._fetched_at > LONGEST_KEEP_S
        return [] if is_too_old else _matching(self._keys, key_id)

    def _start_fetch(self) -> threading.Event | None:
        """Begin a fetch, or join the one in progress: what is set at its end. None while none may be made."""
        with self._lock:
            if self._fetch_ended is None:
                if time.monotonic() < self._no_fetch_until:
                    return None
                self._fetch_ended = threading.Event()
                threading.Thread(target=self._fetch, name="identity-provider-keys", daemon=True).start()
            return self._fetch_ended

    def _fetch(self) -> None:
        """Fetch the keys, and remember them or the failure. Runs in a thread of its own."""
        keys: list[Key] = []
        try:
            keys = _keys_of(json.loads(self._read()))
        except (
            jwt.PyJWTError,
            EgressError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            RecursionError,
        ) as error:
            # unreachable, not JSON, or without keys
            log.warning("the identity provider's keys could not be fetched: %s", type(error).__name__)
        finally:
            self._end_fetch(keys)

    def _end_fetch(self, keys: list[Key]) -> None:
        with self._lock:
            is_first = not self._keys
            self._has_failed = not keys
            if keys:
                self._keys, self._fetched_at = keys, time.monotonic()
            if not (keys and is_first):
                self._no_fetch_until = time.monotonic() + REFRESH_INTERVAL_S
            assert self._fetch_ended is not None  # noqa: S101 - set by whoever started this thread
            self._fetch_ended.set()
            self._fetch_ended = None

    def _read(self) -> bytes:
        return self._get(self._url, seconds=FETCH_TIMEOUT_S)

    def _get(self, url: str, *, seconds: float) -> bytes:
        """The document at an address; nothing for any status but 200."""
        request = HttpRequest("GET", url, {"Accept": "application/json"})
        limits = Limits(first_byte_s=seconds, idle_s=seconds, total_s=seconds)
        response = self._gate.send(request, cancel_token=CancelToken(), limits=limits)
        try:
            return response.read_all(MAX_KEYS_BYTES) if response.status == 200 else b""
        finally:
            response.close()


class DiscoveredKeys(RemoteKeys):
    """The keys at the URL that the issuer's discovery document names (OpenID Connect Discovery 1.0, section 4).

    The operator configured the issuer, so its own origin may be any; what its document names elsewhere has to be public
    and https.
    """

    def __init__(self, issuer: str, *, proxy: str = "") -> None:
        super().__init__(issuer, proxy=proxy)
        self._issuer = issuer

    def _read(self) -> bytes:
        """Both documents, in the time for one. Raises ValueError for a document of another issuer."""
        url = self._issuer.rstrip("/") + DISCOVERY_PATH
        document = json.loads(self._get(url, seconds=FETCH_TIMEOUT_S / 2))
        if document["issuer"] != self._issuer:
            raise ValueError("the document is of another issuer")
        return self._get(str(document["jwks_uri"]), seconds=FETCH_TIMEOUT_S / 2)


def _keys_of(jwks: dict[str, Any]) -> list[Key]:
    return [
        Key(key.key_id, [key.algorithm_name], key)
        for key in PyJWKSet.from_dict(jwks).keys
        if key.public_key_use in (None, "sig")
    ]


def _matching(keys: list[Key], key_id: str | None) -> list[Key]:
    return [key for key in keys if key_id is None or key.id in (key_id, None)]
