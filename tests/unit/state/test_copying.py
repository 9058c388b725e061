"""Frames by COPY: every value arrives as it was, nulls and documents among them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.ledger.copying import copy_in, fetched
from sync_platform.state.database import Database

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(["\\N", '"', "\n"])
SCHEMA = {"text": pl.String, "number": pl.Int64, "score": pl.Float64, "told": pl.String}
ROWS = st.lists(
    st.tuples(
        st.none() | TEXT,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.dictionaries(TEXT, TEXT, max_size=2).map(json.dumps),
    ),
    max_size=6,
)


def copied(state: Database, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    with state.connection() as connection:
        connection.execute(
            "CREATE TEMP TABLE copied (place bigint GENERATED ALWAYS AS IDENTITY, text text, number bigint, "
            "score double precision, told jsonb, kept text DEFAULT 'kept') ON COMMIT DROP"
        )
        copy_in(connection, "copied", frame, documents=["told"])
        return connection.execute("SELECT text, number, score, told, kept FROM copied ORDER BY place").fetchall()


@settings(max_examples=60)
@given(ROWS)
def test_what_is_copied_in_is_there_as_it_was(state: Database, rows: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    wanted = [(*row[:3], None if row[3] is None else json.loads(row[3]), "kept") for row in rows]
    assert copied(state, frame) == wanted


@pytest.mark.parametrize("nulls", [0, 1])
def test_more_rows_than_are_sent_at_a_time_arrive_in_their_order(state: Database, nulls: int) -> None:
    many = 45_000
    texts = [None if nulls and n % 3 == 0 else f"key {n}" for n in range(many)]
    frame = pl.DataFrame({"text": texts, "number": range(many)})
    assert [row[:2] for row in copied(state, frame)] == list(zip(texts, range(many), strict=True))


def test_a_column_of_nothing_is_null(state: Database) -> None:
    frame = pl.DataFrame({"number": [1, 2]}).with_columns(text=pl.lit(None))
    assert [row[:2] for row in copied(state, frame)] == [(None, 1), (None, 2)]


def test_what_was_copied_is_fetched_as_a_frame(state: Database) -> None:
    frame = pl.DataFrame({"text": ["a", None, "c"], "number": [1, 2, None]})
    with state.connection() as connection:
        connection.execute("CREATE TEMP TABLE copied (text text, number bigint) ON COMMIT DROP")
        copy_in(connection, "copied", frame)
        query = "SELECT text, number FROM copied WHERE text IS DISTINCT FROM %(without)s"
        found = fetched(connection, query, {"without": "c"}, {"text": pl.String, "number": pl.Int64})
    assert found.equals(frame.head(2))
