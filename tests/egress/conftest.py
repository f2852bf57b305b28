"""Fixtures of calls: a scripted provider, a gate and a client that may call this machine."""

from tests.support.asking import asking, gate, provider  # noqa: F401
