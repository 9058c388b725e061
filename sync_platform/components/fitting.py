"""Settings of a sync that do not go together: each is refused by its key, and what to write instead is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_platform.components.attributes import SyncAttributes


class WrongKeyError(ValueError):
    """What a check of several keys found, with the path of the key that is to blame and its value."""

    def __init__(self, message: str, path: tuple[str, ...], value: object) -> None:
        super().__init__(message)
        self.path, self.value = path, value


def refuse_filtered_target(data: Any) -> None:
    """Which records take part is said at the source; whoever says it at the target meant something. `data` is raw."""
    target = data.get("target") if isinstance(data, dict) else None
    for name in ("filter", "on_leave", "timezone"):
        if isinstance(target, dict) and name in target:
            message = f"a target has no {name}, the source chooses which records take part; write it under source"
            raise WrongKeyError(message, ("target", name), target[name])


def refuse_unfit(told: SyncAttributes) -> None:
    """What only a two-way sync has, and what it does not have."""
    if told.direction == "one_way":
        for name in ("back", "conflicts", "on_delete"):
            if name in told.model_fields_set:
                raise WrongKeyError("only a two-way sync has it; add direction: two_way", (name,), None)
        return
    unfit: tuple[tuple[str, bool, str], ...] = (
        ("mode", told.mode != "upsert", "a two-way sync keeps both sides equal; leave mode out"),
        ("dedupe", told.dedupe is not None, "a two-way sync links one record to one; leave dedupe out and merge "
         "duplicates in the source"),
        ("compare", told.compare == "links", "a two-way sync reads its target; leave compare out"),
        ("drift", told.drift == "add_column", "a two-way sync needs its fields on both sides; write drift: ignore or "
         "drift: pause"),
        ("on_target_delete", told.on_target_delete != "recreate", "a two-way sync says it for both sides; write "
         "on_delete: {target: ...} instead"),
    )  # fmt: skip
    for name, wrong, message in unfit:
        if wrong:
            value = getattr(told, name)
            raise WrongKeyError(message, (name,), value if isinstance(value, str) else None)
    if told.source.on_leave != "keep":
        message = "a two-way sync leaves alone on both sides what leaves its filter; leave on_leave out"
        raise WrongKeyError(message, ("source", "on_leave"), told.source.on_leave)
    if (told.source.connection, told.source.object) == (told.target.connection, told.target.object):
        message = "source and target are the same object; name another object"
        raise WrongKeyError(message, ("target", "object"), told.target.object)
