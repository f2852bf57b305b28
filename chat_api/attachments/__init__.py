"""Attachments: what hangs on a message."""
