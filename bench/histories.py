"""A history that a client of /v1/chat/completions sends whole: how long it takes to find where it is stored.

That is from the parsed body to the place of its last message: texts compared, chain hashes made and looked up. The
process measures it with the service's own code on the service's database; `measure_history` runs it.
"""

import json
import os
import sys
import time

from bench.endpoints import MESSAGE_CONTENT, Fixture
from bench.figures import percentile
from bench.servers import Database, PipedProcess
from bench.suite import Report, Row, Target

MESSAGES = 100
TIMES, WARM_UP = 300, 20
LIMIT_MS = 3.0


def _said(number: int) -> dict[str, str]:
    role = "assistant" if number % 2 else "user"
    return {"role": role, "content": f"{number}: {MESSAGE_CONTENT}"}


def measure_history(database: Database, fixture: Fixture, report: Report) -> Row:
    """Store a conversation, and measure how long it takes to recognise it with one message more."""
    account = fixture.account
    conversation_id = account.create_conversation("A history")
    for number in range(MESSAGES - 1):
        body = {"conversation_id": conversation_id, **_said(number)}
        account.call("POST", "/chat/messages", body)
    order = {"user_id": account.user_id, "settings": database.settings}
    measured = json.loads(PipedProcess("bench.histories").finish(json.dumps(order)))
    failed = TIMES - measured["found"]
    report.fail(f"history on {database.name}", {"not recognised": failed} if failed else {})
    cells = {
        "database": database.name,
        "CPU ms": f"{percentile(measured['cpu_s'], 0.5) * 1000:.2f}",
        "p50 ms": f"{percentile(measured['wall_s'], 0.5) * 1000:.2f}",
        "p99 ms": f"{percentile(measured['wall_s'], 0.99) * 1000:.2f}",
        "failed": str(failed),
    }
    target = Target((percentile(measured["wall_s"], 0.5) * 1000,), (LIMIT_MS,))
    return Row(f"a history of {MESSAGES} messages on {database.name}", cells, target, failed)


def main() -> None:
    """Carry out the order on stdin."""
    order = json.load(sys.stdin)
    os.environ.update(order["settings"])  # before the configuration is read
    from chat_api.completions.turns import Turn, place_turn
    from chat_api.database.session import db
    from chat_api.factory import create_app
    from chat_api.openai_api.chat_requests import drafts_of

    user_id = order["user_id"]
    body = {"messages": [_said(number) for number in range(MESSAGES - 1)]}
    body["messages"].append({"role": "user", "content": "What now?"})
    wall_s, cpu_s, found = [], [], 0
    with create_app().app_context():
        for number in range(TIMES + WARM_UP):
            wall, cpu = time.perf_counter(), time.thread_time()
            turn = Turn(user_id=user_id, provider_id=user_id, model="any", drafts=drafts_of(body))
            place = place_turn(turn=turn).place
            db.session.rollback()
            if number >= WARM_UP:
                wall_s.append(time.perf_counter() - wall)
                cpu_s.append(time.thread_time() - cpu)
                found += place is not None and place.length == MESSAGES - 1
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "found": found}))


if __name__ == "__main__":
    main()
