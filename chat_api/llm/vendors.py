"""The table of known vendors in vendors.toml, and which one a provider belongs to."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .options import RequestOptions

TABLE = Path(__file__).with_name("vendors.toml")
BEARER = "bearer"
HOW_CHECKED = ("recorded answers", "documents", "real server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One entry of the table, see there."""

    id: str
    name: str
    api_endpoint: str
    matches: tuple[str, ...]
    checked: tuple[str, ...]
    api_format: str = "openai"
    auth: str = BEARER
    key: str = "required"
    notes: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_key(self) -> bool:
        """Whether its server refuses requests without a key."""
        return self.key == "required"

    @property
    def has_placeholders(self) -> bool:
        """Whether its address has to be completed by whoever has an account there."""
        return "{" in self.api_endpoint


@cache
def vendors() -> Mapping[str, Vendor]:
    """All vendors by their ids, in the order of the table."""
    entries = tomllib.loads(TABLE.read_text())["vendor"]
    return {entry["id"]: _vendor(entry) for entry in entries}


def _vendor(entry: dict[str, Any]) -> Vendor:
    lists = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    return Vendor(**{**entry, **lists})


@lru_cache(maxsize=1024)  # each reply needs it
def vendor_of(api_endpoint: str, api_format: str, catalog: str | None) -> Vendor | None:
    """The vendor whose URL this is, else the one that the provider was made from, else None.

    A vendor's second protocol, at another path, is none of the table: what it says holds for the one in it.
    """
    parts = urlsplit(api_endpoint.lower())
    host, path = parts.netloc.removesuffix(":443"), parts.path.rstrip("/")
    for vendor in vendors().values():
        if any(_is_match(pattern, host, path) for pattern in vendor.matches):
            return vendor if vendor.api_format == api_format else None
    named = vendors().get(catalog or "")
    return named if named is not None and named.api_format == api_format else None


def _is_match(pattern: str, host: str, path: str) -> bool:
    host_pattern, slash, path_pattern = pattern.partition("/")
    return fnmatchcase(host, host_pattern) and (not slash or fnmatchcase(path, slash + path_pattern))


def options_of(vendor: Vendor | None, *changes: Mapping[str, Any]) -> RequestOptions:
    """The vendor's options with changes, of which later ones win."""
    options = RequestOptions()
    for some in (vendor.options if vendor else {}, *changes):
        options = options.merged(some)
    return options
