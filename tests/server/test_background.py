"""Threads of a server that look after something now and then."""

import time

from flask import Flask

from chat_api.server import lifecycle
from chat_api.server.background import BackgroundThread


class Looker(BackgroundThread):
    looks = 0

    def work(self) -> float:
        self.looks += 1
        return 60.0


def test_requests_that_wait_for_a_start_come_before_background_work() -> None:
    looker = Looker(Flask("test"))
    looker.start_serving()
    time.sleep(lifecycle.FIRST_LOOK_AFTER_S / 2)
    assert looker.looks == 0
    time.sleep(lifecycle.FIRST_LOOK_AFTER_S)
    assert looker.looks == 1
    looker.finish_shutdown()


def test_a_process_that_ends_at_once_does_no_background_work() -> None:
    looker = Looker(Flask("test"))
    looker.start_serving()
    began = time.monotonic()
    looker.finish_shutdown()
    assert time.monotonic() - began < lifecycle.FIRST_LOOK_AFTER_S
    assert looker.looks == 0
