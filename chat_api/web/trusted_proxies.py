"""What reverse proxies say of a request: the client's address, the scheme, and the path prefix of this service."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# segments without `//`, which would make another host of a path
PREFIXES = re.compile(r"/?|(/[A-Za-z0-9._~-]+)+/?( *, *(/?|(/[A-Za-z0-9._~-]+)+/?))*", re.ASCII)


class TrustedProxies(ProxyFix):
    """Reads `X-Forwarded-For`, `-Proto` and `-Prefix`, as so many proxies have set them."""

    def __init__(self, app: "WSGIApplication", count: int) -> None:
        # no X-Forwarded-Host: a proxy passes the Host header on
        super().__init__(app, x_for=count, x_proto=count, x_prefix=count)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if not PREFIXES.fullmatch(prefix):
            del environ["HTTP_X_FORWARDED_PREFIX"]
        return super().__call__(environ, start_response)
