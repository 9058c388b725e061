"""What a merged record means for each side: the rows of a plan, with the bases they settle. Pure.

A row is a dictionary with the columns of `planning` and, beyond them, `_side`, `_partner` (the record on the other
side) and `_bases`: JSON {"source": {...}, "target": {...}} of the fields that both sides agree on once the row's
outcome is settled. `_key` is the source record; a record to be made at the source is `target:<id>` until it has a key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.merging import Both, Merged, Rule, Verdict, changed, merge
from sync_platform.engine.twoway.pairing import Pair, Pairing
from sync_platform.engine.twoway.values import told
from sync_platform.ledger.bases import PairLink
from sync_platform.model import Op

Row = dict[str, Any]
RECORD: Final = "*"  # the field of a conflict about the record itself
_FRESH: Final = "target:"  # as `realtime.inbox` names the target's events


def fresh_key(target_id: str) -> str:
    """What a target record is called while it has no source record."""
    return _FRESH + target_id


def target_of(key: str) -> str | None:
    """The target record a key of `fresh_key` stands for; None for the key of a source record."""
    return key[len(_FRESH) :] if key.startswith(_FRESH) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A source record and the target record it is, as both are held now; None for a side that is gone.

    `unmapped` names the target fields the mapping could not make, `unmapped_back` the source fields nothing led back
    to; `refused` holds the contract's reasons against what the target would be given.
    """

    key: str
    target_id: str
    link: PairLink | None
    source: Mapping[str, Any] | None
    target: Mapping[str, Any] | None
    forward: Mapping[str, Any] = field(default_factory=dict)
    back: Mapping[str, Any] = field(default_factory=dict)
    unmapped: Collection[str] = ()
    unmapped_back: Collection[str] = ()
    refused: Mapping[str, Any] | None = None
    source_stamp: int | None = None
    target_stamp: int | None = None
    cursor: int | None = None
    read_at: int | None = None
    changed: bool = True


@dataclass
class Decided:
    """What one record, or many, need: rows by side, rows that settle without a call, conflicts and refusals."""

    target: list[Row] = field(default_factory=list)
    source: list[Row] = field(default_factory=list)
    still: list[Row] = field(default_factory=list)
    conflicts: list[Row] = field(default_factory=list)
    letters: list[Row] = field(default_factory=list)

    def add(self, other: Decided) -> None:
        """Takes another record's rows in."""
        for mine, more in (
            (self.target, other.target), (self.source, other.source), (self.still, other.still),
            (self.conflicts, other.conflicts), (self.letters, other.letters),
        ):  # fmt: skip
            mine.extend(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """A two-way sync's terms for deciding one record after the other."""

    pairing: Pairing
    rule: Rule

    # -- both sides are there --------------------------------------------------------------------

    def meet(self, met: Met, resolved: Mapping[str, Mapping[str, Any]] | None = None) -> Decided:
        """The rows for a record that both sides hold."""
        assert met.source is not None
        assert met.target is not None
        chosen = self._still_chosen(met, resolved or {})
        merged = merge(self.pairing.pairs, self._both(met), self.rule, chosen)
        done = Decided()
        to_target = {n: v for n, v in merged.to_target.items() if n not in met.unmapped}
        if merged.to_target and (met.refused is not None or len(to_target) < len(merged.to_target)):
            done.letters.append(self.refusal(met))
        elif to_target:
            bases = self._bases(met, self._named(merged, Verdict.TO_TARGET), target=to_target)
            done.target.append(self._update("target", met, to_target, bases))
        to_source = {n: v for n, v in merged.to_source.items() if n not in met.unmapped_back}
        if len(to_source) < len(merged.to_source):
            done.letters.append(self.refusal_back(met, [n for n in merged.to_source if n in met.unmapped_back]))
        elif to_source:
            bases = self._bases(met, self._named(merged, Verdict.TO_SOURCE), source=to_source)
            done.source.append(self._update("source", met, to_source, bases))
        for name in merged.pairs_with(Verdict.CONFLICT):
            done.conflicts.append(self._conflict(met, name))
        agreed = self._named(merged, Verdict.SETTLE)
        nothing = not (done.target or done.source or done.conflicts or done.letters)
        if agreed or met.link is None or nothing:
            still = self._still(met, self._bases(met, agreed), relink=met.link is None or bool(agreed))
            done.still.append(still | {"_changed": met.changed and nothing})  # a record is counted once
        return done

    def _both(self, met: Met) -> Both:
        link = met.link
        return Both(
            source=met.source or {}, target=met.target or {}, forward=met.forward, back=met.back,
            base_source=link.base_source if link else None, base_target=link.base_target if link else None,
            source_stamp=met.source_stamp, target_stamp=met.target_stamp,
        )  # fmt: skip

    def _still_chosen(self, met: Met, resolved: Mapping[str, Mapping[str, Any]]) -> dict[str, Side]:
        """The choices of people that are about the values both sides still hold."""
        found: dict[str, Side] = {}
        for name, choice in resolved.items():
            now = self.held(met, name)
            if (choice["source"], choice["target"]) == (now["source"], now["target"]):
                found[name] = choice["take"]
        return found

    def unmoved(self, met: Met, side: Side) -> bool:
        """Whether a side holds exactly what both last agreed on: an echo of our own write, or no news."""
        held, base, how = met.source, met.link.base_source if met.link else None, self.rule.source
        if side == "target":
            held, base, how = met.target, met.link.base_target if met.link else None, self.rule.target
        if held is None or base is None:
            return False
        names = self.pairing.source_fields if side == "source" else self.pairing.target_fields
        return changed(names, held, base, how) is False

    # -- one side is gone ------------------------------------------------------------------------

    def gone(self, met: Met, side: Side, resolved: Mapping[str, Mapping[str, Any]] | None = None) -> Decided:
        """The rows for a linked record that was deleted on `side` and lives on the other one."""
        two_way, link = self.rule.two_way, met.link
        assert link is not None
        what = two_way.deleted_at_source if side == "source" else two_way.deleted_at_target
        deleted = f"deleted at the {side}"
        if what == "ignore":
            return Decided(still=[self._still(met, None, reason=f"{deleted}; on_delete leaves the other side")])
        if not self._edited(met, side):
            return self._removed(met, side, what, deleted)
        takes = self._still_chosen(met, resolved or {}).get(RECORD) or two_way.conflicts
        if takes == "ask" or (two_way.owners and RECORD not in self._still_chosen(met, resolved or {})):
            return Decided(conflicts=[self._conflict(met, RECORD, f"{deleted}, edited on the other side since")])
        if takes == side:
            return self._removed(met, side, what, deleted)
        reason = f"{deleted}, edited on the other side since: created again"
        if side == "source":
            return Decided(source=[self.create_source(met, reason)])
        return Decided(target=[self.create_target(met, reason)])

    def _edited(self, met: Met, gone: Side) -> bool:
        link = met.link
        assert link is not None
        pairs = [pair for pair in self.pairing.pairs if pair.both]
        if gone == "source":
            return any(
                changed((*p.reads_target, *p.targets), met.target or {}, link.base_target, self.rule.target)
                for p in pairs
            )
        return any(
            changed((*p.reads_source, *p.sources), met.source or {}, link.base_source, self.rule.source) for p in pairs
        )

    def _removed(self, met: Met, side: Side, what: str, reason: str) -> Decided:
        op = Op.DELETE if what == "propagate" else Op.ARCHIVE
        other: Side = "target" if side == "source" else "source"
        row = self._row(other, op, met, reason=reason) | {"_fields": []}
        held = met.target if other == "target" else met.source
        row |= {f"old:{name}": (held or {}).get(name) for name in self._fields(other)}
        return Decided(target=[row]) if other == "target" else Decided(source=[row])

    # -- records only one side has ---------------------------------------------------------------

    def create_target(self, met: Met, reason: str | None = None) -> Row:
        """The row that makes a target record of a source record."""
        values = {
            n: v for n, v in met.forward.items() if v not in (None, "") or (v == "" and not self._blank("target"))
        }
        bases = self._bases(met, self.pairing.pairs, target=dict(met.forward), made="target")
        row = self._row("target", Op.CREATE, met, reason=reason, bases=bases)
        row |= {"_fields": list(values), "_target_id": None, "_replaces": met.link.target_id if met.link else None}
        return row | {f"new:{n}": v for n, v in met.forward.items()}

    def create_source(self, met: Met, reason: str | None = None) -> Row:
        """The row that makes a source record of a target record."""
        values = {n: v for n, v in met.back.items() if v not in (None, "") or (v == "" and not self._blank("source"))}
        bases = self._bases(met, self.pairing.pairs, source=dict(met.back), made="source")
        row = self._row("source", Op.CREATE, met, reason=reason, bases=bases)
        row |= {"_fields": list(values), "_key": fresh_key(met.target_id), "_target_id": None, "_cursor": None}
        row |= {"_replaces": met.link.key if met.link else None}
        return row | {f"new:{n}": v for n, v in met.back.items()}

    def _blank(self, side: Side) -> bool:
        return (self.rule.target if side == "target" else self.rule.source).empty_is_null

    # -- rows ------------------------------------------------------------------------------------

    def _fields(self, side: Side) -> tuple[str, ...]:
        names: Iterable[str] = self.pairing.forward.fields if side == "target" else self.pairing.back.fields
        return tuple(names)

    def _row(
        self, side: Side, op: Op, met: Met, *, reason: str | None = None, bases: Mapping[str, Any] | None = None
    ) -> Row:
        here, there = (met.target_id, met.key) if side == "target" else (met.key, met.target_id)
        return {
            "_side": side, "_op": str(op), "_key": met.key, "_target_id": here, "_partner": there, "_reason": reason,
            "_cursor": met.cursor, "_read_at": met.read_at, "_dedupe_key": None, "_changed": met.changed, "_fields": [],
            "_base": None, "_replaces": None, "_relink": False,
            "_bases": orjson.dumps(bases).decode() if bases else None,
        }  # fmt: skip

    def _update(self, side: Side, met: Met, values: Mapping[str, Any], bases: Mapping[str, Any]) -> Row:
        row = self._row(side, Op.UPDATE, met, bases=bases) | {"_fields": list(values)}
        held = (met.target if side == "target" else met.source) or {}
        wanted = met.forward if side == "target" else met.back
        for name in self._fields(side):
            row[f"old:{name}"] = held.get(name)
            row[f"new:{name}"] = values[name] if name in values else wanted.get(name)
        return row

    def _still(
        self, met: Met, bases: Mapping[str, Any] | None, *, reason: str = "unchanged", relink: bool = False
    ) -> Row:
        return self._row("target", Op.SKIP, met, reason=reason, bases=bases) | {"_relink": relink}

    def _named(self, merged: Merged, verdict: Verdict) -> list[Pair]:
        names = merged.pairs_with(verdict)
        return [pair for pair in self.pairing.pairs if pair.name in names]

    def _bases(
        self,
        met: Met,
        pairs: Collection[Pair],
        *,
        source: Mapping[str, Any] | None = None,
        target: Mapping[str, Any] | None = None,
        made: Side | None = None,
    ) -> dict[str, Any]:
        """What both sides hold of these pairs once `source` and `target` are written; `made`: that side is new."""
        ours = dict(met.source or {}) | dict(source or {}) if made != "source" else dict(source or {})
        theirs = dict(met.target or {}) | dict(target or {}) if made != "target" else dict(target or {})
        return {
            "source": self.rule.source.told(ours, [f for p in pairs for f in (*p.reads_source, *p.sources)]),
            "target": self.rule.target.told(theirs, [f for p in pairs for f in (*p.reads_target, *p.targets)]),
            "pairs": [pair.name for pair in pairs],
        }

    # -- what a person must see ------------------------------------------------------------------

    def held(self, met: Met, name: str) -> dict[str, dict[str, Any]]:
        """What base, source and target hold of one pair (or of the record), as JSON."""
        pairs = [pair for pair in self.pairing.pairs if pair.both and name in (RECORD, pair.name)]
        ours = [f for pair in pairs for f in (*pair.reads_source, *pair.sources)]
        theirs = [f for pair in pairs for f in (*pair.reads_target, *pair.targets)]
        base_source = (met.link.base_source if met.link else None) or {}
        base_target = (met.link.base_target if met.link else None) or {}
        return {
            "base": {
                "source": {f: base_source[f] for f in ours if f in base_source},
                "target": {f: base_target[f] for f in theirs if f in base_target},
            },
            "source": self.rule.source.told(met.source or {}, ours),
            "target": self.rule.target.told(met.target or {}, theirs),
        }

    def _conflict(self, met: Met, name: str, reason: str | None = None) -> Row:
        told_reason = reason or f"{name} was changed on both sides"
        return self._row("target", Op.CONFLICT, met, reason=told_reason) | {
            "_field": name, "_held": orjson.dumps(self.held(met, name)).decode()
        }  # fmt: skip

    def held_row(self, met: Met, reason: str) -> Row:
        """The row of a record that a person decides about."""
        return self._row("target", Op.HOLD, met, reason=reason) | {"_target_id": None}

    def refusal(self, met: Met) -> Row:
        """The dead letter of a record the target must not be given."""
        refused = dict(met.refused or {})
        payload = {n: told(v, empty_is_null=False) for n, v in met.forward.items()}
        return self._failed(met, refused.get("field"), refused.get("reason"), refused.get("reasons"), payload)

    def refusal_back(self, met: Met, unmade: Collection[str], empty: Collection[str] = ()) -> Row:
        """The dead letter of a record the source must not be given."""
        name = next(iter([*unmade, *empty]))
        payload = {n: told(v, empty_is_null=False) for n, v in (met.target or {}).items()}
        what = "cannot be made of what the target holds" if unmade else "is required at the source and empty here"
        row = self._failed(met, name, f"{name} {what}", None, payload)
        return row if met.key else row | {"_key": fresh_key(met.target_id)}

    def _failed(self, met: Met, name: str | None, reason: str | None, reasons: str | None, payload: Row) -> Row:
        every = reasons or orjson.dumps([{"field": name, "reason": reason, "value": None}]).decode()
        return {
            "_key": met.key, "_cursor": met.cursor, "_read_at": met.read_at, "_changed": met.changed,
            "_dedupe_key": None, "payload": orjson.dumps(payload).decode(), "field": name, "reason": reason,
            "reasons": every,
        }  # fmt: skip
