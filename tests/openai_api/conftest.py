"""Another worker, for tests of what replies are like there."""

from tests.completions.conftest import other_app, serve

__all__ = ["other_app", "serve"]
