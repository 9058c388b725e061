"""The match plan of a sync: every source record that is not linked, and what it may be in the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from sync_platform.engine.conversion import as_text
from sync_platform.engine.lookups import folded_fields
from sync_platform.engine.matching import TARGET_ID
from sync_platform.engine.spec import Matching
from sync_platform.engine.twoway.foreseen import Foreseen
from sync_platform.errors import ConfigError
from sync_platform.ledger.match_decisions import decisions_of
from sync_platform.ledger.plans import PlanFiles
from sync_platform.matching.classes import Likeness, classify
from sync_platform.matching.decisions import REJECT, UNDECIDED, merged
from sync_platform.matching.forms import fields_of
from sync_platform.matching.holding import staged_target
from sync_platform.model import KEY, Op
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

_WANTED = (str(Op.CREATE), str(Op.UPDATE), str(Op.SKIP), str(Op.HOLD))


def likeness_of(session: Session, spec: SyncSpec) -> Likeness:
    """What is compared: the sync's `matching`, else its match fields. ConfigError when it says neither."""
    matching = spec.matching or (Matching(fields=fields_of(spec.match)) if spec.match else None)
    if matching is None:
        raise ConfigError(
            f"{spec.name} does not say what makes two records alike",
            field="matching",
            mend="write e.g. matching: {fields: [email, lastname, phone]}, or target.match",
        )
    connector = session.connector(spec.target.connection)
    folded = folded_fields(connector, connector.stream(spec.target.object))
    return Likeness(on=spec.match, folded=frozenset(folded), matching=matching)


def propose(session: Session, spec: SyncSpec, plan_id: str, before: pl.DataFrame) -> pl.DataFrame:
    """The match plan after a plan of the sync was made: rows of `matches.csv`, decisions made `before` kept."""
    likeness = likeness_of(session, spec)
    files = PlanFiles(session.database.home.lake, plan_id)
    foreseen = Foreseen.read(session, spec, files)
    source = _unlinked(foreseen, files, likeness)
    with session.lake.connect() as con:
        target = _free(foreseen, con, likeness)
    refused = [before.filter(pl.col("decision") == REJECT).select(_key="source_key", _target_id="target_id")]
    known = decisions_of(session.database, spec)
    refused.append(known.filter(pl.col("decision") == REJECT).select(KEY, TARGET_ID))
    found = classify(source, target, likeness, pl.concat(refused).unique())
    rows = found.join(_summary(source, KEY, likeness, "source"), on=KEY, how="left")
    rows = rows.join(_summary(target, TARGET_ID, likeness, "target"), on=TARGET_ID, how="left")
    proposed = rows.rename({KEY: "source_key", TARGET_ID: "target_id"}).with_columns(decision=pl.lit(UNDECIDED))
    return merged(proposed, before)


def _unlinked(foreseen: Foreseen, files: PlanFiles, likeness: Likeness) -> pl.DataFrame:
    """The plan's records without a link: `_key` and the compared fields."""
    parts = []
    for part in _mapped(foreseen.spec, files):
        linked = foreseen.links(part[KEY].to_list())
        loose = part.filter(~pl.col(KEY).is_in(list(linked)))
        parts.append(loose.select(KEY, *[name for name in likeness.fields if name in loose.columns]))
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame(schema={KEY: pl.String})


def _mapped(spec: SyncSpec, files: PlanFiles) -> Iterator[pl.DataFrame]:
    """What the target would be given, under the fields' own names: of a two-way sync all that was mapped."""
    if spec.two_way is not None:
        yield from files.parts("desired")
        return
    for part in files.chosen("changes", pl.col("_op").is_in(list(_WANTED))):
        values = [pl.col(name).alias(name.removeprefix("new:")) for name in part.columns if name.startswith("new:")]
        yield part.select(KEY, *values)


def _free(foreseen: Foreseen, con: duckdb.DuckDBPyConnection, likeness: Likeness) -> pl.DataFrame:
    """The staged target records that are linked to nobody: `_target_id` and the compared fields."""
    spec = foreseen.spec
    if not exists(con, spec.target.connection, spec.target.object):
        raise ConfigError(
            f"{spec.target} is not staged, so nothing can be compared with it",
            field="compare",
            value=spec.compare,
            mend="write matching: {fields: […]} (or compare: target), which has it staged",
        )
    whole = staged_target(con, spec, likeness.fields)
    return whole.filter(~pl.col(TARGET_ID).is_in(list(foreseen.partners(whole[TARGET_ID].to_list()))))


def _summary(frame: pl.DataFrame, id: str, likeness: Likeness, name: str) -> pl.DataFrame:
    """What a person reads of a record: its compared values in a row."""
    values = [as_text(pl.col(one), frame.schema[one]) for one in likeness.fields if one in frame.columns]
    told = pl.concat_str(values, separator=" | ", ignore_nulls=True) if values else pl.lit("")
    return frame.select(id, told.alias(name))
