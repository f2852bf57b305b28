"""How a provider wants its requests: the ways in which servers of one protocol differ."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The defaults are those of OpenAI's own server.

    Three sources are merged, the later ones win: what is known of the vendor, what was set for the provider, and what
    its server complained about.
    """

    # neighbouring messages of one role are joined, because the server wants user and assistant in turns
    alternation: bool = False
    # the reply is requested as a stream
    stream: bool = True
    # `stream_options` may be sent, so that a stream ends with the usage
    stream_options: bool = True
    # under which name the limit of the reply is sent: max_tokens or max_completion_tokens
    limit_field: str = "max_tokens"
    # the role `developer` is known; otherwise it is sent as `system`
    developer_role: bool = True
    # the ids of tool calls that the server accepts: any, or those of Mistral (nine letters and digits)
    call_ids: str = "any"

    def merged(self, changes: Mapping[str, Any]) -> Self:
        """These options with some changed; names that are not options are left out."""
        known = {field.name for field in fields(self)}
        return replace(self, **{name: value for name, value in changes.items() if name in known})
