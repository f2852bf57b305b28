"""Which addresses may be called: the gate looks when it connects, who adds a provider as far as its URL says."""

import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from .addresses import IPAddress, Origin, is_own, is_public, parse, parse_address
from .errors import Blocked

# one text for both: who may not call an address need not learn whose it is
NOT_PUBLIC = (
    "The endpoint's address is not public, or it is this server's own. An operator can allow its origin with "
    "OUTGOING_ALLOWED."
)
NOT_ENCRYPTED = (
    "The endpoint is not https, so the key would be sent unencrypted. An operator can allow its origin with "
    "OUTGOING_ALLOWED."
)
LOOPBACK = IPv4Address("127.0.0.1")
# 127.1, 0x7f.1, 2130706433: what the system's resolver reads as an address without asking anybody
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.ASCII)


class AddressPolicy:
    """The rules of a deployment.

    `allowed_origins` (`scheme://host:port`) may have any address and may be http; `allow_loopback` allows this
    machine itself, for development, except at `own_port`: the service would call itself. Everything else must be https
    at a public address of another machine.
    """

    def __init__(
        self, allowed_origins: tuple[str, ...] = (), allow_loopback: bool = False, own_port: int | None = None
    ) -> None:
        self._allowed = frozenset(parse(origin)[0] for origin in allowed_origins)
        self._allow_loopback, self._own_port = allow_loopback, own_port

    def check_url(self, url: str) -> tuple[Origin, str]:
        """Origin and target of a URL. Raises Blocked if the URL alone says that it may not be called."""
        origin, target = parse(url)
        if origin.scheme == "http" and not (self._allow_loopback or origin in self._allowed):
            raise Blocked(NOT_ENCRYPTED)
        if (literal := literal_address(origin.host)) is not None:
            self.check_addresses(origin, [literal])
        return origin, target

    def check_addresses(self, origin: Origin, addresses: list[IPAddress]) -> None:
        """Raise Blocked unless every address of this origin's host may be called."""
        if origin in self._allowed:
            return
        for address in addresses:
            if self._allow_loopback and address.is_loopback:
                if origin.port == self._own_port:
                    raise Blocked(NOT_PUBLIC)
                continue
            if not is_public(address) or is_own(address):
                raise Blocked(NOT_PUBLIC)
            if origin.scheme == "http":
                raise Blocked(NOT_ENCRYPTED)


def literal_address(host: str) -> IPAddress | None:
    """The address that a host is, in whatever form, or None where it takes a name server."""
    if (address := parse_address(host)) is not None:
        return address
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return LOOPBACK
    if _NUMERIC.fullmatch(name):
        try:
            return IPv4Address(socket.inet_aton(name))
        except OSError:
            return None
    return None


def address_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an AddressPolicy, or of a Gate, from the service's settings."""
    return {
        "allowed_origins": settings["OUTGOING_ALLOWED"],
        "allow_loopback": settings["APP_ENV"] == "development",
        "own_port": settings["PORT"],
    }
