"""Citations in the texts of ChatGPT: marks that mean nothing elsewhere, replaced by the links that they stand for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from .texts import first_string, objects, storable, string

# Today's marks, between characters for private use; and those of before. Each alternative excludes its own beginning,
# so a text of nothing but beginnings costs one pass.
_MARK = re.compile("\ue200[^\ue200\ue201]*\ue201|【[^【】\n]{1,200}】")
_ALONE = re.compile("[\ue200\ue201\ue202]")
_PART = "\ue202"
_OLD_NUMBER = re.compile(r"【(\d{1,4})(?::\d{1,4})?†")
_MOST_LINKS = 10  # of one mark


def with_links(text: str, metadata: Mapping[str, Any]) -> str:
    """The text with its marks replaced; those without a known link are removed."""
    if "\ue200" not in text and "†" not in text:
        return _ALONE.sub("", text)
    links = dict(_references(metadata))
    numbered = _numbered(metadata)

    def replacement(match: re.Match[str]) -> str:
        mark = match[0]
        if mark in links:
            return links[mark]
        if mark.startswith("【"):
            number = _OLD_NUMBER.match(mark)
            if number is None:
                return mark  # brackets of the text's own
            return numbered.get(int(number[1]), "")
        return _entity(mark)

    return _ALONE.sub("", _MARK.sub(replacement, text))


def _references(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Marks with what they stand for."""
    for reference in objects(metadata.get("content_references")):
        mark = string(reference.get("matched_text"))
        if mark.strip():
            yield mark, _text_of(reference)
    for citation in objects(metadata.get("citations")):
        mark, details = string(citation.get("matched_text")), citation.get("metadata")
        if mark.strip() and isinstance(details, dict):
            yield mark, _link(details)


def _numbered(metadata: Mapping[str, Any]) -> dict[int, str]:
    """What the numbers in old marks stand for."""
    found: dict[int, str] = {}
    cited = metadata.get("_cite_metadata")
    if isinstance(cited, dict):
        found.update(enumerate(map(_link, objects(cited.get("metadata_list")))))
    for citation in objects(metadata.get("citations")):
        details = citation.get("metadata")
        extra = details.get("extra") if isinstance(details, dict) else None
        number = extra.get("cited_message_idx") if isinstance(extra, dict) else None
        if isinstance(details, dict) and isinstance(number, int):
            found.setdefault(number, _link(details))
    return found


def _text_of(reference: dict[str, Any]) -> str:
    """What a reference is in Markdown: as the export has it, or made of its links."""
    alt = string(reference.get("alt"))
    if alt.strip():
        return storable(alt)
    items = objects(reference.get("items")) or objects(reference.get("sources")) or [reference]
    links = [link for item in items[:_MOST_LINKS] if (link := _link(item))]
    return " ".join(dict.fromkeys(links))


def _link(item: dict[str, Any]) -> str:
    """A link in Markdown; the name alone of what has no address."""
    url = storable(first_string(item, "url", "cloud_doc_url"))
    name = " ".join(storable(first_string(item, "title", "name", "attribution")).split())
    if url.startswith(("https://", "http://")):
        label = (name or url).replace("[", "(").replace("]", ")")
        return f"([{label}]({url.replace('(', '%28').replace(')', '%29').replace(' ', '%20')}))"
    return f"[{name}]" if name else ""


def _entity(mark: str) -> str:
    """The name that a mark for a person or a thing has in it; empty for other marks."""
    kind, _, rest = mark[1:-1].partition(_PART)
    if kind != "entity":
        return ""
    try:
        values = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return ""
    is_named = isinstance(values, list) and len(values) > 1 and isinstance(values[1], str)
    return storable(values[1]) if is_named else ""
