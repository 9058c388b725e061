"""Locks on files: they end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sync_platform.errors import AccessError
from sync_platform.home import unwritable

_PATIENCE: Final = 300.0


@contextlib.contextmanager
def locked_file(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock on the file, which is made when missing; many may hold it `shared`.

    Raises AccessError when another process keeps it for minutes.
    """
    with _opened(path) as handle:
        deadline = time.monotonic() + _PATIENCE
        while not _try(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise AccessError(
                    f"another process has held {path} for {_PATIENCE:.0f} s",
                    mend="see which process starts or stops PostgreSQL there, and end it",
                )
            time.sleep(0.02)
        yield


@contextlib.contextmanager
def unlocked_file(path: Path) -> Iterator[bool]:
    """Whether nobody holds the file's lock; while True is held, nobody else gets it."""
    with _opened(path) as handle:
        yield _try(handle, fcntl.LOCK_EX)


def _try(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(error, path) from None
    try:
        yield handle
    finally:
        os.close(handle)
