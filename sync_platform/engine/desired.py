"""The first half of a run: what the target should hold, from the staged source."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from sync_platform.engine.changeset import open_change_set
from sync_platform.engine.drift import heed_drift
from sync_platform.engine.judging import Judge
from sync_platform.engine.looking import begin_to_look
from sync_platform.engine.mapping import CompiledMapping, compile_mapping
from sync_platform.engine.reconcile import HASHED, desired_hash
from sync_platform.engine.spec import Lookup
from sync_platform.engine.validation import validate
from sync_platform.errors import ConfigError
from sync_platform.ledger.links import members_of, owners_of
from sync_platform.ledger.plans import LIFETIME, PART_ROWS, Plan, PlanFiles, insert_plan, new_plan_id
from sync_platform.ledger.positions import SyncPosition, read_position
from sync_platform.ledger.unsettled import unsettled_keys
from sync_platform.model import KEY
from sync_platform.staging.overlay import newer_than_staging
from sync_platform.staging.tables import columns, exists, high_seq

if TYPE_CHECKING:
    import duckdb

    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

_WRITERS: Final = 2  # parts that are hashed and written at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What one run of `prepare` found, for the asset's checks and metadata."""

    plan_id: str
    desired: int
    invalid: int
    duplicates: int
    left: int
    cells_filled: int
    cells_total: int

    @property
    def completeness(self) -> float:
        """Filled required and mapped cells / all such cells; 1.0 when there were none."""
        return self.cells_filled / self.cells_total if self.cells_total else 1.0


def compare_of(session: Session, spec: SyncSpec) -> str:
    """How the sync knows what the target holds: its own setting, else the target stream's default."""
    if spec.two_way is not None:
        return "target"
    return spec.compare or session.connector(spec.target.connection).stream(spec.target.object).compare


def streams_of(session: Session, spec: SyncSpec) -> list[str]:
    """Every staged stream a plan of this sync reads, as "<connection>/<object>", the source first."""
    names = [str(spec.source)]
    names += [f"{rule.connection}/{rule.object}" for rule in spec.mapping.values() if isinstance(rule, Lookup)]
    if compare_of(session, spec) == "target":
        names.append(str(spec.target))
    return list(dict.fromkeys(names))


def compiled(session: Session, spec: SyncSpec, source: pa.Schema) -> CompiledMapping:
    """The sync's mapping, typed by what the target says of its fields."""
    target = session.connector(spec.target.connection).discover(spec.target.object)
    return compile_mapping(spec, source, target, load=partial(session.project.load, field_name="mapping"))


def fields_read(judge: Judge, mapping: CompiledMapping) -> frozenset[str]:
    """The source fields that a sync makes use of."""
    return judge.fields.union(*(rule.fields for rule in mapping.rules.values()))


def _needs(session: Session, spec: SyncSpec, source: pa.Schema) -> frozenset[str]:
    mapping = compile_mapping(spec, source, None, load=partial(session.project.load, field_name="mapping"))
    return fields_read(Judge.of(spec, source), mapping)


def refuse_wrong(session: Session, spec: SyncSpec, mapping: CompiledMapping, staged: pa.Schema) -> None:
    """ConfigError for a mapping that cannot be meant: otherwise a misspelt field would pass for an absent one.

    A field that was staged once, or that the source knows, is right, whether or not this read had it; but where a
    source tells every field it has, one that it has no longer is wrong: its last values would be kept for ever.
    """
    declared = session.project.connectors.get(spec.source.connection)
    all_told = declared is not None and declared.tells_every_field
    if not mapping.check(staged) and not all_told:
        return
    known = session.connector(spec.source.connection).discover(spec.source.object)
    if all_told:
        names = {name.casefold() for name in known.names}
        staged, everything = pa.schema([one for one in staged if one.name.casefold() in names]), staged
        plain = replace(spec, dedupe=replace(spec.dedupe, keep="newest")) if spec.dedupe else spec  # its key alone
        for name in sorted(Judge.of(plain, everything).fields - set(staged.names)):
            raise ConfigError(
                f"{spec.source} has no field {name} any more, which the filter or the dedupe key reads",
                field=name, mend="write it without that field",
            )  # fmt: skip
    problems = mapping.check(pa.schema([*staged, *[one for one in known if one.name not in staged.names]]))
    if not problems:
        return
    first, place = problems[0], session.project.sync(spec.name).place
    raise ConfigError(
        first.message,
        file=place.file,
        line=place.line(f"attributes.mapping.{first.field}"),
        field=first.field,
        value=first.value,
        mend=first.mend,
    )


def lineage_of(session: Session, spec: SyncSpec) -> dict[str, list[tuple[str, str, str]]]:
    """For each target field its sources as (connection, object, field)."""
    with session.lake.connect() as con:
        source = columns(con, spec.source.connection, spec.source.object)
    load = partial(session.project.load, field_name="mapping")
    fields = compile_mapping(spec, source if source is not None else pa.schema([]), load=load).lineage()
    found = {
        target: [(spec.source.connection, spec.source.object, name) for name in names]
        for target, names in fields.items()
    }
    for target, rule in spec.mapping.items():
        if isinstance(rule, Lookup):
            found[target].append((rule.connection, rule.object, rule.value))
    return found


def prepare(session: Session, spec: SyncSpec, *, full: bool = False) -> Prepared:
    """Maps, dedupes and validates what changed since the last delivery; writes the plan's desired parts.

    Nothing is sent and no position moves. Raises ConfigError when the source was never staged.
    """
    if spec.two_way is not None:
        from sync_platform.engine.twoway.preparing import prepare_both

        with session.lake.connect() as con:
            staged = columns(con, spec.source.connection, spec.source.object)
        if staged is not None:
            heed_drift(session, spec, staged)
        return prepare_both(session, spec, full=full)
    session.hold(spec.name)
    with session.lake.connect() as con:
        con.begin()
        try:
            return _prepare(session, spec, con, full)
        finally:
            con.rollback()


def _prepare(session: Session, spec: SyncSpec, con: duckdb.DuckDBPyConnection, full: bool) -> Prepared:
    schema = columns(con, spec.source.connection, spec.source.object)
    if schema is None:
        mend = f"run `sync-platform run {spec.name}`, which loads it"
        raise ConfigError(f"{spec.source} was never staged", field="source", value=str(spec.source), mend=mend)
    heed_drift(session, spec, schema)
    now = session.now()
    with session.database.connection() as connection:
        position = read_position(connection, spec.name)
        unsettled = unsettled_keys(connection, spec)
    told = {
        name: high_seq(con, *name.split("/", 1), at_least=position.streams.get(name, 0))
        for name in streams_of(session, spec)
    }
    drifted = _drifted(session, spec, con, position)
    newer = newer_than_staging(
        con, session.database, spec.source.connection, spec.source.object, lambda: _needs(session, spec, schema)
    )
    changes = open_change_set(
        con,
        spec,
        positions=position.streams,
        evaluated_at=position.evaluated_at,
        now=now,
        extra_keys=[*unsettled, *drifted],
        full=full or position.fresh or position.config_hash != spec.config_hash(),
        settled_members=lambda keys: members_of(session.database, spec, keys),
        newer=newer,
    )
    plan = Plan(
        plan_id=new_plan_id(),
        sync=spec.name,
        digest="",
        config_hash=spec.config_hash(),
        compare=compare_of(session, spec),
        positions_from=position.streams,
        positions_to=told,
        evaluated_at=now,
        state="building",
        reason=None,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    files = PlanFiles(session.database.home.lake, plan.plan_id)
    with changes:
        asked = [*unsettled, *drifted, *(newer[KEY].to_pylist() if newer is not None else [])]
        asked = asked if not position.fresh else []
        since = position.streams.get(str(spec.source), 0)
        counts = _write_desired(session, plan, spec, con, changes, files, since, asked, schema)
    files.write("duplicates", 0, changes.duplicates)
    files.write("left", 0, changes.left)
    found = Prepared(
        plan_id=plan.plan_id,
        duplicates=changes.duplicates.filter(pl.col("_changed")).height,
        left=changes.left.height,
        **counts,
    )
    with session.database.connection() as connection:
        insert_plan(connection, replace(plan, summary=asdict(found)), session.run_id)
    return found


def prepared_of(plan: Plan) -> Prepared:
    """What `prepare` found for a plan that is still being built."""
    return Prepared(**plan.summary)


def _write_desired(
    session: Session,
    plan: Plan,
    spec: SyncSpec,
    con: duckdb.DuckDBPyConnection,
    changes: Any,
    files: PlanFiles,
    since: int,
    asked: list[str],
    schema: pa.Schema,
) -> dict[str, int]:
    mapping = compiled(session, spec, schema)
    refuse_wrong(session, spec, mapping, schema)
    contract = session.project.load(spec.contract, field_name="contract") if spec.contract else None
    counts = {"desired": 0, "invalid": 0, "cells_filled": 0, "cells_total": 0}
    frames = changes.frames(PART_ROWS)
    with session.lake.on_all_cores():  # until the rows are sorted
        first = next(frames, None)
    writing: deque[Future[None]] = deque()

    def write_part(number: int, desired: pl.DataFrame) -> None:
        hashed = _hashed(desired)
        files.write("desired", number, hashed)
        if number == 0:
            begin_to_look(session, spec, con, plan.plan_id, plan.compare, hashed)

    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="writing parts") as writers:
        for number, frame in enumerate(chain([] if first is None else [first], frames)):
            if asked:  # a record looked at only because it waits or its target moved is not news from the source
                frame = frame.with_columns(
                    _changed=(pl.col("_seq") > since) | (pl.col("_changed") & ~pl.col("_key").is_in(asked))
                )
            mapped = mapping.apply(frame, looked_up(con, spec, mapping, frame))
            checked = validate(mapped, contract, required=mapping.required)
            if len(writing) == _WRITERS:
                writing.popleft().result()
            writing.append(writers.submit(write_part, number, checked.valid))
            if checked.invalid.height:
                refused = mapped.join(checked.invalid.select("_key").unique(), on="_key", how="semi")
                files.write("invalid", number, with_payload(refused, checked.invalid))
                counts["invalid"] += refused.height
            counts["desired"] += mapped.height
            counts["cells_filled"] += checked.cells_filled
            counts["cells_total"] += checked.cells_total
        while writing:
            writing.popleft().result()
    return counts


def _hashed(desired: pl.DataFrame) -> pl.DataFrame:
    """A part as it is planned from, with the hashes of its records."""
    fields = [name for name in desired.columns if not name.startswith("_")]
    return desired.with_columns(desired_hash(desired, fields).alias(HASHED))


def with_payload(refused: pl.DataFrame, reasons: pl.DataFrame) -> pl.DataFrame:
    """One row per refused record: its first reason, all reasons as JSON, and the values as JSON."""
    fields = [name for name in refused.columns if not name.startswith("_")]
    told = (
        reasons.with_columns(pl.struct("field", "reason", "value").struct.json_encode().alias("_one"))
        .group_by("_key", maintain_order=True)
        .agg(
            pl.col("field").first(),
            pl.col("reason").first(),
            pl.concat_str(pl.lit("["), pl.col("_one").str.join(","), pl.lit("]")).first().alias("reasons"),
        )
    )
    return (
        refused.with_columns(
            pl.struct([pl.col(name).cast(pl.String, strict=False) for name in fields])
            .struct.json_encode()
            .alias("payload")
        )
        .select("_key", "_cursor", "_read_at", "_changed", "_dedupe_key", "payload")
        .join(told, on="_key")
    )


def looked_up(
    con: duckdb.DuckDBPyConnection, spec: SyncSpec, mapping: CompiledMapping, frame: pl.DataFrame
) -> Mapping[str, pl.DataFrame]:
    """For each lookup field, the looked-up rows this frame needs: columns `key`, `value`."""
    found: dict[str, pl.DataFrame] = {}
    for name, rule in spec.mapping.items():
        if not isinstance(rule, Lookup):
            continue
        wanted = mapping.lookup_keys(name, frame)
        con.register("_wanted", wanted.to_arrow())
        table = f'lake."{rule.connection}"."{rule.object}"'
        found[name] = con.execute(
            f'SELECT CAST(t."{rule.key}" AS VARCHAR) AS key, t."{rule.value}" AS value FROM {table} t '
            f'JOIN _wanted w ON CAST(t."{rule.key}" AS VARCHAR) = w.key WHERE NOT t._deleted'
        ).pl()
        con.unregister("_wanted")
    return found


def _drifted(session: Session, spec: SyncSpec, con: duckdb.DuckDBPyConnection, position: SyncPosition) -> list[str]:
    """The source keys whose linked target record changed since the last delivery."""
    if compare_of(session, spec) != "target" or position.fresh:
        return []
    if not exists(con, spec.target.connection, spec.target.object):
        return []
    since = position.streams.get(str(spec.target), 0)
    moved = con.execute(
        f'SELECT _key FROM lake."{spec.target.connection}"."{spec.target.object}" WHERE _seq > ?', [since]
    ).fetchall()
    if not moved:
        return []
    return owners_of(session.database, spec, [row[0] for row in moved])["_key"].to_list()
