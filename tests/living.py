"""Processes that live, and for which installation they work."""

from __future__ import annotations

from pathlib import Path

import psutil


def lives(pid: int) -> bool:
    """Whether a process works; one that ended and that nobody asked about yet (a zombie) does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def working_in(home: Path) -> dict[int, str]:
    """Living processes that carry this SYNC_HOME: pid -> command.

    PostgreSQL writes its title over its environment, so it is not among them.
    """
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("SYNC_HOME") == str(home) and lives(process.pid):
                found[process.pid] = " ".join(process.cmdline())[:120]
        except psutil.Error:
            continue
    return found
