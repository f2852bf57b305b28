"""The files that users have uploaded: what is stored of them, which attachments refer to them, and their removal."""
