"""A stand-in for a language model: it repeats the user's message word by word. `flask demo-provider` serves it.

It implements both provider protocols, accepts any key, and counts a word as a token.
"""

import errno
import json
import re
import socket
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

MODEL = "echo"
MAX_BODY_BYTES = 32 * 1024 * 1024
STALLED_CLIENT_S = 60
EXPLANATION = (
    "I am the demo provider of chat-api and not a language model: I repeat your message, one word after the other, "
    "so that you can watch a reply being streamed, leave it, resume it or cancel it."
)


class CannotListen(Exception):
    """The server can't listen on the address; the message says why and what to do."""


class BadRequest(Exception):
    """The request does not have the shape that the protocol requires; the message says what is wrong."""


class ClientLeft(Exception):
    """The client has closed the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to send."""

    id: str
    model: str
    words: tuple[str, ...]  # each with the space before it, so that joined they are the text
    is_cut: bool  # max_tokens allowed fewer words than there were
    prompt_words: int

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.words)


class Protocol(ABC):
    """How one kind of provider writes replies as JSON, whole and as events of a stream."""

    reply_id_prefix = ""

    @abstractmethod
    def token_limit(self, body: dict[str, Any]) -> int | None:
        """The maximum number of words in the request."""

    @abstractmethod
    def whole(self, reply: Reply) -> dict[str, Any]:
        """The answer to a request that is not streamed."""

    @abstractmethod
    def opening(self, reply: Reply) -> bytes:
        """The events before the first word."""

    @abstractmethod
    def delta(self, reply: Reply, word: str) -> bytes:
        """The event of one word."""

    @abstractmethod
    def ending(self, reply: Reply, body: dict[str, Any]) -> bytes:
        """The events after the last word."""

    @abstractmethod
    def error(self, kind: str, message: str) -> dict[str, Any]:
        """The body of an error response."""


class ChatCompletions(Protocol):
    """OpenAI's chat completions, as most providers and local servers speak them."""

    reply_id_prefix = "chatcmpl-"

    def token_limit(self, body: dict[str, Any]) -> int | None:
        return _limit(body, "max_completion_tokens") or _limit(body, "max_tokens")

    def whole(self, reply: Reply) -> dict[str, Any]:
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason(reply)}
        return self._object(reply, "chat.completion", [choice], usage=self._usage(reply))

    def opening(self, reply: Reply) -> bytes:
        return self._chunk(reply, {"role": "assistant", "content": ""})

    def delta(self, reply: Reply, word: str) -> bytes:
        return self._chunk(reply, {"content": word})

    def ending(self, reply: Reply, body: dict[str, Any]) -> bytes:
        frames = self._chunk(reply, {}, self._reason(reply))
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            frames += _frame(self._object(reply, "chat.completion.chunk", [], usage=self._usage(reply)))
        return frames + b"data: [DONE]\n\n"

    def error(self, kind: str, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def _chunk(self, reply: Reply, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _frame(self._object(reply, "chat.completion.chunk", [choice]))

    def _object(self, reply: Reply, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        facts = {"id": reply.id, "object": kind, "created": int(time.time()), "model": reply.model}
        return {**facts, "choices": choices, **more}

    def _reason(self, reply: Reply) -> str:
        return "length" if reply.is_cut else "stop"

    def _usage(self, reply: Reply) -> dict[str, int]:
        completion_words = len(reply.words)
        return {
            "prompt_tokens": reply.prompt_words,
            "completion_tokens": completion_words,
            "total_tokens": reply.prompt_words + completion_words,
        }


class Messages(Protocol):
    """Anthropic's Messages API."""

    reply_id_prefix = "msg_"

    def token_limit(self, body: dict[str, Any]) -> int | None:
        limit = _limit(body, "max_tokens")
        if limit is None:
            raise BadRequest("max_tokens: Field required")
        return limit

    def whole(self, reply: Reply) -> dict[str, Any]:
        usage = {"input_tokens": reply.prompt_words, "output_tokens": len(reply.words)}
        content = [{"type": "text", "text": reply.text}]
        return self._message(reply, content=content, stop_reason=self._reason(reply), usage=usage)

    def opening(self, reply: Reply) -> bytes:
        usage = {"input_tokens": reply.prompt_words, "output_tokens": 1}
        message = self._message(reply, content=[], stop_reason=None, usage=usage)
        return self._event("message_start", message=message) + self._event(
            "content_block_start", index=0, content_block={"type": "text", "text": ""}
        )

    def delta(self, reply: Reply, word: str) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})

    def ending(self, reply: Reply, body: dict[str, Any]) -> bytes:
        delta = {"stop_reason": self._reason(reply), "stop_sequence": None}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=delta, usage={"output_tokens": len(reply.words)})
            + self._event("message_stop")
        )

    def error(self, kind: str, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": message}}

    def _event(self, name: str, **content: Any) -> bytes:
        return _frame({"type": name, **content}, name)

    def _message(self, reply: Reply, **more: Any) -> dict[str, Any]:
        facts = {"id": reply.id, "type": "message", "role": "assistant", "model": reply.model}
        return {**facts, "stop_sequence": None, **more}

    def _reason(self, reply: Reply) -> str:
        return "max_tokens" if reply.is_cut else "end_turn"


PROTOCOLS: dict[str, Protocol] = {"/chat/completions": ChatCompletions(), "/messages": Messages()}


class DemoProvider(ThreadingHTTPServer):
    """Listens at once and answers once `serve_forever` runs, each client in a thread."""

    request_queue_size = 128

    def __init__(
        self, host: str, port: int, *, words_per_second: float, report: Callable[[str], object]
    ) -> None:
        """Port 0 means any free one. `report` gets a line about each reply. Raises CannotListen."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.words_per_second = words_per_second
        self.report = report
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise CannotListen(_listen_error(host, port, error)) from error

    @property
    def base_url(self) -> str:
        """What to give as a provider's `api_endpoint`."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}/v1" if ":" in str(host) else f"http://{host!s}:{port}/v1"

    def server_bind(self) -> None:
        """Bind without the standard library's DNS lookup of the server's own name, which nothing needs."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """One client's connection."""

    server: DemoProvider
    protocol_version = "HTTP/1.1"
    timeout = STALLED_CLIENT_S
    disable_nagle_algorithm = True  # each word goes out at once
    sent_words = 0  # of the reply that is being sent

    def handle(self) -> None:
        """Serve until the connection ends, which may be at any moment."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """The list of models."""
        if self._path() == "/models":
            model = {"id": MODEL, "object": "model", "type": "model", "display_name": "Echo", "created": 0}
            self._send_json(200, {"object": "list", "data": [model], "has_more": False})
        else:
            self._send_error(ChatCompletions(), 404, "not_found_error", f"There is no GET {self._path()}.")

    def do_POST(self) -> None:
        """A reply, in the protocol of the path."""
        protocol = PROTOCOLS.get(self._path())
        try:
            body = self._read_body()
            if protocol is None:
                self._send_error(
                    ChatCompletions(), 404, "not_found_error", f"There is no POST {self._path()}."
                )
                return
            reply = _reply_to(body, protocol)
        except BadRequest as error:
            self._send_error(protocol or ChatCompletions(), 400, "invalid_request_error", str(error))
            return
        self.sent_words = 0
        try:
            self._send_reply(protocol, reply, body)
        except (ClientLeft, ConnectionError, TimeoutError):
            self.close_connection = True
            self.server.report(f"client left after {_count(self.sent_words)}")
        else:
            self.server.report(
                f"sent {_count(self.sent_words)}" + (", cut by max_tokens" if reply.is_cut else "")
            )

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: `report` gets a line about each reply."""

    def _path(self) -> str:
        """The path without an optional /v1."""
        return urlsplit(self.path).path.removeprefix("/v1")

    def _read_body(self) -> dict[str, Any]:
        """The body, an object. Raises BadRequest."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY_BYTES:
            self.close_connection = True  # the rest of the body would be read as the next request
            raise BadRequest(f"Content-Length is required and must be at most {MAX_BODY_BYTES} bytes.")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise BadRequest("The body is not JSON.") from None
        if not isinstance(body, dict):
            raise BadRequest("The body is not a JSON object.")
        return body

    def _send_reply(self, protocol: Protocol, reply: Reply, body: dict[str, Any]) -> None:
        """Send the reply at the configured pace, counting the words. Raises ClientLeft."""
        is_streamed = bool(body.get("stream"))
        if is_streamed:
            self._begin_stream(protocol.opening(reply))
        began = time.monotonic()
        for number, word in enumerate(reply.words, 1):
            self._wait_until(began + number / self.server.words_per_second)
            if is_streamed:
                self._send_chunk(protocol.delta(reply, word))
            self.sent_words = number
        if is_streamed:
            self._send_chunk(protocol.ending(reply, body))
            self._send_chunk(b"")
        else:
            self._send_json(200, protocol.whole(reply))

    def _wait_until(self, moment: float) -> None:
        """Wait and watch the connection: a client sends nothing now, so if it becomes readable, it was closed."""
        self.connection.settimeout(max(moment - time.monotonic(), 0.0001))
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise ClientLeft
        except TimeoutError:
            return
        finally:
            self.connection.settimeout(STALLED_CLIENT_S)
        time.sleep(
            max(moment - time.monotonic(), 0)
        )  # readable, but not closed: the client has sent its next request already

    def _begin_stream(self, opening: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send_chunk(opening)

    def _send_chunk(self, content: bytes) -> None:
        """Send a chunk of the stream; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _send_error(self, protocol: Protocol, status: int, kind: str, message: str) -> None:
        self._send_json(status, protocol.error(kind, message))

    def _send_json(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _reply_to(body: dict[str, Any], protocol: Protocol) -> Reply:
    """The reply to a request. Raises BadRequest."""
    messages, limit = body.get("messages"), protocol.token_limit(body)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequest("messages: must be a list of objects")
    user_texts = [_text(message.get("content")) for message in messages if message.get("role") == "user"]
    repeated = (
        f"You said: {user_texts[-1].strip()}\n\n"
        if user_texts and user_texts[-1].strip()
        else "You said nothing. "
    )
    words = tuple(re.findall(r"\s*\S+", repeated + EXPLANATION))
    prompt = [_text(body.get("system")), *(_text(message.get("content")) for message in messages)]
    return Reply(
        id=protocol.reply_id_prefix + uuid.uuid4().hex,
        model=str(body.get("model") or MODEL),
        words=words[:limit],
        is_cut=limit is not None and limit < len(words),
        prompt_words=sum(len(text.split()) for text in prompt),
    )


def _text(content: Any) -> str:
    """The text of a message, whose content may have parts; parts such as images have no text."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _limit(body: dict[str, Any], name: str) -> int | None:
    """A number of tokens in the request, or None without it. Raises BadRequest."""
    limit = body.get(name)
    if limit is not None and (type(limit) is not int or limit < 1):
        raise BadRequest(f"{name}: must be a whole number, at least 1")
    return limit


def _frame(content: dict[str, Any], event: str | None = None) -> bytes:
    """One event of a stream."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(content)}\n\n".encode()


def _count(words: int) -> str:
    return "1 word" if words == 1 else f"{words} words"


def _listen_error(host: str, port: int, error: OSError) -> str:
    """Why the server can't listen on the address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop what listens there, or choose another port with --port "
            "(as in `make demo-provider DEMO_PORT=8101`)."
        )
    if error.errno == errno.EACCES:
        return f"You have no permission to listen on port {port}: choose one above 1023 with --port."
    return f"Can't listen on {host}, port {port}: {error.strerror}."
