"""A request's turn: only so many run at the same time, see serving/threads.py."""

from flask import request


def give_way() -> None:
    """Tell the server that this request only waits from now on; other servers than ours need not be told."""
    tell = request.environ.get("serving.give_way")
    if tell is not None:
        tell()
