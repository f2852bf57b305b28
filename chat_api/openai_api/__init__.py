"""OpenAI's dialect of this service, below /v1: requests in, events out. It has no tables and no SQL."""
