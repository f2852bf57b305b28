"""Reading XML of unknown origin as a stream: without entities of its own, and only so deep."""

from collections.abc import Callable
from typing import IO
from xml.parsers import expat

from .errors import TOO_COMPLEX, UNREADABLE, Unextractable
from .limits import MAX_DEPTH

_CHUNK_BYTES = 64 * 1024

Start = Callable[[str, dict[str, str]], None]
Name = Callable[[str], None]


def parse(file: IO[bytes], *, start: Start, end: Name, text: Name) -> None:
    """Call these with the elements, by their names without namespaces, and the texts.

    Raises Unextractable for what is no XML, and for a document type with entities: what they stand for may be larger
    than any memory, or a file of this machine. Expat itself reads nothing but what it is given.
    """
    depth = 0

    def start_element(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise Unextractable(TOO_COMPLEX)
        start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end_element(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(_local(name))

    def refuse_entity(*declared: object) -> None:
        raise Unextractable(TOO_COMPLEX)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = refuse_entity
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        while chunk := file.read(_CHUNK_BYTES):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unextractable(UNREADABLE) from error


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
