"""The address of this service as a client has it."""

import re

from flask import Request, current_app

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)


def own_address(request: Request) -> str:
    """What PUBLIC_URL says, else the scheme, host and path prefix by which a request came."""
    if public_url := current_app.config["PUBLIC_URL"]:
        return str(public_url)
    host = request.host if _HOST.fullmatch(request.host) else request.environ["SERVER_NAME"]
    return f"{request.scheme}://{host}{request.script_root}"
