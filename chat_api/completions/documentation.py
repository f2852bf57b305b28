"""The OpenAPI descriptions of event streams, and of answers that depend on the request."""

from .event_schemas import CompletionEventSchema
from .schemas import CompletionSchema

_EVENTS = """\
Each event has a name (`event:`), an id (`id:`) and one line of JSON (`data:`), which has the name again as `type`:

| event | data |
| --- | --- |
| `completion.started` | `completion` as it started, and `messages`: the one that it replies to, and the reply, \
which is still empty |
| `completion.delta` | `delta`: the next part of the text |
| `completion.reasoning` | `delta`: the next part of the model's reasoning |
| `completion.tool_call` | a complete tool call: `id`, `name` and `arguments` |
| `completion.source` | a source that the reply cites: `url` and `title`; its `places` are in the last event |
| `completion.attachment` | an image, audio or video that the model made, complete and stored: `id`, `file_type`, \
`file_name`, `size_bytes`, `sha256` and `file_path`, where it can be downloaded from now on |
| `completion.completed`, `completion.incomplete`, `completion.failed` or `completion.cancelled` \
| the last event: `completion` as it ended, and `problem` (RFC 9457) if it failed or is incomplete |

Ids increase by the length of each part. A replay may divide the text differently, but yields the same text. \
Lines that begin with a colon are comments (`: keepalive`), sent at the beginning and after ten seconds without an \
event; clients ignore them:

```
id: 0
event: completion.started
data: {"type":"completion.started","completion":{"status":"in_progress", …},"messages":[…]}

id: 6
event: completion.delta
data: {"type":"completion.delta","delta":"By the"}

: keepalive
id: 13
event: completion.delta
data: {"type":"completion.delta","delta":" river."}

id: 14
event: completion.completed
data: {"type":"completion.completed","completion":{"status":"completed", …}}
```

A stream that ends without one of the last four events was interrupted: `GET /chat/completions/{id}/events` with \
`Last-Event-ID` continues after the last event that was received."""

# OpenAPI 3.1 has no word for a stream: the `data` of each of its events are like this
_STREAM = {"schema": CompletionEventSchema, "example": {"type": "completion.delta", "delta": "By the"}}

CREATE = {
    "description": "The message in `content` is stored before the provider is called. The text that has arrived is "
    "stored in any case, also if the client disconnects, the connection to the provider breaks or the server is "
    "stopped.\n\n"
    "Without `stream`, the answer is 201 when the completion has ended. If the provider refuses the key, answers "
    "with an error or is unreachable, it is 502; if the provider times out, 504; if it limits the rate, 429. `code` "
    "names the error, `detail` has the provider's message, and `Retry-After` the time after which to retry, if the "
    "provider sent one. The completion is stored in these cases, too, as `failed`.\n\n"
    "A conversation has one completion in progress at a time: a second one is 409, unless it names another "
    "`parent_id`. An `Idempotency-Key` that was used before returns the same completion, also while it is in "
    "progress, and also if it failed.\n\n"
    "With `background`, the answer is 202 at once; read the events, or get the completion, at any time.\n\n"
    "With `stream`, the answer is 200 `text/event-stream` at once. " + _EVENTS,
    "responses": {
        200: {
            "description": "With `stream`: the events.",
            "content": {"text/event-stream": _STREAM},
        },
        201: {"description": "The completion has ended."},
        202: {
            "description": "With `background`: the completion, in progress.",
            "content": {"application/json": {"schema": CompletionSchema}},
        },
    },
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "description": "Only events after the one with this id; all events if it is missing or `-1`.",
    "pattern": "^(-1|[0-9]{0,16})$",
    "example": "-1",
}
EVENTS = {
    "description": "The stream begins with `completion.started`, or after the event that `Last-Event-ID` names, and "
    "ends when the completion ends. Any number of clients may follow one completion.\n\n" + _EVENTS,
    "responses": {
        200: {"description": "The events.", "content": {"text/event-stream": _STREAM}},
        204: {
            "description": "`Last-Event-ID` names the last event; 204 stops an `EventSource` from reconnecting."
        },
    },
}
