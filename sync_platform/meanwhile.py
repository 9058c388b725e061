"""Imports in the background: Python that is needed soon is read while the process waits for something else."""

from __future__ import annotations

import contextlib
import importlib
import threading


def importing(*modules: str) -> threading.Thread:
    """Imports the modules in a thread and returns it. What fails to import fails again where it is needed."""

    def load() -> None:
        for module in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)

    thread = threading.Thread(target=load, name="importing")  # waited for at exit
    thread.start()
    return thread
