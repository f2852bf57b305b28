"""Hashing passwords takes 19 MiB each: bounded by the number of cores, and given back."""

import os
import subprocess
import sys

import pytest

from tests.support.server import REPOSITORY

# eight logins at once, some times over, in a process as a worker is: (peak, rest) of its growth in MiB
MEASURE = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import psutil
from chat_api.auth.passwords import hash_password, verify_password
from chat_api.server import memory
assert memory.return_large_blocks()
own = psutil.Process()
begin, peak, running = own.memory_info().rss, 0, True
def watch():
    global peak
    while running:
        peak = max(peak, own.memory_info().rss)
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
with ThreadPoolExecutor(8) as pool:
    hashes = list(pool.map(hash_password, ["correct horse battery"] * 24))
    assert all(pool.map(verify_password, ["correct horse battery"] * 24, hashes))
running = False
watcher.join()
print((peak - begin) // 2**20, (own.memory_info().rss - begin) // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="What malloc does with freed memory is the C library's.")
def test_eight_logins_at_once_take_bounded_memory_and_give_it_back() -> None:
    command = [sys.executable, "-c", MEASURE]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    peak, rest = map(int, result.stdout.split())
    assert peak <= 20 * min(os.cpu_count() or 1, 8) + 10
    assert rest < 10
