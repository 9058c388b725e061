"""One batch between its claims and its last outcome: what is wanted becomes what the target holds.

Links and target are read under claims, so what is written cannot have been decided on something older, and
outcomes, links, dedupe keys and the events they answer are settled in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import polars as pl

from sync_platform.engine.deliver import ORDER, contract_failures, without_call
from sync_platform.engine.handful import plan_linked
from sync_platform.engine.judging import Judged
from sync_platform.engine.looking import Target, look
from sync_platform.engine.lookups import target_rows
from sync_platform.engine.planning import changes_of, rules_of
from sync_platform.engine.reconcile import plan_left
from sync_platform.engine.recover import recover
from sync_platform.engine.rowwise import SUPERSEDED, RowwiseDelivery, id_claim, match_claim
from sync_platform.ledger.claims import claimed
from sync_platform.ledger.links import LINKS, links_of
from sync_platform.ledger.members import remember_members
from sync_platform.ledger.settle import SETTLED, settle
from sync_platform.ledger.taking_up import Link
from sync_platform.model import CURSOR, KEY, READ_AT, Op, Status, Stream
from sync_platform.realtime.queue import Batch, finish

if TYPE_CHECKING:
    import duckdb

    from sync_platform.connectors.connector import Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

CLAIM_SECONDS: Final = 30.0
CLAIM_PATIENCE: Final = 2.0
LOOKS: Final = 3  # so often the claims are taken anew because a link changed between reading and claiming
_REMOVING: Final = (str(Op.DELETE), str(Op.ARCHIVE))
_IDLE: Final = {
    "deleted": ("deleted", "it is gone from the source, and no target record follows it"),
    "duplicate": ("duplicate", "another record speaks for it"),
}
_AGAIN: Final = (str(Status.RETRY), str(Status.REFUSED))


Links: TypeAlias = Mapping[str, Link]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a sync's batches are delivered: by whom, to what, told under which run."""

    spec: SyncSpec
    worker: str
    run_of: Callable[[str], str]
    may_delete: Callable[[int], bool]
    connector: Connector
    stream: Stream
    folded: set[str]
    con: duckdb.DuckDBPyConnection


@dataclass
class Delivery:
    """Delivers one batch; `again` then holds the records that must be tried again, with why.

    `desired`: the wanted records, one frame for each set of fields that records have a value for.
    """

    terms: Terms
    batch: Batch
    session: Session
    judged: Judged
    desired: Sequence[pl.DataFrame]
    invalid: pl.DataFrame | None
    again: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    _mine: frozenset[str] = frozenset()
    _open: set[str] = field(default_factory=set)
    _superseded: set[str] = field(default_factory=set)

    def run(self) -> Iterator[pl.DataFrame]:
        spec = self.terms.spec
        self._mine = frozenset(self.batch.keys)
        self._open = set(self._mine)
        everyone = [*self._wanted_keys(), *self.judged.left[KEY].to_list()]
        links = self._links(everyone)
        for _ in range(LOOKS):
            with claimed(
                self.session.database, spec.target, self._claims(links), self.batch.plan_id,
                patience=CLAIM_PATIENCE, lease=CLAIM_SECONDS,
            ):  # fmt: skip
                recover(self.session, spec, keys=everyone)
                before, links = links, self._links(everyone)
                if {key: one.target_id for key, one in before.items()} == {k: o.target_id for k, o in links.items()}:
                    yield from self._under_claims(links)
                    return
        self.again = dict.fromkeys(self._open, "its link changed meanwhile")

    def _wanted_keys(self) -> list[str]:
        return [str(key) for part in self.desired for key in part[KEY]]

    def _links(self, keys: list[str]) -> Links:
        found = links_of(self.session.database, self.terms.spec, keys)
        return {row[0]: Link(*row[1:]) for row in found.iter_rows()}

    def _under_claims(self, links: Links) -> Iterator[pl.DataFrame]:
        if any(part.height for part in self.desired) or self.judged.left.height:
            yield from self._deliver(links)
        if self.invalid is not None:
            yield self._settled(contract_failures(self.invalid, self.terms.spec))
        yield self._settled(_nothing(), last=True)

    def _claims(self, links: Links) -> list[str]:
        spec = self.terms.spec
        claims = [id_claim(one.target_id) for one in links.values()]
        for part in self.desired:
            names = [name for name in spec.match if name in part.columns]
            for key, *found in part.select(KEY, *names).iter_rows():
                if key not in links:
                    claims.append(match_claim(spec, key, found if len(names) == len(spec.match) else ()))
        return claims or [f"none:{self.batch.plan_id}"]

    def _deliver(self, links: Links) -> Iterator[pl.DataFrame]:
        planned = [self._planned(part, links) for part in self._parts(links)]
        changes = [row for _, rows in planned for row in rows]
        fields, left = planned[-1][0], self._left(links, planned[-1][0], changes)
        if not self.terms.may_delete(sum(row["_op"] in _REMOVING for row in (*changes, *left))):
            self._give_up()
            return
        for names, rows in planned:
            yield from self._write(rows, names, links)
        yield from self._write(left, fields, links)
        changes += left
        skips = [row for row in changes if row["_op"] == Op.SKIP]
        self.unchanged = sum(row[KEY] in self._mine for row in skips)
        relinked = [row for row in skips if row["_relink"]]
        if relinked:
            self._settled(
                without_call(pl.DataFrame(relinked, infer_schema_length=None), Status.NOOP), outcomes=False, done=False
            )
        held = [row for row in changes if row["_op"] == Op.HOLD]
        if held:
            yield self._settled(without_call(pl.DataFrame(held, infer_schema_length=None), Status.HELD))

    def _parts(self, links: Links) -> list[pl.DataFrame]:
        """The wanted records that are planned together: rivals for one target record always are."""
        parts = [self._not_superseded(part, links) for part in self.desired]
        ids = [links[key].target_id for part in parts for key in part[KEY] if key in links]
        if len(parts) == 1 or len(set(ids)) == len(ids):
            return parts
        common = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        return [pl.concat([part.select(common) for part in parts])]

    def _target(self, fields: tuple[str, ...]) -> Target:
        return Target(
            session=self.session, spec=self.terms.spec, connector=self.terms.connector, stream=self.terms.stream,
            fields=fields, folded=self.terms.folded, compare="live", con=self.terms.con, linked=True, vacant=False,
            left=set(self.judged.left[KEY]),
        )  # fmt: skip

    def _planned(self, desired: pl.DataFrame, links: Links) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
        """The fields of one part of the wanted records, and its changes."""
        terms, spec = self.terms, self.terms.spec
        fields = tuple(name for name in desired.columns if not name.startswith("_"))
        target = self._target(fields)
        rules = rules_of(spec, target)
        linked = [links[key].target_id for key in desired[KEY] if key in links]
        changes, rest = plan_linked(desired, target_rows(terms.connector, terms.stream, linked, fields), links, rules)
        if rest.height:
            repeated = _repeated(self.desired, spec, terms.folded)
            seen = look(target, rest, _frame(links))
            changes += changes_of(target, seen, rules, repeated, self._unknown()).to_dicts()
        return fields, changes

    def _not_superseded(self, desired: pl.DataFrame, links: Links) -> pl.DataFrame:
        """Without records of which a newer version was delivered already: their events are done."""
        for key, cursor, read_at in desired.select(KEY, CURSOR, READ_AT).iter_rows():
            link = links.get(key)
            if link is None or link.cursor is None or cursor is None:
                continue
            if (link.cursor, link.read_at or 0) > (cursor, read_at or 0):
                self._superseded.add(key)
        if not self._superseded:
            return desired
        return desired.filter(~pl.col(KEY).is_in(list(self._superseded)))

    def _unknown(self) -> dict[str, str]:
        with self.session.database.connection() as connection:
            rows = connection.execute(
                """SELECT source_key, reason FROM sync.held
                   WHERE sync = %s AND kind = 'unknown' AND source_key = ANY(%s)""",
                (self.terms.spec.name, self._wanted_keys()),
            ).fetchall()
        return {str(key): str(reason) for key, reason in rows}

    def _left(self, links: Links, fields: tuple[str, ...], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The changes for linked records that are not wanted any more."""
        left = [row for row in self.judged.left.iter_rows(named=True) if row[KEY] in links]
        if not left:
            return []
        frame = pl.DataFrame(
            {
                KEY: [row[KEY] for row in left],
                "_why": [row["_why"] for row in left],
                "_changed": [True] * len(left),
                "_target_id": [links[row[KEY]].target_id for row in left],
            }
        )
        current = target_rows(self.terms.connector, self.terms.stream, frame["_target_id"].to_list(), fields)
        taken = [row["_target_id"] for row in changes if row["_target_id"] is not None]
        rules = rules_of(self.terms.spec, self._target(fields))
        gone = plan_left(frame.unique("_target_id"), current, rules, taken).to_dicts()
        return [{**row, "_base": None, "_replaces": None, "_relink": False} for row in gone]

    def _write(self, changes: list[dict[str, Any]], fields: tuple[str, ...], links: Links) -> Iterator[pl.DataFrame]:
        terms = self.terms
        delivery = RowwiseDelivery(
            self.session, terms.spec, self.batch.plan_id, terms.connector, terms.stream, fields, False,
            settle=self._settle, patience=CLAIM_PATIENCE,
        )  # fmt: skip
        for op in ORDER:
            rows = [row for row in changes if row["_op"] == op]
            claimed_already = [row for row in rows if op is Op.CREATE or row[KEY] in links]
            yield from delivery.deliver_claimed(op, claimed_already)
            # found by its match values: the target record itself is not claimed yet
            yield from delivery.deliver_rows(op, [row for row in rows if op is not Op.CREATE and row[KEY] not in links])

    def _give_up(self) -> None:
        keys = {key: ("blocked", "it would delete more than max_deletes; the next run asks") for key in self._open}
        with self.session.database.connection() as connection:
            finish(connection, self.terms.worker, self.batch.sync, keys)
        self._open.clear()

    # -- what is settled -------------------------------------------------------------------------

    def _settle(self, settled: pl.DataFrame) -> None:
        self._settled(settled)

    def _settled(
        self,
        settled: pl.DataFrame,
        *,
        outcomes: bool = True,
        done: bool = True,
        last: bool = False,
    ) -> pl.DataFrame:
        """Outcomes, links, members and the events they answer: one transaction."""
        spec = self.terms.spec
        results: dict[str, tuple[str, str | None]] = {}
        for key, status, why in settled.select("source_key", "status", "reason").iter_rows():
            if key in self._open and done:
                if status in _AGAIN:
                    self.again[key] = why or status
                else:
                    results[key] = (status, why)
        if last:
            idle = [key for key in self._open if key not in self.again]
            results |= self._why_idle(idle)
        with self.session.database.connection() as connection:
            settle(
                connection, spec, settled, run_id=self.terms.run_of(spec.name), plan_id=self.batch.plan_id,
                lane="realtime", record_outcomes=outcomes,
            )  # fmt: skip
            if last and spec.dedupe:
                self._remember(connection)
            finish(connection, self.terms.worker, self.batch.sync, results)
        self._open -= set(results)
        return settled

    def _why_idle(self, keys: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Why records needed no write."""
        told: dict[str, tuple[str, str | None]] = dict.fromkeys(keys, ("unchanged", None))
        for key, why in self.judged.left.select(KEY, "_why").iter_rows():
            if key in told:
                told[key] = (
                    _IDLE[why] if why != "filter" else ("unmatched", f"outside the filter: {self.terms.spec.filter}")
                )
        return told | {key: ("superseded", SUPERSEDED) for key in keys if key in self._superseded}

    def _remember(self, connection: Any) -> None:
        """The dedupe key every record of the batch has now."""
        parts = [*self.desired] if self.invalid is None else [*self.desired, self.invalid]
        keyed = [part.select(source_key=KEY, dedupe_key=pl.col("_dedupe_key").cast(pl.String)) for part in parts]
        duplicates = self.judged.left.filter(pl.col("_why") == "duplicate")
        keyed.append(duplicates.select(source_key=KEY, dedupe_key="_dedupe_key"))
        remember_members(connection, self.terms.spec, keyed)
        gone = self.judged.left.filter(pl.col("_why") != "duplicate")[KEY].to_list()
        connection.execute(
            "DELETE FROM sync.members WHERE sync = %s AND source_key = ANY(%s)", (self.terms.spec.name, gone)
        )


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema=SETTLED)


def _frame(links: Links) -> pl.DataFrame:
    rows = [(key, one.target_id, one.base, one.cursor, one.read_at) for key, one in links.items()]
    return pl.DataFrame(rows, schema=LINKS, orient="row")


def _repeated(desired: Sequence[pl.DataFrame], spec: SyncSpec, folded: set[str]) -> pl.DataFrame:
    """The records that share their match values with another one of the batch: `_key`."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for part in desired if sum(part.height for part in desired) > 1 else ():
        names = [name for name in spec.match if name in part.columns]
        for key, *values in part.select(KEY, *names).iter_rows() if names else ():
            if any(value is None for value in values):
                continue
            texts = (str(value).strip() for value in values)
            told = tuple(text.lower() if name in folded else text for name, text in zip(names, texts, strict=True))
            seen.setdefault(told, []).append(key)
    shared = [key for keys in seen.values() if len(keys) > 1 for key in keys]
    return pl.DataFrame({KEY: shared}, schema={KEY: pl.String})
