"""Who asks for replies: users with a provider and a key each, and a fresh conversation for every stream."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import sqlalchemy as sa

from bench.account import Account
from bench.databases import Database
from bench.servers import HOST
from bench.streaming.pace import Pace
from bench.streaming.peers import Provider
from bench.streaming.streams import StreamOrder
from chat_api.conversations.models import Conversation
from chat_api.database.columns import new_id
from chat_api.messages.models import Message

ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Member:
    """A user of the service who may ask the provider."""

    account: Account
    provider_id: str


@dataclass(frozen=True)
class Turn:
    """A question in a conversation of its own, and the reply that it will get."""

    member: Member
    conversation_id: str
    question: str
    pace: Pace

    def request(self, port: int) -> str:
        """The request that asks it and streams the reply, as text. The end of the reply ends the connection."""
        body = json.dumps(
            {
                "conversation_id": self.conversation_id,
                "provider_id": self.member.provider_id,
                "model": self.pace.model,
                "content": self.question,
                "stream": True,
            }
        )
        return (
            f"POST /chat/completions HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.member.account.token}\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )


class Audience:
    """The users of one database. Many: what a service does for one user's streams depends on how many there are."""

    def __init__(self, database: Database, port: int, provider: Provider, size: int) -> None:
        self.database = database
        self._engine = sa.create_engine(database.url)
        self.members = [_new_member(port, provider) for _ in range(size)]

    def turns(self, paces: Sequence[Pace], members: Sequence[Member] = ()) -> list[Turn]:
        """A new conversation for each reply, dealt out to the members in turn (to all of them by default)."""
        turns = [
            Turn(member, new_id(), f"Question {pace.text}: what does the fox do, “exactly”?", pace)
            for member, pace in zip(cycle(members or self.members), paces, strict=False)
        ]
        rows = [
            {"user_id": turn.member.account.user_id, "id": turn.conversation_id, "title": "A streamed reply"}
            for turn in turns
        ]
        with self._engine.begin() as connection:
            connection.execute(sa.insert(Conversation), rows)
        return turns

    def complaints(self, turns: Sequence[Turn]) -> dict[int, str]:
        """What is not stored byte for byte, question and reply: index of the turn -> what is wrong. Empty if all is."""
        stored: dict[str, list[tuple[str, str]]] = {}
        ids = [turn.conversation_id for turn in turns]
        with self._engine.connect() as connection:
            for start in range(0, len(ids), ROWS_AT_ONCE):
                rows = connection.execute(
                    sa.select(Message.conversation_id, Message.role, Message.content)
                    .where(Message.conversation_id.in_(ids[start : start + ROWS_AT_ONCE]))
                    .order_by(Message.conversation_id, Message.position)
                )
                for conversation_id, role, content in rows:
                    stored.setdefault(conversation_id, []).append((role, content))
        found = {
            index: _complaint(turn, stored.get(turn.conversation_id, [])) for index, turn in enumerate(turns)
        }
        return {index: complaint for index, complaint in found.items() if complaint}


def order_of(turns: Sequence[Turn], port: int, *, at_once: int, start_gap_s: float = 0.0) -> StreamOrder:
    """Have these turns streamed by the service on this port."""
    return StreamOrder(
        peer="service",
        port=port,
        requests=[turn.request(port) for turn in turns],
        models=[turn.pace.model for turn in turns],
        at_once=at_once,
        start_gap_s=start_gap_s,
    )


def _new_member(port: int, provider: Provider) -> Member:
    account = Account(port)
    body = {"name": "Paced", "api_endpoint": provider.endpoint}
    provider_id = account.call("POST", "/chat/llm-providers", body, account.token)[0]["id"]
    key = {"user_id": account.user_id, "provider_id": provider_id, "api_key": "sk-bench-0123456789"}
    account.call("POST", "/chat/user-llm-configs", key, account.token)
    return Member(account, provider_id)


def _complaint(turn: Turn, stored: list[tuple[str, str]]) -> str:
    """What is wrong with the messages of a turn's conversation; empty if nothing is."""
    if not stored or stored[0] != ("user", turn.question):
        return "question not stored"
    if len(stored) < 2:
        return "reply not stored"
    if stored[1:] != [("assistant", turn.pace.reply)]:
        return "reply stored otherwise than it was sent"
    return ""
