"""Attachments: files referenced by a message."""
