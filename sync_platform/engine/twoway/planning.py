"""The middle of a two-way run: both sides and what they last agreed on give the exact changes of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.crash import crash_point
from sync_platform.engine.lookups import target_rows
from sync_platform.engine.matching import match
from sync_platform.engine.planning import Planned, guard_of, same_match_values
from sync_platform.engine.twoway.changes import Decided, Deciding, Met, Row
from sync_platform.engine.twoway.foreseen import Foreseen
from sync_platform.engine.twoway.holding import HELD_FIRST, Holding
from sync_platform.engine.twoway.merges import merges_of
from sync_platform.engine.twoway.noted import Noted
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.planned_rows import AT_ONCE, PlannedRows
from sync_platform.engine.twoway.preparing import SOURCE_VALUE
from sync_platform.engine.twoway.staged import StagedSide
from sync_platform.engine.twoway.terms import deciding, pairing_of, tells_time
from sync_platform.ledger.bases import PairLink
from sync_platform.ledger.conflicts import chosen
from sync_platform.ledger.plans import Plan, PlanFiles, load_plan, set_plan
from sync_platform.model import CURSOR, DELETED, KEY, READ_AT, Op

if TYPE_CHECKING:
    from sync_platform.engine.desired import Prepared
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session


def plan_both(session: Session, spec: SyncSpec, prepared: Prepared, *, at_once: int = AT_ONCE) -> Planned:
    """Turns a plan's parts into the changes of both sides: `changes` for the target, `back` for the source.

    `at_once` records are rows of Python at a time, whatever the plan holds. Nothing is sent and no link moves.
    """
    session.hold(spec.name)
    with session.database.connection() as connection:
        row = load_plan(connection, prepared.plan_id)
    files = PlanFiles(session.database.home.lake, prepared.plan_id)
    with session.lake.connect() as con:
        source = StagedSide.open(con, session.database, spec.source, "source")
        target = StagedSide.open(con, session.database, spec.target, "target")
        found = pairing_of(session, spec, source.schema, target.schema)
        foreseen = Foreseen.read(session, spec, files)
        planner = Planner(session=session, spec=spec, pairing=found, target=target, foreseen=foreseen, files=files)
        folded = set(planner.deciding.rule.target.folded)
        place = Holding(session, spec, folded, con, foreseen=foreseen, alike=Noted(con, "alike"))
        changes = PlannedRows(files=files, pairing=found, match=spec.match)
        for decided in planner.decided(at_once):
            changes.write(decided, place)
        changes.finish(place)
    foreseen.write(files)
    planned = _judged(session, spec, row, files, prepared)
    crash_point("plan_written")
    return planned


@dataclass
class Planner:
    """Decides records while one plan is made."""

    session: Session
    spec: SyncSpec
    pairing: Pairing
    target: StagedSide
    foreseen: Foreseen
    files: PlanFiles

    def __post_init__(self) -> None:
        self.matched = Noted(self.target.con, "matched")  # target records that a source record of this plan is

    @cached_property
    def rivals(self) -> dict[str, list[str]]:
        """Unlinked source records of the whole plan that share their match values: each with the others."""
        folded = self.deciding.rule.target.folded
        groups = same_match_values(self.target.con, self.files, self.spec, folded)
        linked = self.foreseen.links([key for group in groups for key in group])
        loose = [[key for key in group if key not in linked] for group in groups]
        return {key: [one for one in group if one != key] for group in loose if len(group) > 1 for key in group}

    def decided(self, at_once: int) -> Iterator[Decided]:
        """The rows for everything a plan's first half found, for so many records at a time."""
        for path in self.files.paths("desired"):
            refused = self.files.beside("refused", path)
            reasons = {} if refused is None else {one[KEY]: one for one in refused.iter_rows(named=True)}
            for some in pl.read_parquet(path).iter_slices(at_once):
                yield self.records(some, reasons)
        for kind, decide in (("fresh", self.fresh), ("left", self.left)):
            for part in self.files.parts(kind):
                for some in part.iter_slices(at_once):
                    yield decide(some)

    @cached_property
    def deciding(self) -> Deciding:
        """The sync's terms."""
        return deciding(self.session, self.spec, self.pairing)

    @cached_property
    def _times(self) -> tuple[bool, bool]:
        return tells_time(self.session, self.spec.source), tells_time(self.session, self.spec.target)

    # -- source records --------------------------------------------------------------------------

    def records(self, desired: pl.DataFrame, refused: Mapping[str, Row]) -> Decided:
        """The rows for mapped source records (a part `desired`)."""
        done = Decided()
        keys = desired[KEY].to_list()
        links = self.foreseen.links(keys)
        ids = [link.target_id for link in links.values()]
        still = self.foreseen.parked(keys, ids)
        current, gone = self._targets(ids)
        links = self._followed(links, gone)
        linked, candidates = self._matched(desired, links)
        current |= candidates
        back = self._backward(list(current.values()))
        resolved = chosen(self.session.database, self.spec.name, keys)
        for row in desired.iter_rows(named=True):
            key = row[KEY]
            if key in still:
                continue
            met = self._met(row, links.get(key), linked.get(key), current, back, refused.get(key))
            if isinstance(met, str):
                done.still.append(self._held(row, met))
            elif met.link is not None and met.target is None:
                done.add(self.deciding.gone(met, "target", resolved.get(key)))
            elif met.target is None:
                self._create(done, met)
            else:
                done.add(self.deciding.meet(met, resolved.get(key)))
        return done

    def _targets(self, ids: Sequence[str]) -> tuple[dict[str, Row], set[str]]:
        """The linked target records that live, by id, and the ids of those that are gone."""
        staged = self.target.rows(ids)
        found = {row[KEY]: row for row in staged.filter(~pl.col(DELETED)).iter_rows(named=True)}
        dead = set(staged.filter(pl.col(DELETED))[KEY])
        missing = [one for one in ids if one not in found and one not in dead]
        found |= self._asked(missing)
        return found, {one for one in ids if one not in found}

    def _asked(self, ids: Sequence[str]) -> dict[str, Row]:
        """Target records staging does not have, as the system answers them."""
        connector = self.session.connector(self.spec.target.connection)
        stream = connector.stream(self.spec.target.object)
        rows = target_rows(connector, stream, ids, self.pairing.target_fields)
        return {row["_target_id"]: {KEY: row["_target_id"], **row} for row in rows.iter_rows(named=True)}

    def _followed(self, links: dict[str, PairLink], gone: set[str]) -> dict[str, PairLink]:
        """The links, those of target records that turn out to be merged following to the survivor."""
        merged = merges_of(self.session, self.spec.target, sorted(gone)) if gone else {}
        if not merged:
            return links
        for sentence in self.foreseen.see("target", merged):
            self.session.say(sentence)
        return self.foreseen.links(list(links))

    def _matched(
        self, desired: pl.DataFrame, links: Mapping[str, PairLink]
    ) -> tuple[dict[str, tuple[str | None, str]], dict[str, Row]]:
        """For unlinked source records the target record they are, or why nobody knows; and those target records."""
        loose = desired.filter(~pl.col(KEY).is_in(list(links)))
        on = self.spec.match
        if loose.is_empty() or not on or on[0] not in loose.columns:
            return {}, {}
        free = self.target.having(on[0], loose[on[0]].cast(pl.String).to_list())
        ids = free[KEY].to_list()
        lost = self.foreseen.merged_away("target", ids)
        taken = {*self.foreseen.partners(ids), *lost}
        free = free.filter(~pl.col(KEY).is_in(list(taken)))
        named = free.rename({KEY: "_target_id"}).drop(DELETED)
        folded = frozenset(self.deciding.rule.target.folded)
        found = match(loose, pl.DataFrame(schema={KEY: pl.String, "_target_id": pl.String}), named, on, folded)
        answers: dict[str, tuple[str | None, str]] = {}
        known: set[str] = set()
        for row in found.select(KEY, "_target_id", "_matched", "_candidates", "_rivals").iter_rows(named=True):
            ids = [row["_target_id"]] if row["_target_id"] else list(row["_candidates"])
            known.update(ids)
            if ids and row[KEY] in self.rivals:  # whichever slices they are in
                row |= {"_target_id": None, "_matched": "ambiguous", "_candidates": ids}
                row["_rivals"] = self.rivals[row[KEY]]
            answers[row[KEY]] = (row["_target_id"], doubt_of(row))
        self.matched.add(dict.fromkeys(known, ""))
        return answers, {row[KEY]: row for row in free.iter_rows(named=True)}

    def _met(
        self,
        row: Row,
        link: PairLink | None,
        matched: tuple[str | None, str] | None,
        current: Mapping[str, Row],
        back: Mapping[str, tuple[Row, list[str]]],
        refused: Row | None,
    ) -> Met | str:
        """The record as both sides hold it; a sentence when it is held."""
        if link is None and matched is not None and matched[1]:
            return matched[1]
        target_id = link.target_id if link else (matched[0] if matched else None)
        held = current.get(target_id) if target_id else None
        led, unled = back.get(target_id, ({}, [])) if target_id else ({}, [])
        unmapped = [one["field"] for one in row["_unmapped"] or ()]
        return Met(
            key=row[KEY],
            target_id=target_id or "",
            link=link,
            source={n: row[SOURCE_VALUE + n] for n in self.pairing.source_fields if SOURCE_VALUE + n in row},
            target=None if held is None else {n: held[n] for n in self.pairing.target_fields if n in held},
            forward={n: row[n] for n in self.pairing.forward.fields if n in row},
            back=led,
            unmapped=unmapped,
            unmapped_back=unled,
            refused=refused,
            source_stamp=row[CURSOR] if self._times[0] else None,
            target_stamp=held.get(CURSOR) if held is not None and self._times[1] else None,
            cursor=row[CURSOR],
            read_at=row[READ_AT],
            changed=bool(row["_changed"]),
        )

    def _create(self, done: Decided, met: Met) -> None:
        if met.refused is not None:
            done.letters.append(self.deciding.refusal(met))
        else:
            done.target.append(self.deciding.create_target(met))

    def _held(self, row: Row, reason: str) -> Row:
        met = Met(
            key=row[KEY], target_id="", link=None, source=None, target=None, cursor=row[CURSOR], read_at=row[READ_AT],
            changed=bool(row["_changed"]),
        )  # fmt: skip
        return self.deciding.held_row(met, reason)

    def _backward(self, rows: Sequence[Row]) -> dict[str, tuple[Row, list[str]]]:
        """What leads back from target records: source values, and the names of those that could not be made."""
        return backward(self.pairing, rows)

    # -- target records without a source record --------------------------------------------------

    def fresh(self, rows: pl.DataFrame) -> Decided:
        """The rows for target records that nobody links and no source record of this plan is."""
        done = Decided()
        met_already = self.matched.among(rows[KEY].to_list())
        open_rows = [row for row in rows.iter_rows(named=True) if row[KEY] not in met_already]
        back = self._backward(open_rows)
        for row in open_rows:
            led, unled = back[row[KEY]]
            met = Met(
                key="", target_id=row[KEY], link=None, source=None,
                target={n: row[n] for n in self.pairing.target_fields if n in row}, back=led, unmapped_back=unled,
                changed=bool(row["_changed"]),
            )  # fmt: skip
            empty = [n for n in self.pairing.back.required if led.get(n) in (None, "")]
            if unled or empty:
                done.letters.append(self.deciding.refusal_back(met, unled, empty))
            elif led:
                done.source.append(self.deciding.create_source(met))
        return done

    # -- source records that are not wanted any more ---------------------------------------------

    def left(self, rows: pl.DataFrame) -> Decided:
        """The rows for source records that were deleted; those that left the filter are kept as they are."""
        done = Decided()
        deleted = {row[KEY]: row for row in rows.iter_rows(named=True) if row["_why"] == "deleted"}
        links = self.foreseen.links(list(deleted))
        ids = [link.target_id for link in links.values()]
        still = self.foreseen.parked(list(links), ids)
        current, _ = self._targets(ids)
        back = self._backward(list(current.values()))
        resolved = chosen(self.session.database, self.spec.name, list(links))
        for key, link in links.items():
            held = current.get(link.target_id)
            if key in still or held is None:
                continue
            led, unled = back[link.target_id]
            met = Met(
                key=key, target_id=link.target_id, link=link, source=None,
                target={n: held[n] for n in self.pairing.target_fields if n in held}, back=led, unmapped_back=unled,
                changed=bool(deleted[key]["_changed"]),
            )  # fmt: skip
            done.add(self.deciding.gone(met, "source", resolved.get(key)))
        return done


def backward(pairing: Pairing, rows: Sequence[Row]) -> dict[str, tuple[Row, list[str]]]:
    """For each target row by `_key`: what leads back from it, and the source fields that could not be made."""
    if not rows or not pairing.back.rules:
        return {row[KEY]: ({}, []) for row in rows}
    assert pairing.back.source is not None
    names = [KEY, *[n for n in pairing.target_fields if any(n in row for row in rows)]]
    frame = pl.DataFrame([{n: row.get(n) for n in names} for row in rows], infer_schema_length=None)
    kinds = {f.name: _polars(f.type) for f in pairing.back.source if f.name in names}
    frame = frame.with_columns(
        pl.col(n).cast(kind, strict=False) for n, kind in kinds.items() if frame[n].dtype == pl.Null
    )
    mapped = pairing.back.apply(frame)
    found: dict[str, tuple[Row, list[str]]] = {}
    for row in mapped.iter_rows(named=True):
        unled = [one["field"] for one in row["_unmapped"] or ()]
        found[row[KEY]] = ({n: row[n] for n in pairing.back.fields if n in row}, unled)
    return found


def _polars(kind: Any) -> pl.DataType:
    from sync_platform.engine.conversion import polars_type

    return polars_type(kind)


def doubt_of(row: Row) -> str:
    """Why a record cannot be matched, or nothing."""
    if row["_matched"] != "ambiguous":
        return ""
    if row["_rivals"]:
        return f"the target record {', '.join(row['_candidates'])} is also claimed by {', '.join(row['_rivals'])}"
    return f"several target records match: {', '.join(row['_candidates'])}"


def _judged(session: Session, spec: SyncSpec, row: Plan, files: PlanFiles, prepared: Prepared) -> Planned:
    counts = dict.fromkeys((str(op) for op in Op), 0)
    first = 0
    for kind in ("changes", "back"):
        for rows in files.chosen(kind, pl.lit(True), "_op", "_reason"):
            for op, number in rows.group_by("_op").len().iter_rows():
                counts[op] += number
            first += rows.filter(pl.col("_reason") == HELD_FIRST).height
    counts[str(Op.INVALID)] = sum(letters.height for letters in files.parts("invalid"))
    digest = files.digest()
    blocked = guard_of(spec, counts, replace(prepared, invalid=counts[str(Op.INVALID)]))
    summary = {
        "counts": counts,
        "first_sync_held": first,
        "completeness": prepared.completeness,
        "desired": prepared.desired,
        "duplicates": 0,
        "parts_sha256": digest,
    }
    with session.database.connection() as connection:
        set_plan(
            connection, row.plan_id, "blocked" if blocked else "ready", reason=blocked, summary=summary, digest=digest
        )
    return Planned(plan_id=row.plan_id, blocked=blocked, summary=summary)
