"""How a provider wants its requests: the ways in which servers of one protocol differ."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

# those that no provider's owner sets: its server says them, see complaints.py
LEARNED_ONLY = ("without", "max_output", "thinking", "version_in_path")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The defaults are what every server of the protocol takes, as far as is known.

    Three sources are merged, the later ones win: what is known of the vendor, what was set for the provider, and what
    its server complained about. The API's schema of `request_options` is made of these fields.
    """

    # User and assistant alternate, from a user's message on, and system messages come first as one: many models'
    # templates refuse anything else
    alternation: bool = True
    # the reply is requested as a stream
    stream: bool = True
    # `stream_options` may be sent, so that a stream ends with the usage
    stream_options: bool = True
    # under which name the limit of the reply is sent; as the caller calls it where nothing is known
    limit_field: Literal["as_given", "max_tokens", "max_completion_tokens"] = "as_given"
    # the role `developer` is known; otherwise it is sent as `system`, which OpenAI takes for the same
    developer_role: bool = False
    # the ids of tool calls that the server accepts: any, or those of Mistral (nine letters and digits)
    call_ids: Literal["any", "mistral"] = "any"
    # the last message may be the assistant's, which the reply continues
    prefill: bool = True
    # a user's message may follow the results of tools, without an assistant's between them
    user_after_tool: bool = True
    # texts may be blank
    blank_text: bool = True
    # calls need a signature of Gemini, or its word for one that is missing
    thought_signatures: bool = False
    # an assistant's message needs `reasoning_content`, even where none is known
    reasoning_content: bool = False
    # what the server sent with a reply for itself goes back to it: signatures, reasoning
    state: bool = True
    # the model looks at pictures; one that does not gets a line about each
    images: bool = True
    # documents in PDF are sent as they are, and the server reads them; otherwise their text is sent
    pdfs: bool = False
    # the model listens to recordings, in WAV and MP3; the protocol of Anthropic has none
    audio: bool = True
    # in whose words parameters are sent: a name in dialects.DIALECTS; otherwise in OpenAI's, and all of them
    dialect: str = ""
    # parameters that the server refuses for the model
    without: tuple[str, ...] = ()
    # the most tokens of a reply that the server accepts for the model
    max_output: int | None = None
    # the form of Anthropic's `thinking` that the server wants for the model
    thinking: Literal["by_model", "budget", "adaptive"] = "by_model"

    # the protocol's paths begin with the version, which the provider's URL lacks
    version_in_path: bool = False

    def merged(self, changes: Mapping[str, Any]) -> Self:
        """These options with some changed; names that are not options are left out."""
        known = {field.name for field in fields(self)}
        values = {name: value for name, value in changes.items() if name in known}
        return replace(self, **merged_changes({"without": self.without}, values))


def merged_changes(known: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Two sets of changes as one: the later values win, but parameters to leave out are added to those before."""
    both = {**known, **changes}
    if "without" in both:
        names = (*known.get("without", ()), *changes.get("without", ()))  # JSON has lists
        both["without"] = tuple(dict.fromkeys(names))
    return both
