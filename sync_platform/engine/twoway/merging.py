"""Three-way merge, field by field: what each side changed since both last agreed, and where it goes.

Each side is compared only with its own base, in its own terms, so that a value the vendor rewrote (a phone number's
spaces) is no change. Timestamps decide conflicts, never whether something changed: the echo of our own write equals
the base and is nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_platform.engine.spec import Side, TwoWay
from sync_platform.engine.twoway.pairing import Pair, side_of
from sync_platform.engine.twoway.values import Comparing


class Verdict(enum.StrEnum):
    """What is to be done with one pair of fields of one record."""

    NOTHING = "nothing"  # neither side changed it
    SETTLE = "settle"  # both sides hold the same: only the base moves
    TO_TARGET = "to_target"
    TO_SOURCE = "to_source"
    CONFLICT = "conflict"  # a person decides
    ABSENT = "absent"  # a side does not tell a field that is needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One record as both sides hold it.

    `source` and `target` are their values, `forward` what the mapping makes of the source, `back` what leads back
    from the target; a field that is absent is not in them. `base_source` and `base_target` are what each side held when
    they last agreed, None before they ever did. Stamps are microseconds of each side's last change, if it tells.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    forward: Mapping[str, Any]
    back: Mapping[str, Any]
    base_source: Mapping[str, Any] | None = None
    base_target: Mapping[str, Any] | None = None
    source_stamp: int | None = None
    target_stamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The outcome for one record: values to write, and the bases each pair gets once its outcome is settled."""

    verdicts: Mapping[str, Verdict]
    to_target: Mapping[str, Any] = field(default_factory=dict)
    to_source: Mapping[str, Any] = field(default_factory=dict)

    def pairs_with(self, *wanted: Verdict) -> list[str]:
        """The names of the pairs with one of these verdicts."""
        return [name for name, verdict in self.verdicts.items() if verdict in wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a sync merges; `resolved` decides pairs of this record for which a person chose."""

    two_way: TwoWay
    source: Comparing = field(default_factory=Comparing)
    target: Comparing = field(default_factory=Comparing)


def merge(pairs: Collection[Pair], both: Both, rule: Rule, resolved: Mapping[str, Side] | None = None) -> Merged:
    """Decides every pair of one record. Pure: the same answers in every lane."""
    verdicts: dict[str, Verdict] = {}
    to_target: dict[str, Any] = {}
    to_source: dict[str, Any] = {}
    for pair in pairs:
        verdict = _decide(pair, both, rule, (resolved or {}).get(pair.name))
        verdicts[pair.name] = verdict
        if verdict is Verdict.TO_TARGET:
            to_target |= _unlike(pair.targets, both.forward, both.target, rule.target)
        elif verdict is Verdict.TO_SOURCE:
            to_source |= _unlike(pair.sources, both.back, both.source, rule.source)
    return Merged(verdicts=verdicts, to_target=to_target, to_source=to_source)


def _unlike(
    names: Collection[str], wanted: Mapping[str, Any], held: Mapping[str, Any], how: Comparing
) -> dict[str, Any]:
    return {n: wanted[n] for n in names if not (n in held and how.equal(n, wanted[n], held[n]))}


def _decide(pair: Pair, both: Both, rule: Rule, resolved: Side | None) -> Verdict:
    forward_known = all(name in both.forward and name in both.target for name in pair.targets)
    back_known = all(name in both.back and name in both.source for name in pair.sources)
    told = all(name in both.target for name in pair.reads_target)  # what leads back from an absent field is no value
    if not forward_known or not back_known or not told:
        return Verdict.ABSENT
    same_there = not _unlike(pair.targets, both.forward, both.target, rule.target)
    same_here = not _unlike(pair.sources, both.back, both.source, rule.source)
    if not pair.sources:
        return Verdict.NOTHING if same_there else Verdict.TO_TARGET
    if not pair.targets:
        return Verdict.NOTHING if same_here else Verdict.TO_SOURCE
    ours = changed((*pair.reads_source, *pair.sources), both.source, both.base_source, rule.source)
    theirs = changed((*pair.reads_target, *pair.targets), both.target, both.base_target, rule.target)
    if ours is None or theirs is None:
        return _first_meeting(pair, both, rule, resolved, agree=same_there or same_here)
    if not ours and not theirs:
        return Verdict.NOTHING
    if (ours and same_there) or (theirs and (same_here or same_there)):
        return Verdict.SETTLE
    if ours and theirs:
        return Verdict.SETTLE if same_here else _conflict(pair, both, rule, resolved)
    return Verdict.TO_TARGET if ours else Verdict.TO_SOURCE


def changed(
    names: Collection[str], held: Mapping[str, Any], base: Mapping[str, Any] | None, how: Comparing
) -> bool | None:
    """Whether a side's fields differ from its base; None when some field has no base. Absent ones are unchanged."""
    if base is None or any(name not in base for name in names if name in held):
        return None
    return any(not how.equal(name, held[name], base[name]) for name in names if name in held)


def _first_meeting(pair: Pair, both: Both, rule: Rule, resolved: Side | None, *, agree: bool) -> Verdict:
    """Without a base nobody knows who changed what: the filled side fills the empty one, else it is a conflict."""
    if agree:
        return Verdict.SETTLE
    if all(both.source[name] in (None, "") for name in pair.sources):
        return Verdict.TO_SOURCE
    if all(both.target[name] in (None, "") for name in pair.targets):
        return Verdict.TO_TARGET
    return _conflict(pair, both, rule, resolved)


def _conflict(pair: Pair, both: Both, rule: Rule, resolved: Side | None) -> Verdict:
    side = resolved or side_of(rule.two_way.owners, pair) or rule.two_way.conflicts
    if side == "ask":
        return Verdict.CONFLICT
    if side == "newest":
        side = newest(both.source_stamp, both.target_stamp)
    return Verdict.TO_TARGET if side == "source" else Verdict.TO_SOURCE


def newest(source_stamp: int | None, target_stamp: int | None) -> Side:
    """The side that changed last; the source when it is a tie or a side tells no time."""
    if source_stamp is None or target_stamp is None or source_stamp >= target_stamp:
        return "source"
    return "target"
