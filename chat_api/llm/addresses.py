"""Where a provider's API is: from the URL that somebody gave, with or without version, or with a path too many."""

import re
from dataclasses import replace
from urllib.parse import urlsplit

from ..egress.addresses import join_path
from .request import Endpoint
from .vendors import vendor_of

# what documentation shows as a whole URL, and is pasted; longer ones first
OPERATIONS = ("/chat/completions", "/completions", "/responses", "/messages")
VERSION_PATH = "/v1"

_ENDS_WITH_VERSION = re.compile(r"/v[0-9]+[a-z0-9.]*$", re.IGNORECASE)
_DEPLOYMENT = re.compile(r"/deployments/[^/]+$", re.IGNORECASE)


def operation_url(endpoint: Endpoint, operation: str) -> str:
    """The URL of an operation of the protocol, such as `/chat/completions`."""
    base = base_url(endpoint.api_endpoint, endpoint.api_format)
    if operation == "/models":  # Azure lists all deployments' models at one address
        parts = urlsplit(base)
        base = parts._replace(path=_DEPLOYMENT.sub("", parts.path)).geturl()
    return join_path(base, _version_before(endpoint, urlsplit(base).path) + operation)


def base_url(api_endpoint: str, api_format: str) -> str:
    """The URL without a pasted operation; for a known vendor's host alone with the path of its API."""
    parts = urlsplit(api_endpoint)
    path = parts.path.rstrip("/")
    pasted = next((known for known in OPERATIONS if path.lower().endswith(known)), "")
    path = path[: len(path) - len(pasted)].rstrip("/")
    vendor = vendor_of(api_endpoint, api_format, None)
    if not path and vendor is not None and not vendor.has_placeholders:
        path = urlsplit(vendor.api_endpoint).path
    return parts._replace(path=path).geturl()


def protocol_of_pasted(api_endpoint: str) -> str:
    """The protocol of a URL that names a whole operation; OpenAI's, which most speak, if it says nothing."""
    path = urlsplit(api_endpoint).path.rstrip("/").lower()
    return "anthropic" if path.endswith("/messages") else "openai"


def may_lack_version(endpoint: Endpoint) -> bool:
    """Whether a 404 may only mean that the path lacks its version: nobody knows this server, and the path has none."""
    path = urlsplit(endpoint.api_endpoint).path.rstrip("/")
    return (
        endpoint.api_format == "openai"
        and not endpoint.options.version_in_path
        and not _ENDS_WITH_VERSION.search(path)
        and not _DEPLOYMENT.search(path)
        and not path.lower().endswith(OPERATIONS)
        and vendor_of(endpoint.api_endpoint, endpoint.api_format, None) is None
    )


def with_version(endpoint: Endpoint) -> Endpoint:
    """The same endpoint, whose paths begin with a version."""
    return replace(endpoint, options=endpoint.options.merged({"version_in_path": True}))


def _version_before(endpoint: Endpoint, path: str) -> str:
    """The version that comes between the endpoint's own path and an operation: Anthropic's always has one."""
    has_version = endpoint.api_format == "anthropic" or endpoint.options.version_in_path
    return VERSION_PATH if has_version and not path.endswith(VERSION_PATH) else ""
