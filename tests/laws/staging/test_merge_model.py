"""The sieve and the merge against a dict that does the same by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.staging.lake import Lake
from sync_platform.staging.merge import adopt, describe, merge, next_seq
from sync_platform.staging.sieve import Sieve
from sync_platform.staging.tables import high_seq

KEYS = ("a", "b", "c")
FIELDS = {"Name": pa.string(), "Size": pa.int64()}


@dataclass
class Kept:
    """A record as the model keeps it."""

    values: dict[str, Any]
    version: tuple[int | None, int]  # cursor, start of the request
    deleted: bool = False


@dataclass
class Model:
    """What the staged table should hold."""

    records: dict[str, Kept] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def load(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        """One chunk: the best row of each key, then that row if it is not older and says something new."""
        self.changed = set()
        for key in KEYS:
            own = [row for row in rows if row["Id"] == key]
            if not own:
                continue
            ranks: list[tuple[int, int, int]] = []
            newest: int | None = None
            for number, row in enumerate(own):
                newest = row["At"] if newest is None else max(newest, row["At"] or newest)
                rank = newest if row["At"] is None else row["At"]
                ranks.append((-1 if rank is None else rank, row["read_at"], number))
            self._put(key, columns, own[max(ranks)[2]])

    def _put(self, key: str, columns: Sequence[str], row: dict[str, Any]) -> None:
        kept = self.records.get(key)
        values = {name: row[name] for name in columns}
        if kept is None:
            if not row["deleted"]:
                self.records[key] = Kept({"Name": None, "Size": None, **values}, (row["At"], row["read_at"]))
                self.changed.add(key)
            return
        cursor, read_at = kept.version
        tie = cursor is None or row["At"] is None or cursor == row["At"]
        if not (row["read_at"] >= read_at if tie else row["At"] > cursor):
            return
        # a column a tombstone brings counts for nothing, the cursor is one of the values of a live row
        after = kept.values if row["deleted"] else {**kept.values, **values}
        same = after == kept.values and (row["deleted"] or row["At"] == kept.values.get("At"))
        if same and kept.deleted == row["deleted"]:
            return
        known = [moment for moment in (cursor, row["At"]) if moment is not None]
        if not row["deleted"]:
            after = {**after, "At": row["At"]}
        self.records[key] = Kept(after, (max(known, default=None), row["read_at"]), row["deleted"])
        self.changed.add(key)

    def stage_at(self, rows: Sequence[dict[str, Any]]) -> None:
        """Remembers the cursor column of records that were new."""
        for kept in self.records.values():
            kept.values.setdefault("At", kept.version[0])


row = st.fixed_dictionaries(
    {
        "Id": st.sampled_from(KEYS),
        "At": st.one_of(st.none(), st.integers(0, 3)),
        "Name": st.sampled_from([None, "", "x", "y"]),
        "Size": st.sampled_from([None, 0, 1]),
        "read_at": st.integers(0, 4),
        "deleted": st.booleans(),
    }
)
chunk = st.tuples(st.sampled_from([("Name", "Size"), ("Name",), ("Size",), ()]), st.lists(row, min_size=1, max_size=6))


#: How landed rows are staged: as the file they are in where all are new, by a MERGE, or as an older release left them.
ADOPTED, OLDER = "adopted", "landed by an older release"
WAYS = (ADOPTED, "merged", OLDER)


def table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A chunk as `Chunks` makes them."""
    return pa.table(
        {
            "Id": pa.array([r["Id"] for r in rows], pa.string()),
            "At": pa.array([r["At"] for r in rows], pa.int64()),
            **{name: pa.array([r[name] for r in rows], FIELDS[name]) for name in columns},
            "_deleted": pa.array([r["deleted"] for r in rows]),
            "_read_at": pa.array([r["read_at"] for r in rows], pa.int64()),
            "_ord": pa.array(range(len(rows)), pa.int64()),
        }
    )


@settings(
    max_examples=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(chunks=st.lists(chunk, min_size=1, max_size=4), way=st.sampled_from(WAYS))
def test_the_merge_does_what_the_model_does(lake: Lake, chunks: list[Any], way: str) -> None:
    model = Model()
    landing, file = 'lake."landing_model".rows', lake.db.home.run / "model.parquet"
    with lake.connect() as con:
        con.execute("DROP SCHEMA IF EXISTS lake.model CASCADE")
        con.execute("CREATE SCHEMA IF NOT EXISTS lake.landing_model")
        for number, (columns, rows) in enumerate(chunks, start=1):
            seq = high_seq(con, "model", "T")
            model.load(columns, rows)
            model.stage_at(rows)
            chunk_table = table(columns, rows)
            with Sieve(con, chunk_table, describe(con, "model", "T"), ["Id"], "At") as sieve:
                written, _ = sieve.write([file], number, next_seq(lake))
            count = written[file]
            landed = "* EXCLUDE (_hash, _landed_hash), _landed_hash AS _hash" if way == OLDER else "* EXCLUDE (_hash)"
            con.execute(f"CREATE OR REPLACE TABLE {landing} AS SELECT {landed} FROM '{file}'")
            types = {f.name: f.type for f in chunk_table.schema if not f.name.startswith("_")}
            done = None
            if way == ADOPTED and count:
                done = adopt(lake, con, "model", "T", landing=landing, files=written, types=types)
            if done is None:
                done = merge(lake, con, "model", "T", landing=landing, chunk=number, types=types)
            assert done.changed + done.deleted == count == len(model.changed)
            if not model.records:
                continue
            staged = con.execute('SELECT * FROM lake.model."T" ORDER BY _key').to_arrow_table().to_pylist()
            assert [r["_key"] for r in staged] == sorted(model.records)
            for record in staged:
                kept = model.records[record["_key"]]
                assert {name: record.get(name) for name in ("Name", "Size", "At")} == kept.values
                assert (record["_deleted"], record["_cursor"], record["_read_at"]) == (kept.deleted, *kept.version)
                assert (record["_seq"] > seq) == (record["_key"] in model.changed)
            assert con.execute(f"SELECT count(*) FROM {landing}").fetchone() == (0,)
