"""The text of a PDF, page by page, read with pypdf."""

import logging
from typing import IO, Any

from .errors import ENCRYPTED, UNREADABLE, OutOfTime, Unextractable
from .limits import MAX_PAGE_BYTES, MAX_PAGES
from .output import Full, Output

# what a damaged page may raise in pypdf, which trusts what it reads: nearly anything
_PASSED_ON = (OutOfTime, Full, MemoryError)


def read_pdf(file: IO[bytes], output: Output) -> None:
    """The text of all pages that can be read. Raises Unextractable where none can, or where a password is needed."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(file, strict=False)
        # the password that opens files which only restrict printing is the empty one
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unextractable(ENCRYPTED)
        count = len(reader.pages)
    except (*_PASSED_ON, Unextractable):
        raise
    except (FileNotDecryptedError, DependencyError):
        raise Unextractable(ENCRYPTED) from None
    except Exception as error:
        raise Unextractable(UNREADABLE) from error
    read = 0
    for number in range(min(count, MAX_PAGES)):
        try:
            text = _text_of_page(reader, number)
        except _PASSED_ON:
            raise
        except Exception:  # noqa: S112 - the other pages may be sound
            continue
        read += 1
        output.add(text + "\n\n")
    if count and not read:
        raise Unextractable(UNREADABLE)
    output.is_cut = output.is_cut or count > MAX_PAGES or read < count


def _text_of_page(reader: Any, number: int) -> str:
    page = reader.pages[number]
    contents = page.get_contents()
    if contents is not None and len(contents.get_data()) > MAX_PAGE_BYTES:
        return ""
    text: str = page.extract_text()
    return text
