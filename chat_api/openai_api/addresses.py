"""How pictures are addressed in the answer to a request."""

import base64

from ..attachments import links
from ..attachments.sendable import Sendable
from ..files.store import storage, storage_needed
from ..storage import NotStored
from .pages import included
from .shown_files import Address

DATA = "message.input_image.image_url"  # of `include`
MAX_DATA_BYTES = 8 * 1024 * 1024  # of all pictures of an answer that are in it; the others are links


def picture_address(base: str) -> Address:
    """Links at this address of the service, which need no token for a while.

    Where the request includes the pictures themselves, these.
    """
    address = links.address_maker(base)

    def link_to(file: Sendable) -> str:
        return address(file.id)

    return DataUrls(link_to) if DATA in included() else link_to


class DataUrls:
    """The addresses of pictures that are in them, as long as there is room in the answer."""

    def __init__(self, otherwise: Address) -> None:
        self._otherwise, self._room = otherwise, MAX_DATA_BYTES

    def __call__(self, file: Sendable) -> str:
        """A `data:` URL, or what there is otherwise."""
        if file.name is None or file.size_bytes > self._room:
            return self._otherwise(file)
        try:
            with storage_needed():
                chunks = storage().open(file.name)
                try:
                    content = b"".join(chunks)
                finally:
                    chunks.close()
        except NotStored:
            return self._otherwise(file)
        self._room -= len(content)
        return f"data:{file.file_type};base64,{base64.b64encode(content).decode()}"
