"""Tickets: a signed permission for one address, to be used where no header can be sent, such as an `EventSource`.

It stands in the query, and so in logs and in the history of a browser; so it opens one thing, for a minute.
"""

from dataclasses import astuple

from flask import current_app
from itsdangerous import BadData, URLSafeTimedSerializer

from . import guard
from .guard import Caller
from .tokens import InvalidToken

TICKET_S = 60
PARAMETER = "ticket"


def make_ticket(scope: str) -> str:
    """A ticket of the caller's for what `scope` names. Whose login ends, or whose token is deleted, loses it."""
    return str(_serializer().dumps([scope, *astuple(guard.caller())]))


def caller_of(ticket: str, scope: str) -> Caller:
    """Who got this ticket. Raises InvalidToken for one that is forged, expired or for something else."""
    try:
        signed_scope, *fields = _serializer().loads(ticket, max_age=TICKET_S)
    except BadData:
        raise InvalidToken("The ticket is invalid or has expired; get another one.") from None
    if signed_scope != scope:
        raise InvalidToken("This ticket is for another completion; get one for this one.")
    caller = Caller(*fields)
    guard.require_valid(caller)
    return caller


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["JWT_SECRET_KEY"], salt="chat-api ticket")
