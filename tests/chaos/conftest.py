"""Fixtures of the chaos tests."""

from tests.installations import prepared, sandbox, world

__all__ = ["prepared", "sandbox", "world"]
