"""Parsing of URLs into an origin and a target, and the check whether an IP address is public."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import Blocked

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS = {"http": 80, "https": 443}
# only what all URL parsers read alike: no credentials, spaces or controls, a host of plain characters
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][\x21\x22\x24-\x7e]*)?",
    re.ASCII | re.IGNORECASE,
)

# `is_global` is True for these, at least in some releases of Python 3.11
_NOT_PUBLIC_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host agent
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.88.99.0/24",  # relays of 6to4
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
    )
]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # the rest is special, such as IPv4-mapped and NAT64
_NOT_PUBLIC_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",  # documentation
    )
]


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port that a connection is made to. The host is in lower case and without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> tuple[Origin, str]:
    """The origin of a URL and its target (path and query). Raises Blocked if it is not a plain http or https URL."""
    match = _URL.fullmatch(url)
    if match is None:
        raise Blocked("The endpoint is not a URL that can be called.")
    scheme, port = match["scheme"].lower(), int(match["port"] or DEFAULT_PORTS[match["scheme"].lower()])
    if not 0 < port < 65536:
        raise Blocked("The endpoint's port is not between 1 and 65535.")
    target = match["target"] or "/"
    return Origin(scheme, match["host"].lower().strip("[]"), port), (
        target if target[0] == "/" else "/" + target
    )


def join_path(endpoint: str, path: str) -> str:
    """The endpoint's URL with a path appended to its own; its query is kept."""
    parts = urlsplit(endpoint)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()


def parse_address(host: str) -> IPAddress | None:
    """The host as an IP address, or None for a name. Odd forms such as 0x7f.1 count as names: a resolver reads them."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: IPAddress) -> bool:
    """Whether the address is globally reachable: not private, special-purpose or translated."""
    if isinstance(address, ipaddress.IPv6Address):
        return (
            address in _GLOBAL_UNICAST
            and address.is_global
            and not any(address in network for network in _NOT_PUBLIC_IPV6)
        )
    return address.is_global and not any(address in network for network in _NOT_PUBLIC_IPV4)


def is_own(address: IPAddress) -> bool:
    """Whether it is an address of this very machine, public or not: what listens there expects no calls from here.

    Connecting a datagram socket sends nothing, but selects the address to send from, and only to itself does a machine
    send from the same address. An address that a router translates to this machine can't be recognized.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # any port
            return bool(parse_address(probe.getsockname()[0]) == address)
    except OSError:  # no route there
        return False
