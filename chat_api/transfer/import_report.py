"""What an import has done, counted."""

from collections import Counter
from typing import Any, Protocol

MISSING, BROKEN, REFUSED = "missing", "broken", "refused"
"""What becomes of contents of attachments that are not stored."""
_FILE_NOTES = {
    MISSING: "are not in the file; import a zip that has them, which adds them",
    BROKEN: "are in the file and can't be read, or are not what they were",
    REFUSED: "are larger than a file may be, or than the zip may unpack to, or there is no room for them",
}
MAX_ERRORS = 100
MAX_UPDATES = 100


class Update(Protocol):
    """What has become of a conversation that was here already."""

    id: str
    counts: dict[str, int]
    changed: list[str]
    kept: list[str]
    messages_kept: int

    @property
    def has_changed(self) -> bool: ...


class ImportReport:
    """The counts and the errors of one import."""

    def __init__(self) -> None:
        self.format: str | None = None  # known with the first conversation
        self.imported: Counter[str] = Counter()
        self.updated = 0  # conversations
        self.updates: list[dict[str, Any]] = []
        self.updates_omitted = 0
        self.unchanged: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.files: Counter[str] = Counter()  # that are not stored
        self.keys_left_out = 0
        self.parts_omitted = 0
        self.errors: list[dict[str, Any]] = []
        self.errors_omitted = 0
        self.ended_early: dict[str, str] | None = None

    @property
    def error_count(self) -> int:
        """All errors, also those that are not listed."""
        return len(self.errors) + self.errors_omitted

    def end_early(self, reason: str, detail: str) -> None:
        """Note that the rest of the file was not read, and why."""
        self.ended_early = {"reason": reason, "detail": detail}

    def add_error(self, number: int, detail: str, conversation_id: str | None = None) -> None:
        """Keep an error, up to MAX_ERRORS of them."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": number, "conversation_id": conversation_id, "detail": detail})
        else:
            self.errors_omitted += 1

    def add_update(self, update: Update) -> None:
        """Count a conversation that was here; what differs is listed for up to MAX_UPDATES of them."""
        if update.has_changed:
            self.updated += 1
        else:
            self.unchanged["conversation"] += 1
        if not update.has_changed and not update.kept and not update.messages_kept:
            return
        if len(self.updates) == MAX_UPDATES:
            self.updates_omitted += 1
            return
        added = {
            f"{kind}s_added": update.counts[kind] for kind in ("message", "attachment", "completion", "file")
        }
        self.updates.append(
            {
                "conversation_id": update.id,
                **added,
                "changed": update.changed,
                "kept": update.kept,
                "messages_kept": update.messages_kept,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The report as clients get it."""
        notes = []
        if self.keys_left_out:
            notes.append(
                "Keys for LLM providers are not in an export; store them again as user-llm-configs "
                f"(it had {self.keys_left_out})."
            )
        if self.parts_omitted:
            notes.append(
                f"{self.parts_omitted} parts of messages were not understood, or were too long; "
                "a note in the message says where."
            )
        notes += [
            f"The contents of {self.files[what]} attachments {note}."
            for what, note in _FILE_NOTES.items()
            if self.files[what]
        ]
        return {
            "format": self.format,
            "conversations": {
                "imported": self.imported["conversation"],
                "updated": self.updated,
                "unchanged": self.unchanged["conversation"],
                "failed": self.failed["conversation"],
            },
            "messages": {"imported": self.imported["message"]},
            "attachments": {"imported": self.imported["attachment"]},
            "files": {
                "imported": self.imported["file"],
                **{what: self.files[what] for what in (MISSING, BROKEN, REFUSED)},
            },
            "completions": {"imported": self.imported["completion"]},
            "providers": {
                "imported": self.imported["provider"],
                "unchanged": self.unchanged["provider"],
            },
            "updates": self.updates,
            "updates_omitted": self.updates_omitted,
            "parts_omitted": self.parts_omitted,
            "errors": self.errors,
            "errors_omitted": self.errors_omitted,
            "ended_early": self.ended_early,
            "notes": notes,
        }
