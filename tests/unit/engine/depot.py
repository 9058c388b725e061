"""A transactional target in memory: a whole part and its marker are stored together, or neither is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.errors import TransientError, UnknownOutcome
from sync_platform.model import Op, Status
from tests.unit.engine.shelf import Fault, Killed, Shelf


class Depot(Shelf):
    """As the shelf, in bulk: `parts` notes every delivery that reached us, `refused` e-mails come back FAILED."""

    system: ClassVar[str] = "depot"

    _markers: dict[str, pa.Table] = PrivateAttr(default_factory=dict)
    _parts: list[tuple[str, list[str]]] = PrivateAttr(default_factory=list)

    @property
    def parts(self) -> list[tuple[str, list[str]]]:
        """(op, source keys) of every delivery."""
        return self._parts

    def write_bulk(self, stream: str, op: str, rows: pa.Table, delivery: str) -> pa.Table:
        """Stores the rows and the marker; what a marked delivery answered, again."""
        self._parts.append((op, rows["_key"].to_pylist()))
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.BUSY:
            raise TransientError("depot: busy", retry_after=0.0)
        if fault is Fault.REQUEST_LOST:
            raise UnknownOutcome("depot: no answer")
        if delivery not in self._markers:
            told = [self._one(op, row) for row in rows.to_pylist()]
            names = ("_key", "_target_id", "_status", "_field", "_reason")
            self._markers[delivery] = pa.table({n: pa.array([one[n] for one in told], pa.string()) for n in names})
        if fault is Fault.ANSWER_LOST:
            raise UnknownOutcome("depot: no answer")
        if fault is Fault.KILLED:
            raise Killed
        return self._markers[delivery]

    def delivered(self, stream: str, delivery: str) -> bool:
        """Whether that marker is there."""
        return delivery in self._markers

    def _one(self, op: str, row: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in row.items() if not name.startswith("_")}
        told = {"_key": row["_key"], "_target_id": row["_target_id"], "_field": None, "_reason": None}
        if fields.get("email") in self._refused:
            return {**told, "_status": str(Status.FAILED), "_field": "email", "_reason": "not welcome"}
        if op == Op.CREATE:
            told["_target_id"] = self.put(**fields)
        elif op == Op.UPDATE:
            self._rows[row["_target_id"]].update(fields)
        else:
            self._rows.pop(row["_target_id"], None)
        return {**told, "_status": str(Status.APPLIED)}


class CarefulDepot(Depot):
    """A depot that updates on the condition that records are as they were; `on_last_moment` runs just before, once."""

    _was: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _slip: Callable[[], object] | None = PrivateAttr(default=None)
    _unsure: bool = PrivateAttr(default=False)

    def be_unsure(self) -> None:
        """The next update finds none of the values to be what they were: they may be spelled in another way."""
        self._unsure = True

    def on_last_moment(self, act: Callable[[], object]) -> None:
        """What somebody else does just before the next update."""
        self._slip = act

    def updates_unmoved(self, stream: str) -> bool:
        """All of them."""
        return True

    def update_unmoved(self, stream: str, rows: pa.Table, was: pa.Table, delivery: str) -> pa.Table:
        """Stores the rows whose records hold what they held."""
        unsure, self._unsure = self._unsure, False
        slip, self._slip = self._slip, self._slip if unsure else None
        if slip is not None and not unsure:
            slip()
        if unsure:
            was = pa.table({name: pa.array(["?"] * was.num_rows) for name in was.column_names})
        self._was = dict(zip(rows["_key"].to_pylist(), was.to_pylist(), strict=True))
        try:
            return self.write_bulk(stream, Op.UPDATE, rows, delivery)
        finally:
            self._was = {}

    def _one(self, op: str, row: dict[str, Any]) -> dict[str, Any]:
        held, was = self._rows.get(row["_target_id"], {}), self._was.get(row["_key"], {})
        if any(held.get(name) != value for name, value in was.items()):
            told = {"_key": row["_key"], "_target_id": row["_target_id"], "_field": None, "_reason": "it moved"}
            return told | {"_status": str(Status.REFUSED)}
        return super()._one(op, row)
