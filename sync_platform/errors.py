"""What can go wrong, grouped by what happens next.

    SyncError
    ├── ConfigError        a person changes a setting; nothing was sent          exit 2
    ├── AccessError        a system refused us or could not be reached           exit 3
    │   └── AuthError      a person renews credentials or grants a permission    exit 3
    ├── BlockedError       a guard stopped the work; a person decides            exit 4
    ├── RecordError        this record is set aside, the rest goes on            exit 1
    ├── TransientError     the same call may succeed later
    │   └── RateLimitError ... once the quota has room again
    ├── UnknownOutcome     the call may have happened: look before repeating
    └── ContractError      we misread the vendor; a developer acts               exit 70

A message says what happened, what was got, what was wanted and what to do. The optional
parts (`file`, `line`, `field`, `value`, `mend`) are what `--json` prints.
"""

from __future__ import annotations

from typing import Any


class SyncError(Exception):
    """Anything this platform raises on purpose."""

    code = "error"
    exit_code = 70

    def __init__(
        self,
        message: str,
        *,
        mend: str | None = None,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend
        self.file = file
        self.line = line
        self.field = field
        self.value = value

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.message}" + (f" -> {self.mend}" if self.mend else "")

    def to_json(self) -> dict[str, Any]:
        """The error as the CLI prints it under `--json`."""
        return {
            "code": self.code,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "value": self.value,
            "mend": self.mend,
        }


class ConfigError(SyncError):
    """A setting is wrong; a person changes it. Nothing was sent."""

    code = "config"
    exit_code = 2


class AccessError(SyncError):
    """A system refused us or could not be reached (network, state down, disk full)."""

    code = "access"
    exit_code = 3


class AuthError(AccessError):
    """Credentials or permissions were refused; a person renews or grants them."""

    code = "auth"


class BlockedError(SyncError):
    """A guard stopped the work before anything was written; a person decides."""

    code = "blocked"
    exit_code = 4


class RecordError(SyncError):
    """The target refuses this one record for good; it becomes a dead letter, the rest goes on."""

    code = "record"
    exit_code = 1


class TransientError(SyncError):
    """The same call may succeed later. `retry_after` is in seconds, when the system said so."""

    code = "transient"
    exit_code = 3

    def __init__(self, message: str, *, retry_after: float | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.retry_after = retry_after


class RateLimitError(TransientError):
    """The quota is used up for now."""

    code = "rate_limit"


class UnknownOutcome(SyncError):
    """The call may have happened (the answer was lost): look before repeating."""

    code = "unknown_outcome"
    exit_code = 3


class ContractError(SyncError):
    """The vendor answered something we do not understand; a developer acts."""

    code = "contract"
