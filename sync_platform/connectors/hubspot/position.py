"""How far a HubSpot object was read: a JSON value that resumes a killed read in the middle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from sync_platform.errors import ConfigError
from sync_platform.model import Position

Sweep: TypeAlias = Literal["list", "search"]

_FORM: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Times are milliseconds since the epoch.

    `since` is the lower bound of the next incremental sweep; None until a first full read has ended.
    While a sweep is under way, `sweep` says which, `at` where it is (the list's paging token, or the
    last id of a search), `started` when it began and `highest` the highest cursor it has met.
    """

    since: int | None = None
    archived_since: int = 0
    archived_read: int = 0
    sweep: Sweep | None = None
    at: str | None = None
    started: int | None = None
    highest: int | None = None

    @classmethod
    def load(cls, position: Position | None) -> Mark:
        """The mark of a stored position; a full read from the beginning for None or an empty one.

        Raises ConfigError for a position this connector did not write.
        """
        if position is None or not position.value:
            return cls()
        told = dict(position.value)
        if told.pop("form", None) != _FORM or not set(told) <= set(cls.__dataclass_fields__):
            raise ConfigError(
                "the stored position is not one of the HubSpot connector",
                field="position",
                value=position.value,
                mend="read the stream again in full",
            )
        return cls(**told)

    def position(self) -> Position:
        """The mark as a position, without what is not set."""
        return Position({"form": _FORM, **{name: value for name, value in asdict(self).items() if value is not None}})
