"""Mappings: rules, types, what is set aside, and what `check` finds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from sync_platform.engine.expressions import parse
from sync_platform.engine.mapping import CompiledMapping, compile_mapping
from sync_platform.engine.spec import Constant, Endpoint, Expression, FieldRule, Lookup, SyncSpec, Transform, ValueMap
from sync_platform.errors import ConfigError
from sync_platform.model import Field, schema_of

SOURCE = pa.schema(
    [
        ("Id", pa.string()),
        ("FirstName", pa.string()),
        ("LastName", pa.string()),
        ("Email", pa.string()),
        ("Status", pa.string()),
        ("Amount", pa.decimal128(12, 2)),
        ("Rating", pa.float64()),
        ("Created", pa.timestamp("us", "UTC")),
        ("Day", pa.date32()),
        ("Active", pa.bool_()),
        ("Count", pa.int64()),
        ("Odd Name", pa.string()),
        ("Tags", pa.list_(pa.string())),
    ]
)
TARGET = schema_of(
    (
        Field(name="email", type=pa.string(), required=True, folded=True),
        Field(name="name", type=pa.string(), max_length=5),
        Field(name="stage", type=pa.string(), values=("lead", "customer")),
        Field(name="count", type=pa.int64()),
        Field(name="amount", type=pa.decimal128(10, 1)),
        Field(name="when", type=pa.timestamp("ms", "UTC")),
        Field(name="day", type=pa.date32()),
        Field(name="active", type=pa.bool_()),
        Field(name="score", type=pa.float64()),
        Field(name="created_at", type=pa.string(), readonly=True),
    )
)
ROW: dict[str, Any] = {
    "Id": "1",
    "FirstName": " Élodie ",
    "LastName": "Martin",
    "Email": " E@X.org",
    "Status": "Open",
    "Amount": Decimal("12.50"),
    "Rating": 1e21,
    "Created": dt.datetime(2026, 1, 1, 23, 30, 0, 123456, tzinfo=dt.UTC),
    "Day": dt.date(2026, 1, 2),
    "Active": True,
    "Count": 7,
    "Odd Name": "x",
    "Tags": ["a"],
}


def compiled(rules: Mapping[str, FieldRule], zone: str = "UTC", load: Any = None, **more: Any) -> CompiledMapping:
    spec = SyncSpec(
        name="s",
        source=Endpoint(connection="crm", object="Lead"),
        target=Endpoint(connection="hub", object="contacts"),
        mapping=rules,
        timezone=zone,
        **more,
    )
    return compile_mapping(spec, SOURCE, TARGET, **({"load": load} if load else {}))


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = dict(zip(SOURCE.names, pl.from_arrow(SOURCE.empty_table()).schema.values(), strict=True))
    return pl.DataFrame([{**ROW, **r} for r in rows], schema=schema).with_columns(
        _key=pl.Series([str(n) for n in range(len(rows))])
    )


def value(rule: str | FieldRule, to: str = "name", **row: Any) -> Any:
    mapping = compiled({to: Expression(sql=rule) if isinstance(rule, str) else rule})
    out = mapping.apply(frame(row))
    assert out["_unmapped"].to_list() == [None], out["_unmapped"].to_list()
    return out[to][0]


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("lower(trim(email))", "e@x.org"),
        ("FirstName || LastName", " Élodie Martin"),
        ("concat(LastName, '-', Status)", "Martin-Open"),
        ("concat_ws(' ', LastName, nullif('', ''), Status)", "Martin Open"),
        ("coalesce(nullif(Status, 'Open'), 'none')", "none"),
        ("CASE WHEN Count > 5 THEN 'many' ELSE 'few' END", "many"),
        ("substring(LastName, 1, 3)", "Mar"),
        ("replace(LastName, 'M', 'm')", "martin"),
        ("regexp_replace(LastName, '[aeiou]', '', 'g')", "Mrtn"),
        ("split_part(Email, '@', 2)", "X.org"),
        ("upper(left(LastName, 1)) || substr(LastName, 2)", "Martin"),
        ("CAST(Count AS VARCHAR)", "7"),
        ("Count::varchar || 'x'", "7x"),
        ("TRY_CAST(LastName AS INTEGER)", None),
        ("strftime(CAST('2026-02-01T23:30:00-05:00' || left(Status, 0) AS TIMESTAMPTZ), '%d %H:%M')", "02 04:30"),
        ("coalesce(TRY_CAST(LastName AS DATE), CAST(Created AS DATE))", "2026-01-01"),
        ("CASE WHEN Status = 'Closed' THEN CAST(LastName AS DATE) END", None),
        ("CAST(CASE WHEN CAST(left(Status, 0) || 'yes' AS BOOLEAN) THEN '2026-03-04' END AS DATE)", "2026-03-04"),
        ("CAST(CAST('7:05' || left(Status, 0) AS TIME) AS VARCHAR)", "07:05:00"),
        ('"Odd Name"', "x"),
        ("'it''s'", "it's"),
        ("normalize_name(FirstName)", "elodie"),
        ("normalize_email(Email)", "e@x.org"),
        ("normalize_phone('+49 (30) 1-2')", "493012"),
        ("strftime(Day, '%d.%m.%Y')", "02.01.2026"),
        ("Amount", "12.5"),
        ("Rating", "1000000000000000000000"),
        ("Created", "2026-01-01T23:30:00.123Z"),
        ("Day", "2026-01-02"),
        ("Active", "true"),
        ("Count", "7"),
    ],
)
def test_expressions_give_canonical_text(sql: str, wanted: str | None) -> None:
    assert value(sql) == wanted


@pytest.mark.parametrize(
    "name", ["comment", "show", "set", "load", "begin", "call", "explain", "analyze", "use", "copy"]
)
def test_a_field_may_be_called_like_a_statement(name: str) -> None:
    assert parse(name, None, what="mapping").fields == (name,)
    assert parse(f"lower({name}) || '-' -- as it was", None, what="mapping").fields == (name,)


def test_null_and_empty_stay_two_things() -> None:
    assert value("LastName", LastName=None) is None
    assert value("LastName", LastName="") == ""


def test_values_take_the_targets_type() -> None:
    assert value("Amount * 2", "amount") == Decimal("25.0")
    assert value("LastName", "count", LastName=" 42 ") == 42
    assert value("LastName", "active", LastName="Yes") is True
    assert value("LastName", "when", LastName="2026-01-01T10:00:00+02:00") == dt.datetime(2026, 1, 1, 8, tzinfo=dt.UTC)
    assert value("Day", "when") == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def test_an_instant_becomes_the_day_it_is_in_the_syncs_zone() -> None:
    berlin = compiled({"day": Expression(sql="Created")}, zone="Europe/Berlin")
    assert berlin.apply(frame({}))["day"][0] == dt.date(2026, 1, 2)
    assert value("Created", "day") == dt.date(2026, 1, 1)


@pytest.mark.parametrize(
    ("sql", "to", "row", "reason"),
    [
        ("LastName", "count", {"LastName": "many"}, "count 'many' is not a whole number"),
        ("LastName", "count", {"LastName": ""}, "count '' is not a whole number"),
        ("Rating", "count", {"Rating": 1.5}, "count '1.5' is not a whole number"),
        ("Rating", "name", {"Rating": float("nan")}, "name '' is not a finite number"),
        (
            "Amount",
            "amount",
            {"Amount": Decimal("1.25")},
            "amount '1.25' is not a number with at most 9 digits before and 1 after the point",
        ),
        ("Status", "when", {"Status": "31.12.2026"}, "when '31.12.2026' is not a date and time"),
        ("CAST(LastName AS INT) + 1", "count", {"LastName": "x"}, "count 'x' cannot be computed as the mapping says"),
        (
            "CAST(Status AS DATE)",
            "day",
            {"Status": "31.12.26"},
            "day '31.12.26' cannot be computed as the mapping says",
        ),
        (
            "date_part('year', CAST(Status AS DATE))",
            "count",
            {"Status": "x"},
            "count 'x' cannot be computed as the mapping says",
        ),
        (
            "CAST(CAST(LastName AS BOOLEAN) AS INT)",
            "count",
            {"LastName": "perhaps"},
            "count 'perhaps' cannot be computed as the mapping says",
        ),
    ],
)
def test_what_cannot_be_converted_sets_its_record_aside(sql: str, to: str, row: dict[str, Any], reason: str) -> None:
    out = compiled({to: Expression(sql=sql)}).apply(
        frame(row, {"LastName": "1", "Rating": 2.0, "Amount": 1, "Status": "2026-12-31"})
    )
    assert [one["reason"] for one in out["_unmapped"][0]] == [reason]
    assert out[to][0] is None
    assert out["_unmapped"][1] is None
    assert out[to][1] is not None


def test_a_cast_in_a_branch_that_is_not_taken_does_no_harm() -> None:
    sql = "CASE WHEN regexp_like(LastName, '^[0-9]+$') THEN CAST(LastName AS INT) ELSE 0 END"
    out = compiled({"count": Expression(sql=sql)}).apply(frame({"LastName": "x"}, {"LastName": "5"}))
    assert out["count"].to_list() == [0, 5]
    assert out["_unmapped"].to_list() == [None, None]


def test_one_record_that_breaks_an_expression_does_not_stop_the_rest() -> None:
    mapping = compiled({"day": Expression(sql="strptime(LastName, '%Y-%m-%d')"), "name": Expression(sql="Status")})
    out = mapping.apply(frame({"LastName": "2026-01-05"}, {"LastName": "never"}, {"LastName": None}))
    assert out["day"].to_list() == [dt.date(2026, 1, 5), None, None]
    assert out["name"].to_list() == ["Open"] * 3
    assert [bool(x) for x in out["_unmapped"].to_list()] == [False, True, False]


def test_a_value_map_is_exact_and_says_what_it_lacks() -> None:
    table = {"Open": "lead", "Won": "customer", "Lost": None}
    rows = [{"Status": s} for s in ("Open", "Won", "Lost", "open", None)]
    strict = compiled({"stage": ValueMap(source="Status", values=table)}).apply(frame(*rows))
    assert strict["stage"].to_list() == ["lead", "customer", None, None, None]
    assert [one and one[0]["value"] for one in strict["_unmapped"].to_list()] == [None, None, None, "open", None]
    lenient = compiled({"stage": ValueMap(source="Status", values=table, default="lead", has_default=True)})
    assert lenient.apply(frame(*rows))["stage"].to_list() == ["lead", "customer", None, "lead", "lead"]


def test_a_lookup_joins_by_the_keys_text_and_gives_null_for_an_unknown_key() -> None:
    rule = Lookup(connection="crm", object="User", on="Count", key="Id", value="Name")
    mapping = compiled({"name": rule})
    rows = frame({"Count": 1}, {"Count": 2}, {"Count": None})
    assert mapping.lookup_keys("name", rows).sort("key")["key"].to_list() == ["1", "2"]
    found = pl.DataFrame({"key": ["1", "1", "9"], "value": ["B", "A", "C"]})
    assert mapping.apply(rows, {"name": found})["name"].to_list() == ["A", None, None]
    with pytest.raises(ConfigError, match="no rows to look in"):
        mapping.apply(rows)


def test_a_transform_is_a_python_function_over_expressions() -> None:
    functions = {"t.join": lambda a, b: pl.concat_str(a, b, separator="/"), "t.bad": lambda a: "text"}
    rule = Transform(function="t.join", arguments=("lower(LastName)", "Status"))
    assert compiled({"name": rule}, load=functions.__getitem__).apply(frame({}))["name"][0] == "martin/Open"
    bad = compiled({"name": Transform(function="t.bad", arguments=("Status",))}, load=functions.__getitem__)
    with pytest.raises(ConfigError, match="not a polars expression"):
        bad.apply(frame({}))
    missing = compiled({"name": Transform(function="no.such.function", arguments=())})
    assert "no.such.function" in missing.check()[0].message


def test_a_field_whose_columns_are_absent_is_absent_not_null() -> None:
    mapping = compiled(
        {"email": Expression(sql="Email"), "name": Expression(sql="LastName"), "stage": Constant(value="lead")}
    )
    out = mapping.apply(frame({}).drop("LastName"))
    assert out.columns == ["_key", "email", "stage", "_unmapped"]
    assert mapping.absent(["Id", "Email"]) == ("name",)


def test_technical_columns_are_carried_and_order_is_kept() -> None:
    rows = frame({"LastName": "b"}, {"LastName": "a"}).with_columns(
        _cursor=pl.lit(1), _read_at=pl.lit(2), _changed=pl.lit(True), _dedupe_key=pl.lit("d"), _seq=pl.lit(9)
    )
    out = compiled({"name": Expression(sql="LastName")}).apply(rows)
    assert out.columns == ["_key", "_cursor", "_read_at", "_dedupe_key", "_changed", "name", "_unmapped"]
    assert out["name"].to_list() == ["b", "a"]


def test_an_empty_frame_gives_an_empty_frame_of_the_same_types() -> None:
    mapping = compiled({"count": Expression(sql="LastName"), "name": Constant(value=1)})
    assert mapping.apply(frame({}).clear()).schema == mapping.apply(frame({"LastName": "1"})).schema


def test_lineage_names_the_source_fields() -> None:
    mapping = compiled({"name": Expression(sql="firstname || LASTNAME"), "stage": Constant(value="lead")})
    assert mapping.lineage() == {"name": ["FirstName", "LastName"], "stage": []}
    assert mapping.required == ()


@pytest.mark.parametrize(
    ("name", "rule", "message", "mend"),
    [
        ("emial", Expression(sql="Email"), "has no field emial", "did you mean email?"),
        ("Email", Expression(sql="Email"), "has no field Email", "write email"),
        ("name", Expression(sql="Frstname"), "has no field Frstname", "did you mean FirstName?"),
        ("created_at", Expression(sql="Created"), "read-only", "remove it"),
        ("count", Expression(sql="Created"), "gives a date and time", "convert it"),
        ("name", Expression(sql="Tags"), "gives List", "convert it"),
        ("stage", Constant(value="leed"), "not one of the allowed values", "did you mean lead?"),
        ("stage", ValueMap(source="Status", values={"a": "x"}), "not one of the allowed values", "lead"),
        ("count", Constant(value="many"), "not a whole number", "whole number"),
        ("name", Constant(value="much too long"), "too long", "at most 5"),
        ("name", Expression(sql="lower("), "not SQL", "quotes, brackets"),
        ("name", Expression(sql="to_char(Created, 'YYYY')"), "cannot work", "strftime"),
        ("name", Expression(sql="sdx(Email)"), "cannot work", "functions there are"),
        ("name", Expression(sql="max(Email)"), "several records", "one record"),
        ("name", Expression(sql="(SELECT 1)"), "a query", "lookup"),
        ("name", Expression(sql="SELECT 1"), "a query", "lookup"),
        ("name", Expression(sql="Email, Status"), "not a SQL expression", ""),
        ("name", Expression(sql="Email) || (Status"), "not a SQL expression", ""),
    ],
)
def test_check_finds_the_mistake_and_says_what_to_do(name: str, rule: FieldRule, message: str, mend: str) -> None:
    mapping = compiled({"email": Expression(sql="Email"), name: rule} if name != "email" else {name: rule})
    problems = mapping.check()
    assert [p for p in problems if message in p.message and mend in p.mend and p.field == name], problems


def test_check_finds_missing_required_match_and_repeated_fields() -> None:
    lacking = compiled({"name": Expression(sql="LastName")}, match=("email",)).check()
    assert [p.field for p in lacking] == ["email", "email"]
    twice = compiled({"email": Expression(sql="Email"), "EMAIL": Expression(sql="Email")}).check()
    assert any("the same target field" in p.message for p in twice)
    assert compiled({"email": Expression(sql="Email")}, match=("email",)).check() == []


def test_applying_a_mapping_with_a_mistake_names_the_field() -> None:
    with pytest.raises(ConfigError) as refused:
        compiled({"name": Expression(sql="nosuch(Email)")}).apply(frame({}))
    assert refused.value.field == "name"
