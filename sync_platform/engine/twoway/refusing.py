"""Mappings that would not come to rest are refused before anything runs, with the real records beside made-up ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.engine.mapping_check import Problem
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.roundtrip import round_trip_problems
from sync_platform.engine.twoway.staged import StagedSide
from sync_platform.engine.twoway.terms import deciding, pairing_of
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session

SAMPLED: Final = 1_000


def refuse_loops(session: Session, spec: SyncSpec, found: Pairing, source: StagedSide, target: StagedSide) -> None:
    """ConfigError with file, line, field and value for the first pair that would rewrite values for ever."""
    rule = deciding(session, spec, found).rule
    problems = round_trip_problems(found, rule, source.some(SAMPLED), target.some(SAMPLED))
    if not problems:
        return
    first, place = problems[0], session.project.sync(spec.name).place
    raise ConfigError(
        first.message,
        file=place.file,
        line=place.line(place_of(spec, found, first.field)),
        field=first.field,
        value=first.value,
        mend=first.mend,
    )


def loops_of(session: Session, spec: SyncSpec) -> tuple[Pairing, list[Problem]]:
    """A sync's pairs and what is wrong with them, judged by made-up values and by what is staged so far."""
    with session.lake.connect() as con:
        rows: list[pl.DataFrame | None] = []
        places: tuple[tuple[str, Endpoint], ...] = (("source", spec.source), ("target", spec.target))
        for name, place in places:
            try:
                rows.append(StagedSide.open(con, session.database, place, name).some(SAMPLED))
            except ConfigError:  # it was never staged
                rows.append(None)
    found = pairing_of(session, spec)
    return found, round_trip_problems(found, deciding(session, spec, found).rule, rows[0], rows[1])


def place_of(spec: SyncSpec, found: Pairing, field: str) -> str:
    """Where in the file a source field's way back is written, or the mapping it follows from."""
    assert spec.two_way is not None
    written = next((name for name in spec.two_way.back if name.lower() == field.lower()), None)
    if written is not None:
        return f"attributes.back.{written}"
    names = [name for pair in found.pairs if field in pair.sources for name in pair.targets]
    return f"attributes.mapping.{names[0]}" if names else "attributes.mapping"
