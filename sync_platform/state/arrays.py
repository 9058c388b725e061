"""Arrays as PostgreSQL spells them."""

from __future__ import annotations

from collections.abc import Sequence


def text_array(texts: Sequence[str]) -> str:
    """An array of texts in PostgreSQL's spelling, to be cast to whatever its elements are (`%s::bigint[]`)."""
    if not texts:
        return "{}"
    told = [one.replace("\\", "\\\\").replace('"', '\\"') if '"' in one or "\\" in one else one for one in texts]
    return '{"' + '","'.join(told) + '"}'
