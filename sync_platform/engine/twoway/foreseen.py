"""Links as they will be once the merges that a plan found are followed: a plan reads these and moves nothing.

The merges are a part of the plan (`merges`: `side`, `loser`, `survivor`); its delivery follows them before it writes
anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.engine.twoway.merges import follow, touched, was_told
from sync_platform.ledger.bases import PairLink, merged_away, pair_links, partners

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, Side, SyncSpec
    from sync_platform.ledger.plans import PlanFiles
    from sync_platform.session import Session

_PART: Final = "merges"
_MERGES: Final = {"side": pl.String, "loser": pl.String, "survivor": pl.String}


def _both() -> dict[Side, dict[str, str]]:
    return {"source": {}, "target": {}}


@dataclass
class Foreseen:
    """The links of a sync with merges followed that the ledger does not know yet."""

    session: Session
    spec: SyncSpec
    _merged: dict[Side, dict[str, str]] = field(default_factory=_both)  # loser -> survivor, as told
    _moved: dict[Side, dict[str, str]] = field(default_factory=_both)  # loser -> last survivor, where a link follows

    @classmethod
    def read(cls, session: Session, spec: SyncSpec, files: PlanFiles) -> Foreseen:
        """What a plan has found so far."""
        found = cls(session, spec)
        for side, merged in planned_merges(files).items():
            found.see(side, merged)
        return found

    def write(self, files: PlanFiles) -> None:
        """Makes the merges a part of the plan."""
        rows = [(side, loser, survivor) for side, merged in self._merged.items() for loser, survivor in merged.items()]
        files.write(_PART, 0, pl.DataFrame(rows, schema=_MERGES, orient="row"))

    def see(self, side: Side, merged: Mapping[str, str]) -> list[str]:
        """Takes in merges; returns a sentence for each link they touch that was not told before."""
        self._merged[side] |= {loser: survivor for loser, survivor in merged.items() if loser != survivor}
        ends = self.merged_away(side, list(merged))
        links = self._other_ends(side, [*ends, *ends.values()])
        said = []
        for loser in [one for one in merged if one in ends and one in links]:
            row, taken = touched(side, loser, ends[loser], links)
            if not taken:
                before = [first for first, last in self._moved[side].items() if last == loser]
                self._moved[side] |= dict.fromkeys(before or [loser], ends[loser])
                links[ends[loser]] = links.pop(loser)
            elif was_told(self.session.database, self.spec, row):
                continue
            said.append(f"{self.spec.name}: {row['reason']}")
        return said

    # -- what planning asks ----------------------------------------------------------------------

    def links(self, keys: Sequence[str]) -> dict[str, PairLink]:
        """As `ledger.bases.pair_links`."""
        known = self._known_as("source", keys)
        found: dict[str, PairLink] = {}
        for was, link in pair_links(self.session.database, self.spec, list(known)).items():
            target_id = self._moved["target"].get(link.target_id, link.target_id)
            if (known[was], target_id) != (was, link.target_id):
                link = replace(link, key=known[was], target_id=target_id, cursor=None)
            found[known[was]] = link
        return found

    def partners(self, target_ids: Sequence[str]) -> dict[str, str]:
        """As `ledger.bases.partners`."""
        known = self._known_as("target", target_ids)
        found = partners(self.session.database, self.spec, list(known))
        return {known[was]: self._moved["source"].get(key, key) for was, key in found.items()}

    def merged_away(self, side: Side, ids: Sequence[str]) -> dict[str, str]:
        """As `ledger.bases.merged_away`."""
        told = {one: self._after(side, one) for one in ids}
        known = merged_away(self.session.database, self._place(side), list({*told, *told.values()}))
        ends = {one: self._after(side, known.get(end, end)) for one, end in told.items()}
        return {one: end for one, end in ends.items() if end != one}

    def parked(self, keys: Sequence[str], target_ids: Sequence[str]) -> set[str]:
        """As `merges.parked`."""
        lost = set(self.merged_away("source", keys))
        gone = self.merged_away("target", target_ids)
        return lost | set(self.partners(list(gone)).values()) if gone else lost

    def _place(self, side: Side) -> Endpoint:
        return self.spec.source if side == "source" else self.spec.target

    def _after(self, side: Side, one: str) -> str:
        """The record that one went into, as far as these merges tell."""
        seen = {one}
        while (survivor := self._merged[side].get(one)) is not None and survivor not in seen:
            seen.add(survivor)
            one = survivor
        return one

    def _known_as(self, side: Side, ids: Sequence[str]) -> dict[str, str]:
        """These ids by the one under which the ledger holds their link now; those whose link leaves are left out."""
        followed = {survivor: loser for loser, survivor in self._moved[side].items()}
        return {followed.get(one, one): one for one in ids if one not in self._moved[side]}

    def _other_ends(self, side: Side, ids: Sequence[str]) -> dict[str, str]:
        if side == "target":
            return self.partners(ids)
        return {key: link.target_id for key, link in self.links(ids).items()}


def planned_merges(files: PlanFiles) -> dict[Side, dict[str, str]]:
    """The merges that a plan found, by side: loser -> survivor."""
    found = _both()
    for part in files.parts(_PART):
        for side, loser, survivor in part.iter_rows():
            found[side][loser] = survivor
    return found


def follow_planned(session: Session, spec: SyncSpec, plan_id: str, files: PlanFiles) -> None:
    """Follows a plan's merges: links move to the survivors, each with an outcome."""
    for side, merged in planned_merges(files).items():
        follow(session, spec, side, merged, plan_id)
