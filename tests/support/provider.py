"""An LLM provider for tests: real HTTP on a port of its own, which says and breaks what a test scripts.

    with ScriptedProvider() as provider:
        provider.script(openai_stream("Hel", "lo"))                       # the next request, and all after it
        provider.script(Reply(b"no", status=500), openai_stream("ok"))    # first an error, then a reply
        provider.script(openai_stream("a", STALL), model="slow")          # for requests of this model only
        ... api_endpoint=provider.url ...
        provider.last.json["messages"]; provider.last.closed.wait(2)

What is not scripted gets a short text in the protocol of the path, or a list of models.
"""

import json as json_module
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

DEFAULT_TEXT = ("Hello", " from", " the", " provider.")


@dataclass(frozen=True)
class Pause:
    """Wait before the next step, noticing meanwhile when the client closes."""

    seconds: float


@dataclass(frozen=True)
class Endless:
    """Send this again and again until the client closes."""

    piece: bytes
    pause_s: float = 0


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


STALL = _Mark("STALL")  # say nothing more until the client closes
BREAK = _Mark("BREAK")  # reset the connection
CUT = _Mark("CUT")  # close it in an orderly way, without the body's end

Step = bytes | Pause | Endless | threading.Event | _Mark  # an Event: wait until the test sets it


class Reply:
    """An answer: its steps are sent one by one, each piece of bytes as a chunk and a packet of its own."""

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        content_type: str | None = "text/event-stream",
        headers: Mapping[str, str] | None = None,
        framing: str = "chunked",
        keep_alive: bool = True,
    ) -> None:
        """`framing` is "chunked", "length" (only bytes as steps) or "close"."""
        self.steps, self.framing = steps, framing
        self.keep_alive = keep_alive and framing != "close"
        fields = {"Content-Type": content_type} if content_type else {}
        if framing == "chunked":
            fields["Transfer-Encoding"] = "chunked"
        elif framing == "length":
            fields["Content-Length"] = str(sum(len(step) for step in steps if isinstance(step, bytes)))
        if not self.keep_alive:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name}: {value}" for name, value in {**fields, **(headers or {})}.items()]
        self.head = "\r\n".join([*lines, "", ""]).encode()


class Raw(Reply):
    """Steps without a head: what is sent is the test's business. The connection is closed at the end."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(*steps, framing="close")
        self.head = b""


@dataclass
class Received:
    """A request that came in, and how its connection went on."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    connection: int  # which of the provider's connections, from 1
    at: float = field(default_factory=time.monotonic)
    answered: threading.Event = field(default_factory=threading.Event)  # the whole answer was sent
    closed: threading.Event = field(default_factory=threading.Event)  # the client closed before that
    closed_at: float | None = None  # in the seconds of time.monotonic()

    @property
    def json(self) -> Any:
        """The body."""
        return json_module.loads(self.body)

    @property
    def model(self) -> str | None:
        """The model that it asks for."""
        try:
            return self.json.get("model")
        except ValueError:
            return None


Answer = Reply | Callable[[Received], Reply]


class ScriptedProvider:
    """A context manager: listens on 127.0.0.1, one thread for each connection."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._scripts: dict[str | None, list[Answer]] = {}
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.requests: list[Received] = []
        self.connections = 0

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self._listener.getsockname()[1]

    @property
    def origin(self) -> str:
        """scheme://host:port"""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What an `api_endpoint` says, for both protocols."""
        return f"{self.origin}/v1"

    @property
    def last(self) -> Received:
        """The request that came last."""
        return self.requests[-1]

    def of_model(self, model: str) -> list[Received]:
        """The requests for a model."""
        return [request for request in list(self.requests) if request.model == model]

    def wait_for_request(self, model: str | None = None, count: int = 1, timeout_s: float = 10) -> Received:
        """Wait until so many requests (for a model) have come; returns the last of them."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = list(self.requests) if model is None else self.of_model(model)
            if len(found) >= count:
                return found[count - 1]
            time.sleep(0.005)
        raise AssertionError(f"No {count} requests came within {timeout_s} seconds.")

    def script(self, *answers: Answer, model: str | None = None) -> None:
        """Answer the next requests (for a model) with these, one each; the last one is for all that follow."""
        with self._lock:
            self._scripts[model] = list(answers)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._stopping.set()
        _shut(self._listener)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                _shut(sock)

    def drop_idle_connections(self) -> None:
        """Close all connections from this side, as a server does with those that are kept for too long."""
        with self._lock:
            for sock in self._open:
                _shut(sock)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, accepted: socket.socket, number: int) -> None:
        sock = accepted
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(accepted)
                    self._open.add(sock)
            connection = _Connection(sock, self._stopping)
            while (request := connection.read_request(number)) is not None:
                with self._lock:
                    self.requests.append(request)
                reply = self._reply_to(request)
                if not connection.send(reply, request) or not reply.keep_alive:
                    return
        except (OSError, ValueError):
            pass  # the client, or the end of the test, closed it
        finally:
            with self._lock:
                self._open -= {sock, accepted}
                sock.close()

    def _reply_to(self, request: Received) -> Reply:
        model = request.model
        with self._lock:
            script = self._scripts.get(model) or self._scripts.get(None)
            answer: Answer = _default
            if script:
                answer = script.pop(0) if len(script) > 1 else script[0]
        return answer if isinstance(answer, Reply) else answer(request)


class _Connection:
    """One client's connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock, self._stopping = sock, stopping
        self._received = b""

    def read_request(self, number: int) -> Received | None:
        """The next request, or None when the client has closed."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        size = int(headers.get("content-length", 0))
        while len(self._received) < size:
            if not self._receive():
                return None
        body, self._received = self._received[:size], self._received[size:]
        return Received(method, path, headers, body, number)

    def send(self, reply: Reply, request: Received) -> bool:
        """Send an answer; whether the connection is good for another request."""
        try:
            if reply.head:
                self._sock.sendall(reply.head)
            for step in reply.steps:
                if not self._take(step, reply.framing == "chunked"):
                    return False
            if reply.framing == "chunked":
                self._sock.sendall(b"0\r\n\r\n")
            request.answered.set()
            return True
        except OSError:
            request.closed_at = time.monotonic()
            request.closed.set()
            return False

    def _take(self, step: Step, chunked: bool) -> bool:
        """Do one step; whether the answer goes on. Raises OSError when the client has closed."""
        if isinstance(step, bytes):
            self._send_piece(step, chunked)
        elif isinstance(step, Pause):
            self._wait(step.seconds)
        elif isinstance(step, threading.Event):
            while not step.is_set():
                self._wait(0.005)
        elif isinstance(step, Endless):
            while not self._stopping.is_set():
                self._send_piece(step.piece, chunked)
                self._wait(step.pause_s)
        elif step is STALL:
            self._wait(3600)
        elif step is BREAK:
            # closing with this option sends a reset at once
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()
            return False
        else:
            return False
        return True

    def _send_piece(self, piece: bytes, chunked: bool) -> None:
        self._sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stopping.is_set():
            if select.select([self._sock], [], [], min(left, 1))[0] and not self._receive():
                raise ConnectionError("The client closed the connection.")

    def _receive(self) -> bytes:
        piece = self._sock.recv(65536)
        self._received += piece
        return piece


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # it has been closed already


# -- answers in OpenAI's protocol ---------------------------------------------------------------------------


def sse(event: Any, name: str | None = None) -> bytes:
    """One server-sent event. Bytes and text are its data as they are, all else is written as JSON."""
    data = event if isinstance(event, str) else json_module.dumps(event)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


DONE = sse("[DONE]")


def openai_chunk(
    delta: Mapping[str, Any] | None = None, finish: str | None = None, usage: Mapping[str, Any] | None = None
) -> bytes:
    """One `chat.completion.chunk`; without delta and finish its choices are empty, as in the one that brings usage."""
    choices = [{"index": 0, "delta": dict(delta or {}), "logprobs": None, "finish_reason": finish}]
    return sse(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1770933892,
            "model": "gpt-x",
            "choices": choices if delta is not None or finish else [],
            "usage": usage,
        }
    )


def openai_stream(
    *pieces: str | Step,
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (16, 3),
    tool_calls: Iterable[tuple[str, str, str]] = (),
    pause_s: float = 0,
    done: bool = True,
) -> Reply:
    """A streamed reply. Pieces are text; steps (STALL, Pause …) may stand between them.

    `tool_calls` are (id, name, arguments); `usage` is (prompt, completion).
    """
    steps: list[Step] = [openai_chunk({"role": "assistant", "content": "", "refusal": None})]
    for piece in pieces:
        steps.append(openai_chunk({"content": piece}) if isinstance(piece, str) else piece)
        if pause_s:
            steps.append(Pause(pause_s))
    steps += _openai_tool_calls(tool_calls)
    if finish is not None:
        steps.append(openai_chunk({}, finish))
    if usage is not None:
        steps.append(openai_chunk(usage=_openai_usage(usage)))
    return Reply(*steps, *([DONE] if done else []))


def _openai_tool_calls(tool_calls: Iterable[tuple[str, str, str]]) -> Iterator[bytes]:
    """The name in one fragment, the arguments in two."""
    for index, (id, name, arguments) in enumerate(tool_calls):
        begin = {
            "index": index,
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield openai_chunk({"tool_calls": [begin]})
        half = len(arguments) // 2
        for fragment in (arguments[:half], arguments[half:]):
            yield openai_chunk({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})


def _openai_usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def openai_answer(
    text: str, *, finish: str = "stop", usage: tuple[int, int] = (16, 3), **message: Any
) -> Reply:
    """A reply in one JSON object; other keywords are fields of its message."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    return json_answer({"object": "chat.completion", "choices": [choice], "usage": _openai_usage(usage)})


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any JSON with any status."""
    return Reply(
        json_module.dumps(value).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
        framing="length",
    )


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """An error as both protocols answer it."""
    return json_answer({"error": {"message": message, "type": "some_error", **more}}, status, headers)


def models_answer(*ids: str) -> Reply:
    """A list of models."""
    return json_answer({"object": "list", "data": [{"id": id, "object": "model"} for id in ids]})


# -- answers in Anthropic's protocol ------------------------------------------------------------------------


def anthropic_event(kind: str, **fields: Any) -> bytes:
    """One event of a message stream."""
    return sse({"type": kind, **fields}, kind)


def anthropic_delta(index: int, kind: str, **fields: Any) -> bytes:
    """One `content_block_delta`."""
    return anthropic_event("content_block_delta", index=index, delta={"type": kind, **fields})


def anthropic_stream(
    *pieces: str | Step,
    stop_reason: str | None = "end_turn",
    usage: tuple[int, int] = (16, 3),
    tool_calls: Iterable[tuple[str, str, str]] = (),
    thinking: Iterable[str] = (),
    pause_s: float = 0,
    done: bool = True,
) -> Reply:
    """A streamed message; the arguments are those of `openai_stream`."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "usage": {"input_tokens": usage[0], "output_tokens": 1},
    }
    steps: list[Step] = [anthropic_event("message_start", message=message), anthropic_event("ping")]
    blocks = 0
    if thinking:
        steps += _anthropic_block(
            blocks,
            {"type": "thinking", "thinking": "", "signature": ""},
            [anthropic_delta(blocks, "thinking_delta", thinking=piece) for piece in thinking],
        )
        blocks += 1
    if pieces:
        deltas: list[Step] = []
        for piece in pieces:
            deltas.append(
                anthropic_delta(blocks, "text_delta", text=piece) if isinstance(piece, str) else piece
            )
            if pause_s:
                deltas.append(Pause(pause_s))
        steps += _anthropic_block(blocks, {"type": "text", "text": ""}, deltas)
        blocks += 1
    for id, name, arguments in tool_calls:
        half = len(arguments) // 2
        fragments = ("", arguments[:half], arguments[half:])
        steps += _anthropic_block(
            blocks,
            {"type": "tool_use", "id": id, "name": name, "input": {}},
            [anthropic_delta(blocks, "input_json_delta", partial_json=fragment) for fragment in fragments],
        )
        blocks += 1
    if stop_reason is not None:
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        steps.append(anthropic_event("message_delta", delta=delta, usage={"output_tokens": usage[1]}))
    return Reply(*steps, *([anthropic_event("message_stop")] if done else []))


def _anthropic_block(index: int, block: Mapping[str, Any], deltas: Iterable[Step]) -> list[Step]:
    start = anthropic_event("content_block_start", index=index, content_block=dict(block))
    return [start, *deltas, anthropic_event("content_block_stop", index=index)]


def anthropic_answer(text: str, *, stop_reason: str = "end_turn", usage: tuple[int, int] = (16, 3)) -> Reply:
    """A message in one JSON object."""
    return json_answer(
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
        }
    )


def _default(request: Received) -> Reply:
    path = request.path.split("?")[0]
    if path.endswith("/messages"):
        return anthropic_stream(*DEFAULT_TEXT)
    if path.endswith("/models"):
        return models_answer("model-a", "model-b")
    return openai_stream(*DEFAULT_TEXT)
