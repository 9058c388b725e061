"""A handful of records of a two-way sync, both sides as they are right now: the merge of `planning` without staging."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.engine.desired import looked_up, with_payload
from sync_platform.engine.lookups import match_candidates
from sync_platform.engine.matching import match
from sync_platform.engine.spec import Lookup, Side
from sync_platform.engine.twoway.changes import Decided, Deciding, Met, Row
from sync_platform.engine.twoway.merges import parked
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.planning import backward, doubt_of
from sync_platform.engine.validation import validate
from sync_platform.ledger.bases import PairLink, merged_away, partners
from sync_platform.ledger.conflicts import chosen
from sync_platform.model import CURSOR, DELETED, KEY, READ_AT

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session


@dataclass
class Live:
    """Rows of both sides by key, as read; the columns of staging and `_absent`, the fields a record was not told."""

    links: Mapping[str, PairLink]
    _frames: dict[Side, pl.DataFrame] = field(default_factory=dict)
    _rows: dict[Side, dict[str, Row]] = field(default_factory=lambda: {"source": {}, "target": {}})

    def put(self, side: Any, frame: pl.DataFrame) -> None:
        """Adds rows of a side."""
        have = self._frames.get(side)
        self._frames[side] = frame if have is None else pl.concat([have, frame])
        self._rows[side] |= {row[KEY]: row for row in frame.iter_rows(named=True)}

    def known(self, side: Side) -> Mapping[str, Row]:
        """The rows of a side by key."""
        return self._rows[side]

    def frame(self, side: Side, keys: Sequence[str]) -> pl.DataFrame:
        """These rows of a side."""
        return self._frames[side].filter(pl.col(KEY).is_in(list(keys)))

    def living(self, side: Side, key: str) -> Row | None:
        """A row that exists and was not deleted."""
        row = self._rows[side].get(key)
        return None if row is None or row[DELETED] else row


@dataclass
class Meeting:
    """Decides a handful of records of one sync."""

    session: Session
    spec: SyncSpec
    pairing: Pairing
    deciding: Deciding
    times: tuple[bool, bool]
    _met: set[str] = field(default_factory=set)  # target records that a source record of this batch is

    def unmoved(self, live: Live, side: Side, key: str) -> bool:
        """Whether a side of a linked pair lives and holds what both last agreed on."""
        link = live.links[key]
        row = live.living(side, key if side == "source" else link.target_id)
        if row is None:
            return False
        names = self.pairing.source_fields if side == "source" else self.pairing.target_fields
        held = _values(row, names)
        met = Met(
            key=key, target_id=link.target_id, link=link, source=held if side == "source" else None,
            target=held if side == "target" else None,
        )  # fmt: skip
        return self.deciding.unmoved(met, side)

    def linked_and_new(self, keys: Sequence[str], live: Live) -> Decided:
        """The rows for source records, linked or not."""
        done = Decided()
        ids = [live.links[key].target_id for key in keys if key in live.links]
        still = parked(self.session, self.spec, keys, ids)
        alive = live.frame("source", [key for key in keys if key not in still]).filter(~pl.col(DELETED))
        mapped, refused = self._mapped(alive)
        matched = self._matched(mapped, live)
        targets = [row for one in {*ids, *(m[0] for m in matched.values() if m[0])}
                   if (row := live.living("target", one)) is not None]  # fmt: skip
        back = backward(self.pairing, targets)
        resolved = chosen(self.session.database, self.spec.name, list(keys))
        rows = {row[KEY]: row for row in mapped.iter_rows(named=True)}
        for key in keys:
            if key in still:
                continue
            met = self._record(key, live, rows.get(key), matched.get(key), back, refused.get(key))
            if isinstance(met, str):
                blank = Met(key=key, target_id="", link=None, source=None, target=None)
                done.still.append(self.deciding.held_row(blank, met))
            elif met is not None:
                self._add(done, met, resolved.get(key))
        return done

    def _add(self, done: Decided, met: Met, resolved: Mapping[str, Any] | None) -> None:
        if met.source is None:
            done.add(self.deciding.gone(met, "source", resolved))
        elif met.target is not None:
            done.add(self.deciding.meet(met, resolved))
        elif met.link is not None:
            done.add(self.deciding.gone(met, "target", resolved))
        elif met.refused is not None:
            done.letters.append(self.deciding.refusal(met))
        else:
            done.target.append(self.deciding.create_target(met))

    def _mapped(self, alive: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Row]]:
        """The living source rows mapped, and what the contract says against them."""
        absent = {name for names in alive["_absent"].to_list() for name in names or ()}
        told = alive.drop([name for name in alive.columns if name in absent]).with_columns(_changed=pl.lit(True))
        mapped = self.pairing.forward.apply(told, self._lookups(told))
        contract = self.spec.contract
        model = self.session.project.load(contract, field_name="contract") if contract else None
        checked = validate(mapped, model, required=self.pairing.forward.required)
        if not checked.invalid.height:
            return mapped, {}
        refused = with_payload(mapped.join(checked.invalid.select(KEY).unique(), on=KEY, how="semi"), checked.invalid)
        return mapped, {row[KEY]: row for row in refused.iter_rows(named=True)}

    def _lookups(self, rows: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
        if not any(isinstance(rule, Lookup) for rule in self.spec.mapping.values()):
            return {}
        with self.session.lake.connect() as con:
            return looked_up(con, self.spec, self.pairing.forward, rows)

    def _matched(self, mapped: pl.DataFrame, live: Live) -> dict[str, tuple[str | None, str]]:
        """For unlinked source records the target record they are, or why nobody knows."""
        loose = mapped.filter(~pl.col(KEY).is_in(list(live.links)))
        on = self.spec.match
        if loose.is_empty() or not on or on[0] not in loose.columns:
            return {}
        connector = self.session.connector(self.spec.target.connection)
        stream = connector.stream(self.spec.target.object)
        cursor = [stream.cursor.field] if stream.cursor else []
        free = match_candidates(connector, stream, on, loose[on[0]].to_list(), [*self.pairing.target_fields, *cursor])
        ids = free["_target_id"].to_list()
        taken = {
            *partners(self.session.database, self.spec, ids), *merged_away(self.session.database, self.spec.target, ids)
        }  # fmt: skip
        free = free.filter(~pl.col("_target_id").is_in(list(taken)))
        if free.is_empty():
            return {}
        for row in free.iter_rows(named=True):
            live.known("target").setdefault(row["_target_id"], _as_staged(row, cursor))  # type: ignore[attr-defined]
        nothing = pl.DataFrame(schema={KEY: pl.String, "_target_id": pl.String})
        found = match(loose, nothing, free, on, frozenset(self.deciding.rule.target.folded))
        self._met |= {one for ids in found["_candidates"].to_list() for one in ids or ()}
        return {row[KEY]: (row["_target_id"], doubt_of(row)) for row in found.iter_rows(named=True)}

    def _record(
        self,
        key: str,
        live: Live,
        mapped: Row | None,
        matched: tuple[str | None, str] | None,
        back: Mapping[str, tuple[Row, list[str]]],
        refused: Row | None,
    ) -> Met | str | None:
        """The record as both sides hold it; a sentence when a person decides; None when there is nothing to do."""
        link = live.links.get(key)
        if link is None and matched is not None and matched[1]:
            return matched[1]
        target_id = link.target_id if link else (matched[0] if matched else None)
        source, target = live.living("source", key), live.living("target", target_id or "")
        if (source is None and target is None) or (source is None and link is None):
            return None
        self._met.add(target_id or "")
        led, unled = back.get(target_id or "", ({}, []))
        row = live.known("source").get(key)
        return Met(
            key=key,
            target_id=target_id or "",
            link=link,
            source=None if source is None else _values(source, self.pairing.source_fields),
            target=None if target is None else _values(target, self.pairing.target_fields),
            forward={} if mapped is None else {n: mapped[n] for n in self.pairing.forward.fields if n in mapped},
            back=led,
            unmapped=[one["field"] for one in (mapped or {}).get("_unmapped") or ()],
            unmapped_back=unled,
            refused=refused,
            source_stamp=row[CURSOR] if row is not None and self.times[0] else None,
            target_stamp=target.get(CURSOR) if target is not None and self.times[1] else None,
            cursor=row[CURSOR] if row is not None and source is not None else None,
            read_at=row[READ_AT] if row is not None and source is not None else None,
        )

    def fresh(self, ids: Sequence[str], live: Live) -> Decided:
        """The rows for target records nobody links: matched at the source first, made there when nobody is it."""
        done = Decided()
        lost = merged_away(self.session.database, self.spec.target, ids)
        rows = [row for one in ids if one not in lost and one not in self._met
                and (row := live.living("target", one)) is not None]  # fmt: skip
        back = backward(self.pairing, rows)
        known = self._at_source(back)
        for row in rows:
            led, unled = back[row[KEY]]
            met = Met(
                key="", target_id=row[KEY], link=None, source=None, back=led, unmapped_back=unled,
                target=_values(row, self.pairing.target_fields),
            )  # fmt: skip
            empty = [n for n in self.pairing.back.required if led.get(n) in (None, "")]
            if unled or empty:
                done.letters.append(self.deciding.refusal_back(met, unled, empty))
            elif row[KEY] in known:  # the next run, which sees both populations, matches them
                reason = f"it may be source record {known[row[KEY]]}: the next run matches them"
                done.source.append(self.deciding.create_source(met) | {"_op": "hold", "_reason": reason})
            elif led:
                done.source.append(self.deciding.create_source(met))
        return done

    def _at_source(self, back: Mapping[str, tuple[Row, list[str]]]) -> dict[str, str]:
        """For target records whose match values a source record has: that record."""
        on = self.pairing.reversed.match
        if not on or not back:
            return {}
        connector = self.session.connector(self.spec.source.connection)
        stream = connector.stream(self.spec.source.object)
        values = [led.get(on[0]) for led, _ in back.values()]
        there: dict[str, str] = {}
        for row in match_candidates(connector, stream, on, values, []).iter_rows(named=True):
            there[_folded(row[on[0]])] = row["_target_id"]
        found = {one: _folded(led.get(on[0])) for one, (led, _) in back.items()}
        return {one: there[value] for one, value in found.items() if value and value in there}


def _values(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """The fields that the record was told."""
    absent = row.get("_absent") or ()
    return {name: row[name] for name in names if name in row and name not in absent}


def _as_staged(row: Row, cursor: Sequence[str]) -> Row:
    """A looked-up row with staging's own columns."""
    moment = row.get(cursor[0]) if cursor else None
    stamp = int(moment.timestamp() * 1_000_000) if isinstance(moment, dt.datetime) else None
    return {**row, KEY: row["_target_id"], DELETED: False, CURSOR: stamp, READ_AT: None}


def _folded(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()
