"""LiteLLM's proxy: the pinned release in an environment of its own, one worker, no database, nothing logged."""

import http.client
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import post_request
from bench.processes import SERVER_CORE, cpu_between, cpu_seconds, pin
from bench.servers import HOST, ROOT, free_port
from bench.streaming.pace import Pace
from bench.streaming.streams import Provider, Streamed, question_of, run_client
from bench.suite import Report
from tests.support.environments import python_with

LOCK = ROOT / "bench" / "litellm" / "requirements.txt"
START_LIMIT_S = 240.0  # it imports for a minute, the first time
STOP_LIMIT_S = 15.0


@dataclass(frozen=True)
class LiteLlm:
    """The running proxy."""

    port: int
    pid: int
    key: str

    def stream(
        self, what: str, paces: Sequence[Pace], report: Report, *, at_once: int = 1, finish_s: float = 0.0
    ) -> Streamed:
        """Stream these replies through it; failures go into the report."""
        requests = [
            post_request(
                self.port, "/v1/chat/completions", self.key, question_of(pace), "Connection: close\r\n"
            )
            for pace in paces
        ]
        before = cpu_seconds([self.pid])
        measurement = run_client("provider", self.port, requests, paces, at_once)
        time.sleep(finish_s)
        cpu_s = cpu_between(before, cpu_seconds([self.pid]))
        report.fail(f"{what}, LiteLLM's proxy", measurement.failures)
        return Streamed(measurement, len(measurement.failed), cpu_s, 0.0)


@contextmanager
def running_litellm(provider: Provider, folder: Path) -> Iterator[LiteLlm]:
    """Start it on the servers' core, and end it with the block."""
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    folder.mkdir(parents=True)
    upstream = {"model": "openai/*", "api_base": f"http://{HOST}:{provider.port}/v1", "api_key": "sk-bench"}
    models = [{"model_name": "*", "litellm_params": upstream}]
    (folder / "config.yaml").write_text(json.dumps({"model_list": models}))  # JSON is YAML
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches a list of prices
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
    }
    command = [str(python_with(LOCK, "bench-litellm").parent / "litellm"), "--config", "config.yaml"]
    command += ["--host", HOST, "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        pin([process.pid], SERVER_CORE)
        _wait_until_ready(process, port, folder / "log")
        yield LiteLlm(port, process.pid, key)
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/health/liveliness")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError(f"LiteLLM's proxy did not start; its log ends:\n{log.read_text()[-2000:]}")
