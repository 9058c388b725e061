"""Who holds the lock that a statement waited for in vain, told with its error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from sync_platform.errors import SyncError, TransientError


@contextlib.contextmanager
def telling(holder: Callable[[], str | None]) -> Iterator[None]:
    """A lock that was not granted within the block is told with the sentence of `holder`, if it finds one."""
    try:
        yield
    except TransientError as error:
        if "a lock was not granted" not in error.message:
            raise
        found = None
        with contextlib.suppress(SyncError):
            found = holder()
        if found is None:
            raise
        raise TransientError(
            f"{error.message}; {found}", mend="the next run tries again; or end that session, if it is forgotten"
        ) from None
