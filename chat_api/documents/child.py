"""What runs in the process that reads one document: the file is its standard input, the text its standard output.

It has no settings, no secrets and no database: whoever takes it over with a file has nothing but that file.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import IO, Any

from .errors import ENCRYPTED, TOO_COMPLEX, UNREADABLE, OutOfTime, Unextractable
from .limits import GRACE_CPU_S, MEMORY_BYTES
from .output import Full, Output

_PDF_HEAD_BYTES = 1024  # in which its mark has to be
_RECURSION = 2000


def main() -> None:
    """Read the document of the kind in the first argument, and write a line with how that went, then the text.

    The second argument is how many seconds of CPU time it has.
    """
    _limit_process(int(sys.argv[2]))
    text, fields = _extract(sys.argv[1], sys.stdin.buffer)
    encoded = text.encode("utf-8", "replace")
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    sys.stdout.buffer.write(json.dumps(fields).encode() + b"\n" + encoded)
    sys.stdout.buffer.flush()
    os._exit(0)  # taking apart what a hostile file has built may take longer than building it


def _limit_process(cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + GRACE_CPU_S))
    signal.signal(signal.SIGXCPU, _out_of_time)
    sys.setrecursionlimit(_RECURSION)


def _out_of_time(*args: Any) -> None:
    raise OutOfTime()


def _extract(kind: str, file: IO[bytes]) -> tuple[str, dict[str, Any]]:
    output = Output()
    try:
        _reader(kind, file)(file, output)
    except Full:
        pass
    except OutOfTime:
        output.is_cut = True
    except MemoryError:
        output.is_cut = True
        if not output.has_text:
            return "", {"error": TOO_COMPLEX}
    except RecursionError:
        return "", {"error": TOO_COMPLEX}
    except Unextractable as error:
        if not output.has_text:
            return "", {"error": error.code}
        output.is_cut = True
    return output.text(), {"is_cut": output.is_cut}


def _reader(kind: str, file: IO[bytes]) -> Callable[[IO[bytes], Output], None]:
    """What reads the file: by its content, where that says it."""
    from . import pdf, plain, zipped

    head = file.read(_PDF_HEAD_BYTES)
    file.seek(0)
    if b"%PDF-" in head:
        return pdf.read_pdf
    if head.startswith(b"PK"):
        return zipped.read_zip
    if zipped.is_legacy(head):
        raise Unextractable(ENCRYPTED if kind == "document" else UNREADABLE)
    if kind == "html":
        return plain.read_html
    if kind == "text":
        return plain.read_text
    raise Unextractable(UNREADABLE)
