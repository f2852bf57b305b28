"""A real llama.cpp server with the tiny model, in a process of its own; and what it says when asked directly."""

import http.client
import json as json_module
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.e2e.tiny_model import write_tiny_model
from tests.support.server import REPOSITORY

MODEL = "tiny"
SLOTS = 4  # replies at the same time
SEED = 7
PATIENCE_S = 60.0


class LlamaServer:
    """A context manager: the server on a free port of 127.0.0.1, which takes one API key.

    The same prompt gets the same noise from it, unless it `caches` prompts: then the least digits of its numbers
    depend on what was asked before, and so does, after some hundred tokens, what it says.
    """

    def __init__(self, *, caches: bool = False) -> None:
        self._caches = caches
        self.api_key = f"sk-e2e-{secrets.token_hex(16)}"
        self.port = 0

    @property
    def base_url(self) -> str:
        """Where its OpenAI-compatible and its Anthropic-compatible API are."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="chat-api-llama-")
        model, log = Path(self._folder.name, "tiny.gguf"), Path(self._folder.name, "log")
        write_tiny_model(model)
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.e2e.llama",
                    str(model),
                    "cached" if self._caches else "uncached",
                ],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self.api_key}\n")
        self._process.stdin.flush()
        port = self._process.stdout.readline()
        if not port:
            self.__exit__()
            raise RuntimeError(
                f"llama.cpp's server did not start:\n{log.read_text(errors='replace')[-4000:]}"
            )
        self.port = int(port)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=PATIENCE_S)  # closes its stdin, at which it stops
        self._folder.cleanup()

    def request(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Ask it directly, with its key unless `headers` say otherwise; returns status and body."""
        fields = {"Authorization": f"Bearer {self.api_key}"} if headers is None else headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            body = None if json is None else json_module.dumps(json)
            connection.request(method, path, body, {"Content-Type": "application/json", **fields})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ask(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> dict[str, Any]:
        """A chat completion that is not streamed, as it answers it."""
        body = {"model": MODEL, "messages": messages, **parameters}
        status, answer = self.request("POST", "/v1/chat/completions", body)
        assert status == 200, answer
        return json_module.loads(answer)

    def say(self, messages: Sequence[Mapping[str, str]], **parameters: Any) -> str:
        """The text of a reply as it streams it; of a character that is cut at the end it sends nothing then."""
        body = {"model": MODEL, "messages": messages, "stream": True, **parameters}
        status, stream = self.request("POST", "/v1/chat/completions", body)
        assert status == 200, stream
        lines = [line for line in stream.split("\n") if line.startswith("data: {")]
        deltas = [json_module.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines]
        return "".join(delta.get("content") or "" for delta in deltas)

    def count_prompt_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """How many tokens it makes of a conversation."""
        return self.ask(messages, max_tokens=1)["usage"]["prompt_tokens"]

    def count_busy_slots(self) -> int:
        """How many replies it is working on."""
        _, slots = self.request("GET", "/slots")
        return sum(slot["is_processing"] for slot in json_module.loads(slots))


def serve(model_path: str, caching: str, api_key: str) -> None:
    """Serve the model, print the port, and end when stdin does."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model_path
    parameters.model_alias = {MODEL}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_ctx = 0  # as much as the model has
    parameters.n_parallel = SLOTS
    parameters.kv_unified = True  # one reply may take all of the context
    parameters.cache_prompt = caching == "cached"
    parameters.sampling.seed = SEED  # the same noise in every run
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.endpoint_slots = True
    server = xllamacpp.Server(parameters)
    print(server.listening_address.rpartition(":")[2], flush=True)
    sys.stdin.read()
    os._exit(0)  # without waiting for replies that nobody reads any more


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.stdin.readline().strip())
