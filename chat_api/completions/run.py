"""One reply in progress: what its provider sends, as a log that any number of readers follow."""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..egress.errors import EgressError, Failed
from ..errors import RETRY_AFTER_S, ApiError, problem_body
from ..llm.client import CancelToken, Client
from ..llm.error_codes import ATTACHMENT_UNREADABLE, ERROR_CODES, FAILED, RATE_LIMITED
from ..llm.error_rules import code_of
from ..llm.errors import ProviderError
from ..llm.events import (
    Corrected,
    Event,
    FileData,
    Finish,
    Notice,
    ProviderState,
    ReasoningDelta,
    Source,
    TextDelta,
    TextWasReasoning,
    ToolCall,
    Usage,
)
from ..llm.finish_reasons import WORDS, finish_reason, is_complete
from ..llm.request import ChatRequest
from ..llm.sources import sources_to_json
from .file_parts import forget_what_was_seen
from .finalize import Outcome
from .provider_states import STATE_TOO_LARGE, stored_state
from .records import StartedCompletion, StoredCompletion, in_progress_to_json
from .reply_files import ReplyFiles
from .reply_log import REASONING, TEXT, Chunk, ReplyLog, source_chunk, tool_call_chunk
from .token_estimates import tokens_of

# why a reply was stopped from our side
BY_USER, BY_CLIENT, BY_SHUTDOWN = "user", "client", "shutdown"

log = logging.getLogger(__name__)


class Run:
    """One reply in progress. One thread writes it, any number read it."""

    def __init__(self, completion: StartedCompletion, *, is_stored: bool = True) -> None:
        self.is_stored = is_stored  # else nothing of it is in the database, and nothing will be
        self.completion = replace(completion, request=None)
        self._request = completion.request
        self.log = ReplyLog()
        self.changed = threading.Condition()
        self.was_sent = threading.Event()  # the request for it
        self.ended: StoredCompletion | None = None  # how it was stored; set once, with the last notification
        self.lost: ApiError | None = None  # set instead where its end could not be stored
        self.saved_position = 0  # durable up to here
        self.stopped_by: str | None = None
        self.started_s = time.monotonic()
        self.first_token_s: float | None = None  # when the first of the reply came
        self._cancel_token = CancelToken()
        self._notices: list[str] = []
        self._sources: dict[str, Source] = {}  # in the order in which they came
        self._usage: Usage | None = None
        self._state: ProviderState | None = None
        self._finish: Finish | None = None
        self.corrected: Corrected | None = None  # what the provider's server refused at first

    @property
    def key(self) -> tuple[str, str]:
        """Its primary key."""
        return self.completion.user_id, self.completion.id

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended is not None or self.lost is not None

    def stop(self, by: str) -> None:
        """End it now: the connection to the provider is closed, what came is kept. Any thread may call this."""
        self.stopped_by = self.stopped_by or by
        self._cancel_token.cancel()

    def was_stopped(self) -> bool:
        """Whether it was stopped from our side."""
        return self.stopped_by is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is over, at most so long; whether it is."""
        with self.changed:
            return self.changed.wait_for(lambda: self.is_over, timeout_s)

    def to_json(self) -> dict[str, Any]:
        """The completion as clients get it, with what has come of the reply."""
        if self.ended is not None:
            return self.ended.to_json()
        return in_progress_to_json(self.completion.to_row(), self.log)

    def produce(self, client: Client, files: ReplyFiles) -> Outcome:
        """Let the provider write the reply to its end; how it ended."""
        failure: EgressError | None = None
        try:
            reads = client.stream(
                self.completion.endpoint,
                self._take_request(),
                self._cancel_token,
                open_file=files.open_temporary,
                on_sent=self.was_sent.set,
            )
            for events in reads:
                self._append(events, files)
        except EgressError as error:
            failure = error
            if error.code == ATTACHMENT_UNREADABLE:
                forget_what_was_seen()
            if isinstance(error, ProviderError):
                self.corrected = self.corrected or error.lesson
        except Exception:  # the end of a thread: whatever it was, the reply has to be finalized
            log.exception("a reply failed unexpectedly", extra={"completion_id": self.completion.id})
            failure = Failed("An internal error occurred; it was logged.")
        files.close()
        self._note_files(files)
        return self._outcome(failure)

    def _note_files(self, files: ReplyFiles) -> None:
        """Say which files are not kept: in the warnings, and in the text where there is nothing else."""
        self._notices += files.warnings
        if self._notices and not self.log.position:
            self._append([TextDelta(f"[{' '.join(self._notices)}]")], files)

    def _take_request(self) -> ChatRequest:
        request, self._request = self._request, None
        if request is None:
            raise RuntimeError("A reply is written once.")
        return request

    def close(self, ended: StoredCompletion | None, lost: ApiError | None = None) -> None:
        """Let the readers know that this is the end."""
        with self.changed:
            self.ended, self.lost = ended, lost
            self.changed.notify_all()

    def _append(self, events: Iterable[Event], files: ReplyFiles) -> None:
        position = self.log.position
        for event in events:
            if isinstance(event, TextDelta):
                self.log.append(Chunk(TEXT, _storable(event.text)))
            elif isinstance(event, ReasoningDelta):
                self.log.append(Chunk(REASONING, _storable(event.text)))
            elif isinstance(event, TextWasReasoning):
                self.log.make_reasoning()
            elif isinstance(event, ToolCall):
                self.log.append(tool_call_chunk(_storable_call(event)))
            elif isinstance(event, Source):
                if event.url not in self._sources:
                    self.log.append(source_chunk(event))
                self._sources[event.url] = event
            elif isinstance(event, FileData):
                if (chunk := files.take(event)) is not None:
                    self.log.append(chunk)
            elif isinstance(event, ProviderState):
                self._state = event
            elif isinstance(event, Usage):
                self._usage = event
            elif isinstance(event, Finish):
                self._finish = event
            elif isinstance(event, Notice):
                self._notices.append(event.text)
            elif isinstance(event, Corrected):
                self.corrected = event
        if self.log.position > position:
            if self.first_token_s is None:
                self.first_token_s = time.monotonic()
            with self.changed:
                self.changed.notify_all()

    def _outcome(self, failure: EgressError | None) -> Outcome:
        status, reason, problem = self._status(failure)
        usage = self._usage or Usage(None, None)
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        if completion_tokens is None:
            completion_tokens = tokens_of(
                self.log.text_of(TEXT) + self.log.text_of(REASONING) + (self.log.tool_calls() or "")
            )
        return Outcome(
            status=status,
            finish_reason=reason,
            problem=problem,
            prompt_tokens=self.completion.prompt_tokens if prompt_tokens is None else prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            sources=sources_to_json(self.log.text_of(TEXT), self._sources.values()),
            # the provider may have counted more of a reply that was cut off than it reported last
            usage_estimated=failure is not None or None in (usage.prompt_tokens, usage.completion_tokens),
            warnings=self._warnings(),
            provider_state=self._stored_state(),
        )

    def _warnings(self) -> tuple[str, ...]:
        """Those of the beginning, and what has been found out since."""
        found = self.corrected.warnings if self.corrected else ()
        of_state = (STATE_TOO_LARGE,) if self._state and not self._state.state else ()
        return tuple(dict.fromkeys((*self.completion.warnings, *found, *of_state, *self._notices)))

    def _stored_state(self) -> str | None:
        """What goes back to the provider with this reply, and to whom."""
        if self._state is None or not self._state.state:
            return None
        return stored_state(self.completion.provider_id, self.completion.model, self._state.state)

    def _status(self, failure: EgressError | None) -> tuple[str, str | None, dict[str, Any] | None]:
        """Status, finish reason and problem."""
        if failure is None:
            reason = finish_reason(self._finish.reason if self._finish else "")
            return ("completed" if is_complete(reason) else "incomplete"), reason, _problem_of_end(reason)
        if self.stopped_by in (BY_USER, BY_CLIENT):
            return "cancelled", "cancelled", None
        if self.stopped_by == BY_SHUTDOWN:
            problem = problem_body(
                503, "server_stopped", "The server was stopped while the reply was written."
            )
            return "incomplete", "server_stopped", problem
        return ("incomplete" if self.log.position else "failed"), "error", problem_of(failure)


def _problem_of_end(reason: str) -> dict[str, Any] | None:
    """Why a reply is incomplete whose provider ended it with a word of its own; the known words say it themselves."""
    if reason in WORDS:
        return None
    code = code_of(None, [reason], reason)
    detail = f"The provider ended the reply before it was complete: {reason}"
    return problem_body(ERROR_CODES[code].status, code, detail)


def problem_of(failure: EgressError) -> dict[str, Any]:
    """A provider's failure as a problem: its 401 never becomes ours."""
    code = failure.code if failure.code in ERROR_CODES else FAILED
    retry_after_s = failure.retry_after_s if isinstance(failure, ProviderError) else None
    if code == RATE_LIMITED:
        retry_after_s = retry_after_s or RETRY_AFTER_S
    extra = {"retry_after_s": retry_after_s} if retry_after_s else {}
    return problem_body(ERROR_CODES[code].status, code, failure.detail, **extra)


def _storable(text: str) -> str:
    """The text with NUL, which Postgres does not hold, replaced. Its length stays."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _storable_call(call: ToolCall) -> ToolCall:
    return ToolCall(_storable(call.id), _storable(call.name), _storable(call.arguments))
