"""Many at once: one order for every reader, one winner of every race."""

import threading
from functools import partial

import jwt

from tests.live.client import Answer, Person, at_once
from tests.support.api import PASSWORD, new_email
from tests.support.server import GunicornServer

POSTS = 50


def test_fifty_parallel_posts_are_all_stored_in_one_order_for_every_reader(
    three_workers: GunicornServer,
) -> None:
    person = Person(three_workers)
    conversation_id = person.conversation()
    answers = at_once(partial(person.say, conversation_id, f"message {number}") for number in range(POSTS))

    assert {answer.status for answer in answers} == {201}
    told = {answer.body["position"]: answer.body for answer in answers}
    assert sorted(told) == list(range(1, POSTS + 1))
    assert {message["content"] for message in told.values()} == {
        f"message {number}" for number in range(POSTS)
    }
    for seen in at_once(partial(person.messages, conversation_id, limit) for limit in (1000, 50, 20, 7)):
        assert seen == [told[position] for position in sorted(told)]
    assert person.get(f"/chat/conversations/{conversation_id}").body["message_count"] == POSTS


def test_a_reader_that_pages_while_they_are_written_misses_none(three_workers: GunicornServer) -> None:
    person = Person(three_workers)
    conversation_id = person.conversation()
    all_written = threading.Event()

    def read_along() -> list[str]:
        """Follow the list from its last known position, page by page, as a client does that polls."""
        seen: list[str] = []
        position = 0
        while True:
            was_complete = all_written.is_set()
            page = person.get(f"/chat/conversations/{conversation_id}/messages?limit=3&after={position}")
            assert page.status == 200
            assert [message["position"] for message in page.body] == [
                position + step for step in range(1, len(page.body) + 1)
            ]
            seen += [message["id"] for message in page.body]
            position += len(page.body)
            if was_complete and not page.body:
                return seen

    def write_all() -> list[str]:
        try:
            answers = at_once(
                partial(person.say, conversation_id, f"message {number}") for number in range(POSTS)
            )
        finally:
            all_written.set()
        return [
            answer.body["id"] for answer in sorted(answers, key=lambda answer: int(answer.body["position"]))
        ]

    written, *seen_by_readers = at_once([write_all, read_along, read_along])
    assert seen_by_readers == [written, written]


def test_parallel_registrations_of_one_address_make_one_account(three_workers: GunicornServer) -> None:
    credentials = {"email": new_email(), "password": PASSWORD}

    def register() -> Answer:
        return Answer(*three_workers.request("POST", "/auth/register", credentials))

    statuses = sorted(answer.status for answer in at_once([register] * 8))
    assert statuses == [201] + [409] * 7
    assert three_workers.request("POST", "/auth/login", credentials)[0] == 200


def test_parallel_posts_of_one_config_store_it_once(three_workers: GunicornServer) -> None:
    person = Person(three_workers)
    provider = person.post("/chat/llm-providers", {"name": "P", "api_endpoint": "https://p.example/v1"}).body
    bodies = [
        {"user_id": person.user["id"], "provider_id": provider["id"], "api_key": f"sk-0123456789-key{number}"}
        for number in range(8)
    ]
    answers = at_once(partial(person.post, "/chat/user-llm-configs", body) for body in bodies)

    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    winner = next(answer.body for answer in answers if answer.status == 201)
    assert person.get(f"/chat/user-llm-configs/{person.user['id']}/{provider['id']}").body == winner


def token_id_of(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


def test_a_refresh_token_used_in_parallel_gives_each_a_pair_with_one_new_refresh_token(
    three_workers: GunicornServer,
) -> None:
    person = Person(three_workers)

    def refresh() -> Answer:
        return Answer(*three_workers.request("POST", "/auth/refresh", token=person.refresh_token))

    answers = at_once([refresh] * 6)
    assert [answer.status for answer in answers] == [200] * 6
    tokens = {token_id_of(answer.body["refresh_token"]) for answer in answers}
    assert len(tokens) == 1
    for answer in answers:
        assert three_workers.request("GET", "/auth/me", token=answer.body["access_token"])[0] == 200
    assert three_workers.request("POST", "/auth/refresh", token=answers[0].body["refresh_token"])[0] == 200
