"""Rules over single rows answer what frames answer, or say that they do not know."""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.changeset import text_key_sql
from sync_platform.engine.hashing import hash_rows, hash_values
from sync_platform.engine.mapping import compile_mapping
from sync_platform.engine.row_rules import NotPlain, RowRules
from sync_platform.engine.spec import Constant, Dedupe, Endpoint, Expression, FieldRule, SyncSpec, ValueMap

SOURCE = pa.schema([("A", pa.string()), ("B", pa.string()), ("N", pa.int64()), ("T", pa.bool_())])
TARGET = pa.schema([("n", pa.int64()), ("t", pa.bool_()), *((f"f{number}", pa.string()) for number in range(5))])
TEXTS = st.none() | st.text(max_size=8) | st.sampled_from(["", " ", " Ada@X.org\t", "lead", "LEAD", "\x1c a \x0b", "İ"])
ROWS = st.fixed_dictionaries(
    {"A": TEXTS, "B": TEXTS, "N": st.none() | st.integers(-9, 2**62), "T": st.none() | st.booleans()}
)
EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "'x'", "''"]),
    lambda inner: st.one_of(
        st.builds("{}({})".format, st.sampled_from(["lower", "upper", "trim", "normalize_email"]), inner),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("nullif({}, {})".format, inner, inner),
        st.builds("({})".format, inner),
    ),
    max_leaves=4,
)
RULES: st.SearchStrategy[FieldRule] = st.one_of(
    EXPRESSIONS.map(lambda sql: Expression(sql=sql)),
    st.builds(
        ValueMap, source=EXPRESSIONS, values=st.just({"lead": "new", "": "empty"}),
        default=st.sampled_from([None, "open"]), has_default=st.booleans(),
    ),
    st.just(Constant(value="fixed")),
)  # fmt: skip


def a_sync(rules: list[FieldRule], by: str) -> SyncSpec:
    return SyncSpec(
        name="s",
        source=Endpoint(connection="a", object="A"),
        target=Endpoint(connection="b", object="B"),
        mapping={f"f{number}": rule for number, rule in enumerate(rules)}
        | {"n": Expression(sql="N"), "t": Expression(sql="T")},
        dedupe=Dedupe(by=by),
    )


@settings(deadline=None, max_examples=150)
@given(st.lists(RULES, min_size=1, max_size=5), EXPRESSIONS, st.lists(ROWS, min_size=1, max_size=5))
def test_a_row_is_mapped_as_a_frame_is(rules: list[FieldRule], by: str, rows: list[dict[str, Any]]) -> None:
    spec = a_sync(rules, by)
    mapping = compile_mapping(spec, SOURCE, TARGET)
    plain = RowRules.of(spec, mapping)
    assert plain is not None, "everything drawn here is plain"
    frame = pl.from_arrow(pa.Table.from_pylist(rows, schema=SOURCE))
    assert isinstance(frame, pl.DataFrame)
    frame = frame.with_columns(_key=pl.int_range(pl.len()).cast(pl.String))
    wanted = mapping.apply(frame).to_dicts()
    fields = plain.fields(frozenset(SOURCE.names))
    assert set(fields) == set(spec.mapping)
    for row, expected in zip(rows, wanted, strict=True):
        try:
            found = plain.mapped(row, fields)
        except NotPlain:
            assert expected["_unmapped"] or not "".join(filter(None, (row["A"], row["B"]))).isascii()
            continue
        assert found == {name: expected[name] for name in fields}
        assert expected["_unmapped"] is None


@settings(deadline=None, max_examples=150)
@given(EXPRESSIONS, st.lists(ROWS, min_size=1, max_size=5))
def test_a_dedupe_key_is_what_duckdb_says(by: str, rows: list[dict[str, Any]]) -> None:
    spec = a_sync([Constant(value="x")], by)
    plain = RowRules.of(spec, compile_mapping(spec, SOURCE, TARGET))
    assert plain is not None
    with duckdb.connect() as con:
        con.register("rows", pa.Table.from_pylist(rows, schema=SOURCE))
        wanted = con.execute(f"SELECT {text_key_sql(by, SOURCE.names, 'key')} FROM rows").fetchall()
    for row, (key,) in zip(rows, wanted, strict=True):
        try:
            assert plain.dedupe_key(row) == key
        except NotPlain:
            assert not "".join(filter(None, (row["A"], row["B"]))).isascii()


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_a_row_has_the_hash_it_has_in_a_frame(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={"A": pl.String, "B": pl.String, "N": pl.Int64, "T": pl.Boolean})
    assert [hash_values(row) for row in rows] == hash_rows(frame, list(frame.columns)).to_list()


def test_what_python_might_do_otherwise_is_left_to_the_frames() -> None:
    for sql in (
        "a || b",
        "substring(a, 1, 2)",
        "cast(n as varchar)",
        "case when a = 'x' then b end",
        "trim('x' from a)",
    ):
        spec = a_sync([Expression(sql=sql)], "a")
        assert RowRules.of(spec, compile_mapping(spec, SOURCE, TARGET)) is None, sql
    converted = SyncSpec(
        name="s", source=Endpoint(connection="a", object="A"), target=Endpoint(connection="b", object="B"),
        mapping={"n": Expression(sql="A")},
    )  # fmt: skip
    assert RowRules.of(converted, compile_mapping(converted, SOURCE, TARGET)) is None, "text for a number"
