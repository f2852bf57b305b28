"""Providers' lists of models, in every shape that servers of both protocols send.

The list is an array, or stands in an object under one of several names; its items are objects or texts; it may come in
pages. What a server says of a model's size and abilities is kept, whatever it calls them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from ..egress.addresses import parse
from ..egress.errors import Blocked, Failed
from .untrusted_json import as_count, as_dict, as_list

MAX_MODELS = 1000
MAX_MODEL_ID_LENGTH = 255
MAX_NAME_LENGTH = 255
MAX_PAGES = 20
MAX_CURSOR_LENGTH = 1024

LISTS = ("data", "models", "result", "results", "items", "body")
IDS = ("id", "name", "model", "slug", "modelId", "model_id")
NAME_PREFIX = "models/"  # Gemini's, which takes the names without it as well
NAMES = ("display_name", "displayName", "friendly_name", "name")
# where the size of the context window is said; dots lead into objects
CONTEXT_WINDOWS = (
    "context_window", "context_length", "max_context_length", "max_model_len", "max_input_tokens", "inputTokenLimit",
    "contextWindow", "context_size", "max_sequence_length", "loaded_context_length", "limits.max_input_tokens",
    "metadata.context_length", "top_provider.context_length", "meta.n_ctx", "meta.n_ctx_train",
    "model_info.max_input_tokens",
)  # fmt: skip
OUTPUT_LIMITS = (
    "max_output_tokens", "max_completion_tokens", "outputTokenLimit", "top_provider.max_completion_tokens",
    "limits.max_output_tokens", "metadata.max_tokens", "max_tokens", "maxOutputTokens",
)  # fmt: skip
# our word for an ability: the words that servers have for it, in lower case with _ for - and spaces
ABILITIES = {
    "audio": ("audio", "audio_input", "speech"),
    "files": ("file", "files", "pdf", "pdf_input", "document"),
    "images": ("image", "images", "vision", "multimodal", "image_input", "supports_image_in", "supports_image_input",
               "supports_vision", "vlm"),
    "json_schema": ("structured_outputs", "structured_output", "json_schema", "supports_structured_output"),
    "reasoning": ("reasoning", "thinking", "reasoning_effort", "supports_reasoning", "include_reasoning"),
    "tools": ("tools", "tool_use", "tool_calling", "tool_call", "function_calling", "function_call",
              "supports_tools", "supports_function_calling", "trained_for_tool_use"),
}  # fmt: skip
ABILITY_OF = {word: ability for ability, words in ABILITIES.items() for word in words}
# where abilities are said: lists of words, or objects of flags
ABILITY_FIELDS = (
    "capabilities", "features", "supported_features", "supported_parameters", "input_modalities",
    "supported_input_modalities", "architecture.input_modalities", "modalities.input", "tags", "metadata.tags",
)  # fmt: skip


# of those the ones that list all kinds of input, so that what is missing is not taken
MODALITY_FIELDS = (
    "input_modalities",
    "supported_input_modalities",
    "architecture.input_modalities",
    "modalities.input",
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a provider offers. What its server does not say is None."""

    id: str
    name: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    abilities: tuple[str, ...] | None = None  # of ABILITIES
    lacks: frozenset[str] = frozenset()  # abilities that its server says it does not have

    def to_json(self) -> dict[str, Any]:
        """Without what the server does not say."""
        fields = {
            "id": self.id,
            "name": self.name,
            "context_window": self.context_window,
            "max_output_tokens": self.max_output_tokens,
            "abilities": self.abilities,
        }
        return {name: value for name, value in fields.items() if value is not None}


class ModelList:
    """A list while it is read page by page."""

    def __init__(self, url: str, api_format: str) -> None:
        self._first_url = url
        # where the next page is; None after the last one. Anthropic's pages have 20 models if nothing else is said
        self.next_url: str | None = _with_query(url, limit="1000") if api_format == "anthropic" else url
        self._models: dict[str, Model] = {}
        self._pages = 0

    @property
    def models(self) -> list[Model]:
        """Those that were found, each once, in the provider's order."""
        return list(self._models.values())

    def add_page(self, answer: Any) -> None:
        """Take the models of a page. Raises Failed where it is none."""
        items = _items_of(answer)
        if items is None:
            raise Failed("The provider's response is not a list of models.")
        for item in items:
            model = _model_of(item)
            if model is not None and len(self._models) < MAX_MODELS:
                self._models.setdefault(model.id, model)
        self._pages += 1
        is_full = len(self._models) >= MAX_MODELS or self._pages >= MAX_PAGES or not items
        following = None if is_full else self._following(as_dict(answer))
        self.next_url = None if following == self.next_url else following

    def _following(self, answer: Mapping[str, Any]) -> str | None:
        """The URL of the page after this one, at the same origin: the key goes there."""
        links = as_dict(answer.get("links"))
        for link in (answer.get("next"), links.get("next"), answer.get("next_url")):
            if (url := self._same_origin(link)) is not None:
                return url
        for name, parameter in (
            ("next_page_token", "page_token"),
            ("nextPageToken", "pageToken"),
            ("next_cursor", "cursor"),
            ("last_id", "after_id"),
        ):
            cursor = answer.get(name)
            if name == "last_id" and not answer.get("has_more"):
                continue
            if isinstance(cursor, str) and 0 < len(cursor) <= MAX_CURSOR_LENGTH:
                return _with_query(self.next_url or self._first_url, **{parameter: cursor})
        return None

    def _same_origin(self, link: object) -> str | None:
        """A link to the next page as a URL, unless it leads elsewhere."""
        if not isinstance(link, str) or not link or len(link) > MAX_CURSOR_LENGTH:
            return None
        if not link.startswith(("/", "?", "http://", "https://")):
            return None
        try:
            url = urljoin(self._first_url, link)
            is_same = parse(url)[0] == parse(self._first_url)[0]
        except (ValueError, Blocked):
            return None
        return url if is_same else None


def _items_of(answer: object, depth: int = 2) -> list[Any] | None:
    """The items of a list in any shape; None where there is no list."""
    if isinstance(answer, list):
        return answer
    fields = as_dict(answer)
    if "error" in fields and not any(isinstance(fields.get(name), list) for name in LISTS):
        return None
    for name in LISTS:
        value = fields.get(name)
        if isinstance(value, list):
            return value
        if isinstance(value, dict) and depth:
            if (inner := _items_of(value, depth - 1)) is not None:
                return inner
            if name == "models" and all(isinstance(item, dict) for item in value.values()):
                return [{"id": id, **item} for id, item in value.items()]
    return None


def _model_of(item: object) -> Model | None:
    if isinstance(item, str):
        item = {"id": item}
    fields = as_dict(item)
    id = next((text for name in IDS if isinstance(text := fields.get(name), str) and text), "")
    id = id.removeprefix(NAME_PREFIX)
    if not 0 < len(id) <= MAX_MODEL_ID_LENGTH or not id.isprintable():
        return None
    said = _said_of(fields)
    return Model(
        id=id,
        name=_name_of(fields, id),
        context_window=_first_count(fields, CONTEXT_WINDOWS),
        max_output_tokens=_first_count(fields, OUTPUT_LIMITS),
        abilities=tuple(sorted(ability for ability, has_it in said.items() if has_it)) if said else None,
        lacks=frozenset(ability for ability, has_it in said.items() if not has_it)
        | _missing_modalities(fields, said),
    )


def _name_of(fields: Mapping[str, Any], id: str) -> str | None:
    names = (fields.get(name) for name in NAMES)
    for name in names:
        if isinstance(name, str) and name.removeprefix(NAME_PREFIX) != id and name.isprintable():
            return name.strip()[:MAX_NAME_LENGTH] or None
    return None


def _first_count(fields: Mapping[str, Any], paths: tuple[str, ...]) -> int | None:
    counts = (as_count(_at(fields, path)) for path in paths)
    return next((count for count in counts if count), None)


def _at(fields: Mapping[str, Any], path: str) -> Any:
    value: Any = fields
    for name in path.split("."):
        value = as_dict(value).get(name)
    return value


def _said_of(fields: Mapping[str, Any]) -> dict[str, bool]:
    """Of each ability that a server names whether a model has it."""
    said: dict[str, bool] = {}
    # the fields themselves may be flags, such as supports_tools
    for value in (fields, *(_at(fields, path) for path in ABILITY_FIELDS)):
        for ability, has_it in _flags_of(value):
            said[ability] = has_it or said.get(ability, False)
    if isinstance(kind := fields.get("type"), str) and kind.lower() == "vlm":
        said["images"] = True
    return said


def _missing_modalities(fields: Mapping[str, Any], said: Mapping[str, bool]) -> frozenset[str]:
    """The kinds of input that a list of all kinds does not have. Documents may be read for a model that has none."""
    lists = [as_list(_at(fields, path)) for path in MODALITY_FIELDS]
    if not any("text" in kinds for kinds in lists):
        return frozenset()
    return frozenset(ability for ability in ("audio", "images") if not said.get(ability))


def _flags_of(value: object) -> Iterator[tuple[str, bool]]:
    """Abilities in a list of words, or in an object of flags or of objects with `supported`."""
    for word in as_list(value):
        if isinstance(word, str) and (ability := _ability_of(word)):
            yield ability, True
    for word, flag in as_dict(value).items():
        has_it = flag.get("supported") if isinstance(flag, dict) else flag
        if isinstance(has_it, bool) and (ability := _ability_of(word)):
            yield ability, has_it


def _ability_of(word: str) -> str | None:
    return ABILITY_OF.get(word.lower().replace("-", "_").replace(" ", "_"))


def _with_query(url: str, **parameters: str) -> str:
    """The URL with these parameters in its query, in place of any of the same name."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | parameters
    return parts._replace(query=urlencode(query)).geturl()
