"""Patches that break the product on purpose. `python -m tests.sabotage` shows that each turns a test red."""
