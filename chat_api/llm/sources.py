"""What a reply refers to: the sources that providers name in many ways, as events, bounded in number and size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from .events import Event, Source
from .untrusted_json import as_dict, as_list

MAX_SOURCES = 100
MAX_URL_LENGTH = 2048
MAX_TITLE_LENGTH = 300
MAX_PLACES = 50  # of one source
MAX_MARKS = 400  # of all sources: each is looked for in the whole text
MAX_MARK_LENGTH = 1000
MAX_ITEMS = 200  # of a list that a provider sends

# the names under which lists of sources come, at the top of an answer, in a choice or in a message
LISTS = ("search_results", "citations", "web_search", "sources", "references")
CONTAINERS = ("search_info", "context")
GROUNDING = ("grounding_metadata", "groundingMetadata", "vertex_ai_grounding_metadata")
FIELDS = frozenset((*LISTS, *CONTAINERS, *GROUNDING, "annotations", "extra_content", "executed_tools"))
_URLS = ("url", "uri", "link", "source")


@dataclass(slots=True)
class _Known:
    """What is known of a source so far; dictionaries keep the order and each thing once."""

    title: str | None
    places: dict[tuple[int, int], None] = field(default_factory=dict)
    marks: dict[str, None] = field(default_factory=dict)

    def to_event(self, url: str) -> Source:
        return Source(url, self.title, tuple(sorted(self.places)), tuple(self.marks))


class Sources:
    """The sources of one reply. Each becomes an event when it is first named, and once more at the end if more of it is
    known by then."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._spare_marks = MAX_MARKS
        self._last: dict[str, object] = {}  # what came under a name: many servers repeat it with each chunk

    def add(
        self,
        url: object,
        title: object,
        found: list[Event],
        *,
        place: tuple[int, int] | None = None,
        marks: Iterable[str] = (),
    ) -> None:
        """Take a source, unless its URL is none of the web or there are too many."""
        if not isinstance(url, str) or not is_web_url(url := url.strip()):
            return
        title = title_of(title)
        known = self._known.get(url)
        if known is None:
            if len(self._known) >= MAX_SOURCES:
                return
            known = self._known[url] = _Known(title)
            found.append(Source(url, title))
        known.title = known.title or title
        if place is not None and 0 <= place[0] < place[1] and len(known.places) < MAX_PLACES:
            known.places[place] = None
        for mark in marks:
            if mark not in known.marks and 0 < len(mark) <= MAX_MARK_LENGTH and self._spare_marks:
                self._spare_marks -= 1
                known.marks[mark] = None

    def take(self, fields: dict[str, Any], found: list[Event], *, shift: int = 0) -> None:
        """Take the sources in the fields of a chunk, a choice or a message of chat completions.

        Indices count from the beginning of the provider's text, of which so many characters are not part of ours.
        """
        for name in LISTS:
            if (value := fields.get(name)) and self._note(name, value):
                self._take_list(value, found, "doc" if name == "citations" and "intent" in fields else "")
        for name in CONTAINERS:
            if isinstance(inner := fields.get(name), dict):
                self.take(inner, found)
        if (annotations := fields.get("annotations")) and self._note("annotations", annotations):
            self._take_annotations(annotations, found, shift)
        for name in GROUNDING:
            if (value := fields.get(name)) and self._note(name, value):
                self._take_grounding(value, found)
        if extra := as_dict(as_dict(fields.get("extra_content")).get("google")):
            self.take({name: extra.get(name) for name in GROUNDING}, found)
        for tool in as_list(fields.get("executed_tools"))[:MAX_ITEMS]:  # Groq's
            results = as_dict(tool).get("search_results")
            self._take_list(results.get("results") if isinstance(results, dict) else results, found, None)

    def final(self) -> list[Event]:
        """The sources of which more is known than was said."""
        return [known.to_event(url) for url, known in self._known.items() if known.places or known.marks]

    def _note(self, name: str, value: object) -> bool:
        """Remember what came under a name; whether it is not the same as before."""
        if self._last.get(name) == value:
            return False
        self._last[name] = value
        return True

    def _take_list(self, value: object, found: list[Event], mark: str | None) -> None:
        """Take a list of URLs or objects, to which numbers in the text refer; with a mark of None there are none."""
        for number, item in enumerate(as_list(value)[:MAX_ITEMS], 1):
            fields = {"url": item} if isinstance(item, str) else as_dict(item)
            index = fields.get("index")
            if not isinstance(index, int):
                index = number
            marks = () if mark is None else (f"[{mark}{index}]", f"[ref_{index}]", f"【{index}】")
            self.add(_url_of(fields), fields.get("title") or fields.get("name"), found, marks=marks)

    def _take_annotations(self, value: object, found: list[Event], shift: int) -> None:
        for item in as_list(value)[:MAX_ITEMS]:
            fields = as_dict(item)
            cited = as_dict(fields.get("url_citation")) or fields
            begin, end = cited.get("start_index"), cited.get("end_index")
            place = (begin - shift, end - shift) if isinstance(begin, int) and isinstance(end, int) else None
            self.add(_url_of(cited), cited.get("title"), found, place=place)

    def _take_grounding(self, value: object, found: list[Event]) -> None:
        """Gemini's: numbered chunks, and the passages of the text that each of them supports."""
        for metadata in map(as_dict, value if isinstance(value, list) else [value]):
            chunks = [_chunk_of(chunk) for chunk in _either(metadata, "groundingChunks", "grounding_chunks")]
            passages: dict[int, list[str]] = {}
            for support in map(as_dict, _either(metadata, "groundingSupports", "grounding_supports")):
                text = as_dict(support.get("segment")).get("text")
                if not isinstance(text, str):
                    continue
                for number in _either(support, "groundingChunkIndices", "grounding_chunk_indices"):
                    if isinstance(number, int):
                        passages.setdefault(number, []).append(text)
            for number, chunk in enumerate(chunks):
                self.add(_url_of(chunk), chunk.get("title"), found, marks=passages.get(number, ()))


def is_web_url(url: str) -> bool:
    """Whether it can be a link for a reader: http or https, with a host, not too long, without white space."""
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def title_of(title: object) -> str | None:
    """A title on one line, cut to its limit; None if there is none."""
    if not isinstance(title, str):
        return None
    words = " ".join(title[: 4 * MAX_TITLE_LENGTH].split())
    return "".join(filter(str.isprintable, words))[:MAX_TITLE_LENGTH].rstrip() or None


def places_in(text: str, source: Source) -> list[tuple[int, int]]:
    """Where a whole text refers to a source: the provider's places, and those of its marks."""
    places = {place for place in source.places if place[1] <= len(text)}
    for mark in source.marks:
        begin = text.find(mark)
        while begin >= 0 and len(places) < MAX_PLACES:
            places.add((begin, begin + len(mark)))
            begin = text.find(mark, begin + len(mark))
    return sorted(places)[:MAX_PLACES]


def sources_to_json(text: str, sources: Iterable[Source]) -> str | None:
    """The sources of a whole text as a JSON array, with the places that refer to them; None where there are none."""
    listed = [
        {"url": source.url, "title": source.title, "places": places_in(text, source)} for source in sources
    ]
    return orjson.dumps(listed).decode() if listed else None


def _url_of(fields: dict[str, Any]) -> object:
    return next((fields[name] for name in _URLS if fields.get(name)), None)


def _chunk_of(chunk: object) -> dict[str, Any]:
    """A chunk's own fields, which are in an object named after where it comes from."""
    fields = as_dict(chunk)
    return next((inner for inner in fields.values() if isinstance(inner, dict)), fields)


def _either(fields: dict[str, Any], *names: str) -> Iterator[Any]:
    for name in names:
        yield from as_list(fields.get(name))[:MAX_ITEMS]
