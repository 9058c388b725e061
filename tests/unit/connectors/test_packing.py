"""Outcomes beside a marker: whatever they are, they come back as they were."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sync_platform.connectors.packing import packed, unpacked
from sync_platform.connectors.sql import OUTCOMES, all_applied

TEXTS = st.sampled_from(["1", "2", "applied", "failed", "", "ä\x00"])
ROWS = st.lists(st.tuples(TEXTS, *[st.none() | TEXTS] * 4), max_size=5)


def as_table(rows: list[tuple[str | None, ...]]) -> pa.Table:
    return pa.table([list(values) for values in zip(*rows, strict=True)] or [[]] * 5, schema=OUTCOMES)


@given(ROWS)
def test_outcomes_come_back_as_they_were(rows: list[tuple[str | None, ...]]) -> None:
    wanted = as_table(rows)
    found = unpacked(packed(wanted))
    assert found.schema == OUTCOMES
    assert found.to_pylist() == wanted.to_pylist()


def test_a_part_whose_rows_were_all_written_takes_little_room() -> None:
    rows = pa.table({"_key": [str(n) for n in range(10_000)]})
    assert len(packed(all_applied(rows, rows["_key"]))) < 8 * 10_000


def test_outcomes_recorded_by_an_older_release_are_read() -> None:
    wanted, sink = as_table([("1", "t1", "applied", None, None)]), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, OUTCOMES, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(wanted)
    assert unpacked(bytes(sink.getvalue())).equals(wanted)
