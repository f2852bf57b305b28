"""What the API document says about streams of events, and about answers that depend on the request."""

from .schemas import EventSchema, PreviewSchema

_EVENTS = """\
Each event has a name (`event:`), an id (`id:`) and one line of JSON (`data:`):

| event | data |
| --- | --- |
| `completion.started` | `completion`, as it was at its beginning, and `messages`: the one that is answered, \
and the reply, still empty |
| `completion.delta` | `delta`: the next piece of text |
| `completion.reasoning` | `delta`: the next piece of what the model thinks before it replies |
| `completion.tool_call` | a whole call: `id`, `name` and `arguments` |
| `completion.completed`, `completion.incomplete`, `completion.failed` or `completion.cancelled` \
| `completion`, as it ended, and `problem` (RFC 9457) where it did not end well; nothing comes after it |

Ids count up, by the length of each piece. A replay may cut the text into other pieces, but gives the same text. \
Lines that begin with a colon are comments, sent at the beginning or when nothing else was for ten seconds \
(`: keepalive`); clients skip them:

```
id: 0
event: completion.started
data: {"completion":{"id":"019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071","status":"in_progress"},"messages":[]}

id: 6
event: completion.delta
data: {"delta":"By the"}

: keepalive
id: 13
event: completion.delta
data: {"delta":" river."}

id: 14
event: completion.completed
data: {"completion":{"id":"019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071","status":"completed"}}
```

A stream that ends without one of the last four events was interrupted: `GET /chat/completions/{id}/events` with \
`Last-Event-ID` goes on behind the last event that came."""

_STREAM = {"schema": EventSchema}  # OpenAPI 3.1 has no word for a stream: each of its events is like this

CREATE = {
    "description": "The message in `content` is stored before the provider is called. What came of a reply is stored "
    "whatever happens: also when the client leaves, the provider breaks off or the server is stopped.\n\n"
    "Without `stream` the answer is 201 when the reply has ended. A provider that refuses the key, answers with an "
    "error or can't be reached is 502, one that is silent for too long 504, one that limits its rate 429; the "
    "completion is stored then, too, as `failed`. One reply at a time is written in a conversation: a second one is "
    "409, unless it names another `parent_id`. With an `Idempotency-Key` that was used before the answer is about "
    "the same reply, also while it is still being written, and also if it failed.\n\n"
    "With `stream` the answer is 200 `text/event-stream`, at once. " + _EVENTS,
    "responses": {
        200: {
            "description": "With `stream` the events of the reply; with `dry_run` what would be sent.",
            "content": {"text/event-stream": _STREAM, "application/json": {"schema": PreviewSchema}},
        },
        201: {"description": "The reply has ended."},
    },
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "description": "Only events after the one with this id; all events if it is missing or `-1`.",
    "pattern": "^(-1|[0-9]{0,16})$",
    "example": "17",
}
EVENTS = {
    "description": "It begins with `completion.started`, or behind the event that `Last-Event-ID` names, goes on while "
    "the reply is being written, and ends with it. Any number of clients may follow one reply.\n\n" + _EVENTS,
    "responses": {
        200: {"description": "The events.", "content": {"text/event-stream": _STREAM}},
        204: {
            "description": "The last event is known already; this stops an `EventSource` from coming back."
        },
    },
}
