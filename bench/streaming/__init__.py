"""Measures streamed replies against a provider that streams at a set pace: `make bench-stream`."""
