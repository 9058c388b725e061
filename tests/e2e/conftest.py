"""Fixtures of the end-to-end tests."""

from tests.installations import prepared, sandbox, world

__all__ = ["prepared", "sandbox", "world"]
