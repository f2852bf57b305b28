"""Files of another product's conversations: in the zip, by an id or by the name that the user gave, or in a URL.

ChatGPT begins the names of its files with their ids, in whatever folder they are: `file-<id>-photo.png`,
`file_<id>.dat`, `<conversation>/audio/file_<id>-<uuid>.wav`. What a `.dat` was called is in a file of its own.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from mimetypes import guess_extension

_ID = re.compile(
    r"(?:file[-_][0-9A-Za-z]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?![0-9A-Za-z])"
)
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
_HEAD = 200  # of a URL, in which the pattern ends
_AFTER_ID = re.compile(r"[-_. ]*")
_UNNAMED = ("sanitized", "dat", "")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file in the zip."""

    member: str
    name: str  # to call it, where the conversation does not say


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a message."""

    id: str  # as the message has it
    member: str  # in the zip
    name: str
    data: bytes | None = None  # where it is in the message itself


class Assets:
    """Finds files by what a conversation says of them."""

    def __init__(self, members: Iterable[str] = (), labels: Mapping[str, str] | None = None) -> None:
        """`labels` are names for members, by the last part of theirs."""
        self._labels = labels or {}
        self._by_id: dict[str, str] = {}
        self._by_name: dict[str, str | None] = {}  # None for a name that several have
        for member in sorted(members, key=lambda each: (each.count("/"), each)):
            name = _last(member)
            if match := _ID.match(name):
                self._by_id.setdefault(match[0].lower(), member)
            self._by_name[name] = None if name in self._by_name else member

    def by_id(self, text: str) -> Asset | None:
        """The file whose id is in a text such as a pointer."""
        ids = _ID.findall(text)  # the scheme of a pointer looks like one
        member = self._by_id.get(ids[-1].lower()) if ids else None
        if member is None and text:  # an id without its beginning
            member = self._by_id.get(f"file-{text}".lower())
        return Asset(member, self._name_of(member)) if member else None

    def by_name(self, name: str) -> Asset | None:
        """The only file that has this name."""
        member = self._by_name.get(name) if name else None
        return Asset(member, name) if member else None

    def files(self, named: Iterable[tuple[str, str]]) -> list[SourceFile]:
        """Those files of a message that are in the zip, each once; it names them with an id, a name or both."""
        found: dict[str, SourceFile] = {}
        for id_, name in named:
            asset = self.by_id(id_) or self.by_name(name)
            if asset is not None:
                found.setdefault(asset.member, SourceFile(id_ or name, asset.member, name or asset.name))
        return list(found.values())

    def _name_of(self, member: str) -> str:
        """What the user called the file, as far as the zip says so."""
        name = _last(member)
        if name in self._labels:
            return self._labels[name]
        match = _ID.match(name)
        rest = name[_AFTER_ID.match(name, match.end()).end() :] if match else name  # type: ignore[union-attr]
        return name if rest.partition(".")[0] in _UNNAMED else rest


def file_in_url(url: str, name: str = "") -> SourceFile | None:
    """The file that a `data:` URL is (RFC 2397); None for another URL, and for one that is broken."""
    match = _DATA.match(url[:_HEAD])
    if match is None:
        return None
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except ValueError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    kind = match[1].lower()
    extension = guess_extension(kind) or ""
    return SourceFile(digest, f"data:{digest}", name or kind.partition("/")[0] + extension, data)


def _last(member: str) -> str:
    return re.split(r"[/\\]", member)[-1]


NO_ASSETS = Assets()
