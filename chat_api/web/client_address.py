"""Who a client is as far as its address says: what limits for clients without a token count by."""

import ipaddress

from flask import request


def network_of(address: str) -> str:
    """What counts as one address: in IPv6 a subscriber's whole /64 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def client_network() -> str:
    """The network that the request comes from."""
    return network_of(request.remote_addr or "unknown")
