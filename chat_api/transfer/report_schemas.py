"""The schema of the answer to an import."""

from marshmallow import fields, validate

from ..web.fields import IdField, Output
from .limits import REASONS, TOO_MANY_ERRORS

# of files that can be imported
FORMAT_NAMES = ("chat-api", "chatgpt", "claude", "open-webui", "librechat")


def _count(example: int, description: str) -> fields.Integer:
    return fields.Integer(metadata={"example": example, "description": description})


class ConversationCountsSchema(Output):
    imported = _count(12, "Stored by this import.")
    updated = _count(2, "Already existed, and were brought up to date; `updates` says how.")
    unchanged = _count(0, "Already existed, and were left as they are.")
    failed = _count(1, "Not stored at all; `errors` says why.")


class ImportUpdateSchema(Output):
    conversation_id = IdField()
    messages_added = _count(4, "Messages of the file that did not exist.")
    attachments_added = _count(0, "Attachments of the file that did not exist.")
    completions_added = _count(0, "Completions of the file that did not exist.")
    files_added = _count(0, "Attachments that got their content, also of those that existed.")
    changed = fields.List(
        fields.String(),
        metadata={
            "example": ["title", "active_leaf_id", "updated_at"],
            "description": "Fields of the conversation that were taken from the file, because it is newer.",
        },
    )
    kept = fields.List(
        fields.String(),
        metadata={
            "example": ["pinned"],
            "description": "Fields that differ and were left as they are, because the file is not newer.",
        },
    )
    messages_kept = _count(
        0, "Messages whose text, role or parent differs in the file; they were left as they are."
    )


class ProviderCountsSchema(Output):
    imported = _count(1, "Stored by this import.")
    unchanged = _count(0, "Already existed.")


class ImportedSchema(Output):
    imported = _count(240, "Imported with new conversations, or added to those that already existed.")


class ImportedFilesSchema(Output):
    imported = _count(17, "Attachments that got their content.")
    missing = _count(0, "Attachments whose content is neither in the file nor stored here.")
    broken = _count(0, "Attachments whose content is in the file and can't be read, or has another hash.")
    refused = _count(0, "Attachments whose content is too large, or exceeds the user's quota.")


class ImportFailureSchema(Output):
    line = fields.Integer(
        metadata={
            "example": 17,
            "description": "The line number; in an export of another product, the number of the conversation.",
        }
    )
    conversation_id = IdField(
        allow_none=True, metadata={"description": "The conversation that could not be imported."}
    )
    detail = fields.String(metadata={"example": "content: Missing data for required field."})


class EndedEarlySchema(Output):
    reason = fields.String(validate=validate.OneOf(REASONS), metadata={"example": TOO_MANY_ERRORS})
    detail = fields.String(
        metadata={"example": "There were 1000 errors; what comes after them was not read."}
    )


class ImportReportSchema(Output):
    format = fields.String(
        allow_none=True,
        validate=validate.OneOf(FORMAT_NAMES),
        metadata={
            "example": "chat-api",
            "description": "The detected format, that of the first conversation; null if there was none in the file.",
        },
    )
    conversations = fields.Nested(ConversationCountsSchema)
    messages = fields.Nested(ImportedSchema)
    attachments = fields.Nested(ImportedSchema)
    files = fields.Nested(ImportedFilesSchema, metadata={"description": "Contents of attachments."})
    completions = fields.Nested(ImportedSchema)
    providers = fields.Nested(ProviderCountsSchema)
    updates = fields.List(
        fields.Nested(ImportUpdateSchema),
        metadata={
            "description": "How the file and conversations that already existed differed, for the first 100."
        },
    )
    updates_omitted = _count(0, "Number of further conversations that differed.")
    parts_omitted = _count(
        0,
        "Parts of imported messages that were not understood, or were too long; notes in the messages say where.",
    )
    errors = fields.List(
        fields.Nested(ImportFailureSchema), metadata={"description": "The first 100 errors."}
    )
    errors_omitted = _count(0, "Number of further errors.")
    ended_early = fields.Nested(
        EndedEarlySchema,
        allow_none=True,
        metadata={"description": "Why the rest of the file was not read; null if all of it was."},
    )
    notes = fields.List(
        fields.String(),
        metadata={
            "example": [
                "Keys for LLM providers are not in an export; store them again as user-llm-configs (it had 2)."
            ],
            "description": "What remains to be done by the user.",
        },
    )
