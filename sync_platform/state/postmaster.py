"""What `postmaster.pid` and the process table say about a PostgreSQL server."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_DEAD_PID: Final = "2147483646"  # no process can have it


def pid_file(data: Path) -> list[str]:
    """The lines of postmaster.pid (pid, data, start, port, socket, address, memory key, status)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
    return lines if lines and lines[0].strip().isdigit() else []


def is_ready(lines: list[str]) -> bool:
    return len(lines) >= 8 and lines[7].strip() == "ready"


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty for none, or for a dead one nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return []
    done = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return done.stdout.split()


def has_ended(pid: int) -> bool:
    """Whether that process is gone, or dead and only not reaped: its port and files are free then.

    Its command line says less: it is empty for a moment at a program's start and during its end.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not command_of(pid)
    return state in ("Z", "X")


def serves(pid: int, data: Path) -> bool:
    """Whether that process is the server of this very data directory."""
    command = command_of(pid)
    return bool(command) and Path(command[0]).name == "postgres" and str(data) in command


def forget_other_pid(data: Path) -> None:
    """Lets PostgreSQL see that the server named in a left-over postmaster.pid is dead.

    It would take any process of that id for one, another program's as well as a dead one nobody has
    reaped. The file itself stays: its shared memory key is how PostgreSQL notices surviving backends.
    """
    lines = pid_file(data)
    if lines and not serves(int(lines[0]), data):
        (data / "postmaster.pid").write_text("\n".join([_DEAD_PID, *lines[1:]]) + "\n")
