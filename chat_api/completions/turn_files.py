"""The files of a turn's new messages: stored before its transaction, and looked at as they will be sent.

So the transaction only writes rows, and what can't be sent is refused before anything of the turn is stored. Files of
messages that are stored already are only hashed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from flask import current_app

from ..attachments.references import FoundFile, LinkedFile
from ..attachments.sendable import Sendable
from ..attachments.service import store_within_quota
from ..database.session import db
from ..errors import ApiError
from ..files import service as files
from ..files.service import Kept, Upload
from ..files.store import name_of, storage, storage_needed
from ..llm.abilities import Takes, abilities_of
from ..user_llm_configs import service as configs
from ..web.request_body import end_reads
from ..web.spool import disk_space_needed
from .draft_files import DraftPart, InlineFile, files_of
from .file_parts import AskTakes, Limits, file_to_send
from .model_abilities import known_lacks
from .omissions import Unsendable
from .preparing import Preparation
from .sent_files import refusal_of
from .turns import Draft, PlacedTurn, Turn


@contextmanager
def kept_and_commit(placed: PlacedTurn) -> Iterator[PlacedTurn]:
    """The turn with the files of its new messages stored, and prepared for being sent. Outside a transaction.

    Where the block fails, those that nothing refers to are removed. Raises QuotaExceeded, Unavailable where the storage
    is away, and of the message that is answered what `FilesOfMessages` raises.
    """
    if not any(files_of(draft.parts) for draft in placed.new_drafts):
        yield placed
        return
    with stored_and_commit(user_id=placed.turn.user_id, drafts=placed.new_drafts) as drafts:
        _prepare(placed.turn, drafts)
        known = placed.turn.drafts[: len(placed.turn.drafts) - len(drafts)]
        yield replace(placed, turn=replace(placed.turn, drafts=[*known, *drafts]))


@contextmanager
def stored_and_commit(*, user_id: str, drafts: Sequence[Draft]) -> Iterator[Sequence[Draft]]:
    """Messages with those of their files stored that are in the request. Outside a transaction.

    Where the block fails, what nothing refers to is removed. Raises QuotaExceeded, and Unavailable where the storage is
    away.
    """
    if not any(files_of(draft.parts) for draft in drafts):
        yield drafts
        return
    end_reads()
    kept = _keep(user_id, drafts)
    try:
        found = _store_and_commit(user_id, kept)
        yield [replace(draft, parts=[_found(part, found) for part in draft.parts]) for draft in drafts]
    except BaseException:
        _release_and_commit(user_id, kept)
        raise


def _keep(user_id: str, drafts: Sequence[Draft]) -> dict[str, tuple[Kept, str]]:
    """The bytes of the files that are in the request, in the storage, with their names; by their hashes."""
    kept: dict[str, tuple[Kept, str]] = {}
    with storage_needed():
        for file in (file for draft in drafts for file in files_of(draft.parts)):
            if isinstance(file, InlineFile) and file.sha256 not in kept:
                found = files.find_kept(user_id=user_id, sha256=file.sha256)
                kept[file.sha256] = found or _written(user_id, file), file.file_name
    return kept


def _written(user_id: str, file: InlineFile) -> Kept:
    upload = Upload(file.sha256, file.size_bytes, file.file_type)
    with disk_space_needed(), storage().new_file() as incoming:
        incoming.file.write(file.read())
        incoming.file.flush()
        return files.keep_bytes(user_id=user_id, incoming=incoming, upload=upload)


def _store_and_commit(user_id: str, kept: dict[str, tuple[Kept, str]]) -> dict[str, FoundFile]:
    """The rows of these files, by their hashes."""
    found = {}
    try:
        for sha256, (each, file_name) in kept.items():
            file_id = each.file_id if each.is_known else store_within_quota(user_id=user_id, kept=each)
            upload = each.upload
            found[sha256] = FoundFile(file_id, file_name, upload.file_type, upload.size_bytes, sha256)
        db.session.commit()
    except BaseException:
        db.session.rollback()
        for each, _ in kept.values():
            files.discard_bytes(user_id=user_id, kept=each)
        raise
    for sha256, (each, _) in kept.items():
        files.discard_bytes(user_id=user_id, kept=each, file_id=found[sha256].file_id)
    return found


def _release_and_commit(user_id: str, kept: dict[str, tuple[Kept, str]]) -> None:
    """Have what was stored removed again, unless something refers to it."""
    db.session.rollback()
    new = [each.file_id for each, _ in kept.values() if not each.is_known]
    if new:
        files.release_files(user_id=user_id, file_ids=new)
        db.session.commit()


def _found(part: DraftPart, found: dict[str, FoundFile]) -> DraftPart:
    """The part, in place of what was in the request the stored file, under the name that it has here."""
    if not isinstance(part, InlineFile):
        return part
    return found[part.sha256]._replace(file_name=part.file_name)


def _prepare(turn: Turn, drafts: Sequence[Draft]) -> None:
    """Find out how the files are sent, and refuse what the newest message can't have sent.

    What is found out is remembered, so that the same costs nothing in the transaction.
    """
    config, preparation = current_app.config, Preparation(turn.user_id)
    limits = Limits(config["MAX_SENT_FILE_BYTES"], config["MAX_SENT_FILE_TOKENS"])
    takes = takes_of(turn)
    is_newest = True
    for draft in reversed([draft for draft in drafts if draft.role == "user"]):
        for file in files_of(draft.parts):
            attachment = _sendable(turn.user_id, file) if isinstance(file, FoundFile | LinkedFile) else None
            if attachment is None:
                continue
            try:
                file_to_send(
                    attachment, user_id=turn.user_id, takes=takes, limits=limits, preparation=preparation
                )
            except Unsendable as error:
                if is_newest:
                    raise refusal_of(attachment, error.reason) from None
            except ApiError:
                if is_newest:
                    raise
        is_newest = False
    db.session.rollback()


def takes_of(turn: Turn) -> AskTakes:
    """What the model of a turn takes besides text, asked when it matters."""

    def ask() -> Takes:
        access = configs.open_access(user_id=turn.user_id, provider_id=turn.provider_id)
        endpoint = access.endpoint_for(user_id=turn.user_id, provider_id=turn.provider_id, model=turn.model)
        return abilities_of(endpoint, known_lacks(turn.user_id, endpoint, turn.model))

    return cache(ask)


def _sendable(user_id: str, file: FoundFile | LinkedFile) -> Sendable:
    if isinstance(file, LinkedFile):
        return Sendable("", file.file_type, file.url, 0, "", None, is_link=True)
    return Sendable(
        "", file.file_type, file.file_name, file.size_bytes, file.sha256, name_of(user_id, file.file_id)
    )
