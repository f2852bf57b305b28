"""Files that are text, and the text of HTML."""

import re
from collections.abc import Iterator
from html import unescape
from typing import IO

from .encodings import decoded
from .limits import MAX_TEXT_BYTES
from .output import Output

_READ_BYTES = 4 * MAX_TEXT_BYTES  # more of it is not kept, whatever the encoding

_TAG = re.compile(r"</?([A-Za-z][^\s/>]{0,40})")
_TAG_REST = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_RAW_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}

_SILENT = {"script", "style", "template", "noscript", "svg", "math", "head"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl", "dt", "figcaption",
    "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "option",
    "p", "pre", "section", "summary", "table", "title", "tr", "ul",
}  # fmt: skip


def read_text(file: IO[bytes], output: Output) -> None:
    """The text of a file that is text. Raises Unextractable for what is not."""
    content = file.read(_READ_BYTES)
    output.is_cut = bool(file.read(1))
    output.add(decoded(content))


def read_html(file: IO[bytes], output: Output) -> None:
    """What an HTML page says: without markup, scripts and styles."""
    content = file.read(_READ_BYTES)
    output.is_cut = bool(file.read(1))
    add_html(decoded(content), output)


def add_html(html: str, output: Output) -> None:
    """Add what a page says."""
    page = _Page(output)
    for tag, is_end, text in tokens_of(html):
        if text:
            page.add_text(text)
        elif is_end:
            page.end(tag)
        else:
            page.start(tag)


def tokens_of(html: str) -> Iterator[tuple[str, bool, str]]:
    """The tags of a page, each with whether it is an end, and its texts, without tag.

    Each character is looked at a few times at most, whatever is left open: what browsers skip to the end of the page
    is skipped here. The standard library's parser takes time that grows with the square of the page.
    """
    offset, has_quotes = 0, True
    while offset < len(html):
        begin = html.find("<", offset)
        if begin < 0:
            yield "", False, unescape(html[offset:])
            return
        if begin > offset:
            yield "", False, unescape(html[offset:begin])
        tag = _TAG.match(html, begin)
        if tag is None and html[begin + 1 : begin + 2] not in ("!", "?", "/"):
            yield "", False, "<"
            offset = begin + 1
            continue
        if tag is None:
            mark = "-->" if html.startswith("<!--", begin) else ">"
            end = html.find(mark, begin)
            offset = end + len(mark)
        else:
            rest = _TAG_REST.match(html, tag.end()) if has_quotes else None
            # a quotation mark that is not closed: from here on none is one
            has_quotes = has_quotes and rest is not None
            end = rest.end() - 1 if rest else html.find(">", tag.end())
            offset = end + 1
        if end < 0:
            return
        if tag is None:
            continue
        name, is_end = tag[1].lower(), html[begin + 1] == "/"
        yield name, is_end, ""
        if not is_end and name in _RAW_ENDS:
            raw_end = _RAW_ENDS[name].search(html, offset)
            if raw_end is None:
                return
            offset = raw_end.start()


class _Page:
    """Hands on the texts of a page that a reader sees."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._silent: str | None = None  # the element that is left out
        self._depth = 0  # of elements of that name in it
        self._in_title = False

    def start(self, tag: str) -> None:
        """An element begins."""
        if self._silent is not None:
            if tag == self._silent:
                self._depth += 1
            elif tag == "title" and self._silent == "head":
                self._in_title = True
            elif tag == "body":  # of a head that was not closed
                self._silent = None
        elif tag in _SILENT:
            self._silent, self._depth = tag, 1
        elif tag in _BLOCKS:
            self._output.add("\n")
        elif tag in ("td", "th"):
            self._output.add("\t")

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._silent is not None:
            if tag == "title" and self._in_title:
                self._in_title = False
                self._output.add("\n")
            elif tag == self._silent:
                self._depth -= 1
                if not self._depth:
                    self._silent = None
        elif tag in _BLOCKS:
            self._output.add("\n")

    def add_text(self, text: str) -> None:
        """A text of the current element."""
        if self._silent is None or self._in_title:
            self._output.add(text)
