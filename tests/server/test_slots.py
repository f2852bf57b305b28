"""Slots: who gets one, who is refused, and when one is free again."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Response

from chat_api.errors import TooManyRequests, Unavailable
from chat_api.server.slots import RequestSlot, Slots, UserShares, request_slots


@pytest.fixture
def slots() -> Slots:
    return Slots(3, full="full", limit_per_user=2, full_for_user="yours are full", retry_after_s=5)


def test_slot_is_released_with_its_block(slots: Slots) -> None:
    with slots.take("ada"):
        assert slots.taken == 1
    assert slots.taken == 0


def test_release_counts_once(slots: Slots) -> None:
    with slots.take("ada") as slot, slots.take("ada"):
        slot.release()
        slot.release()
        assert slots.taken == 1
        with slots.take("ada"), pytest.raises(TooManyRequests):
            slots.take("ada")
    assert slots.taken == 0


def test_user_has_so_many_and_the_process_so_many(slots: Slots) -> None:
    with slots.take("ada"), slots.take("ada"):
        with pytest.raises(TooManyRequests) as refused:
            slots.take("ada")
        assert (refused.value.detail, refused.value.headers["Retry-After"]) == ("yours are full", "5")
        with slots.take("bob"), pytest.raises(Unavailable, match="full"):
            slots.take("eve")
        assert slots.taken == 2
        slots.take("eve").release()  # who was refused has taken nothing


def test_response_keeps_a_slot_until_it_is_closed(slots: Slots) -> None:
    with slots.take("ada") as slot:
        response = slot.until_closed(Response())
    assert slots.taken == 1
    response.close()
    assert slots.taken == 0


def test_error_releases_a_slot_that_was_handed_over(slots: Slots) -> None:
    with pytest.raises(ValueError, match="broken"), slots.take("ada") as slot:  # noqa: PT012 - the block is tested
        slot.until_closed(Response())
        raise ValueError("broken")
    assert slots.taken == 0


def test_request_waits_for_a_slot_until_one_is_free() -> None:
    free = request_slots(1)
    has_it = threading.Event()

    def wait() -> None:
        slot = RequestSlot(free, UserShares(1))
        has_it.set()
        slot.release()

    slot = RequestSlot(free, UserShares(1))
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not has_it.wait(0.05)
    slot.release()
    slot.release()  # counts once
    assert has_it.wait(5)
    waiting.join(5)
    assert free.qsize() == 1


def test_others_run_while_a_request_waits() -> None:
    free = request_slots(1)
    slot = RequestSlot(free, UserShares(1))
    with pytest.raises(ValueError, match="broken"), slot.while_waiting():  # noqa: PT012 - the block is tested
        RequestSlot(free, UserShares(1)).release()
        raise ValueError("broken")
    assert free.empty()
    slot.release()
    assert free.qsize() == 1


def most_at_once(take: Callable[[], RequestSlot]) -> int:
    """How many of 2,000 requests had a slot at the same time, of 16 that wanted one."""
    held: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        slot = take()
        held.append(number)
        most.append(len(held))
        held.remove(number)
        slot.release()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(2000)))
    return max(most)


def test_no_more_requests_run_than_there_are_slots() -> None:
    free = request_slots(3)
    assert most_at_once(lambda: RequestSlot(free, UserShares(1))) <= 3
    assert free.qsize() == 3


def test_a_user_runs_only_so_many_requests_and_waits_without_a_slot() -> None:
    free, shares = request_slots(3), UserShares(2)
    mine = [RequestSlot(free, shares) for _ in range(2)]
    for slot in mine:
        slot.run_for("ada")
    order: list[int] = []

    def wait(number: int) -> None:
        slot = RequestSlot(free, shares)
        slot.run_for("ada")
        order.append(number)
        slot.release()

    threads = []
    for number in range(3):
        threads.append(threading.Thread(target=wait, args=[number]))
        threads[-1].start()
        time.sleep(0.05)
    assert not order
    other = RequestSlot(free, shares)  # the last slot is free
    other.run_for("bob")
    other.release()
    mine[0].release()
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2]
    mine[1].release()
    assert free.qsize() == 3
    assert not shares._running
    assert not shares._waiting


def test_who_has_waited_before_it_is_known_whose_request_it_is_gives_all_back() -> None:
    """Its token may have to wait for the identity provider's keys, without a slot."""
    free, shares = request_slots(1), UserShares(1)
    for _ in range(3):
        slot = RequestSlot(free, shares)
        slot.release()
        slot.run_for("ada")
        assert free.empty(), "It runs again, so it has a slot."
        slot.release()
        assert free.qsize() == 1
        assert not shares._running


def test_the_place_is_given_back_while_a_request_waits() -> None:
    shares = UserShares(1)
    slot = RequestSlot(None, shares)
    slot.run_for("ada")
    with slot.while_waiting():
        other = RequestSlot(None, shares)
        other.run_for("ada")
        other.release()
    assert shares.take("ada") is not None
    slot.release()


def test_no_more_requests_of_a_user_run_than_they_have_places() -> None:
    shares = UserShares(3)

    def of_ada() -> RequestSlot:
        slot = RequestSlot(None, shares)
        slot.run_for("ada")
        return slot

    assert most_at_once(of_ada) <= 3
    assert not shares._running


def test_last_quarter_is_for_users_who_have_none() -> None:
    slots = Slots(8, full="full", limit_per_user=3, full_for_user="yours")
    for user in ("ada", "ada", "ada", "bob", "bob", "bob"):
        slots.take(user)
    carol = slots.take("carol")
    with pytest.raises(Unavailable):
        slots.take("carol")
    with pytest.raises(TooManyRequests):
        slots.take("ada")
    dave = slots.take("dave")
    with pytest.raises(Unavailable):
        slots.take("eve")
    dave.release()
    carol.release()
    slots.take("eve")


def test_waiting_ends_when_a_slot_is_released_or_the_time_is_over() -> None:
    slots = Slots(1, full="full")
    first = slots.take()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        slots.take(wait_s=0.2)
    assert time.monotonic() - began >= 0.2
    threading.Timer(0.1, first.release).start()
    slots.take(wait_s=30)
