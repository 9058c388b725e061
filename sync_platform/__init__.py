"""sync-platform keeps the records of many systems in step.

`Source` and `Sync` are the two Dagster components a project's YAML names; they are loaded on first use
so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_platform.components.source import Source
    from sync_platform.components.sync import Sync

__version__ = "0.1.0"
__all__ = ["Source", "Sync"]

_LAZY = {"Source": "sync_platform.components.source", "Sync": "sync_platform.components.sync"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_LAZY]
