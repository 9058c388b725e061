"""Secrets of a database's URL, kept out of every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote


def secrets_in(url: str, parsed: Mapping[str, object]) -> list[str]:
    """Every text of a database URL that must not be shown, longest first.

    A password with an unescaped `@`, `/` or `:` is cut into wrong places by URL parsers, so its pieces
    count as well.
    """
    found = {str(value) for name, value in parsed.items() if "password" in name and value}
    rest = url.partition("://")[2]
    if "@" in rest:
        login = rest.rpartition("@")[0]
        secret = login.partition(":")[2]
        found |= {secret, unquote(secret), *secret.replace("/", "@").replace(":", "@").split("@")}
    return sorted((text for text in found if len(text) > 1), key=len, reverse=True)


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text without any of these secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
