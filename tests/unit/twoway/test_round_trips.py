"""Which two-way mappings come to rest: ten that loop are refused with a value, harmless look-alikes are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from sync_platform.engine.mapping_check import Problem
from sync_platform.engine.spec import Endpoint, Expression, FieldRule, SyncSpec, TwoWay, ValueMap
from sync_platform.engine.twoway.cycles import Step, loops
from sync_platform.engine.twoway.merging import Rule
from sync_platform.engine.twoway.pairing import pairing
from sync_platform.engine.twoway.roundtrip import round_trip_problems
from sync_platform.engine.twoway.values import Comparing
from sync_platform.model import Field, schema_of

TEXT, MONEY = pa.string(), pa.decimal128(38, 9)
MOMENT = pa.timestamp("us", tz="UTC")


def f(name: str, kind: pa.DataType = TEXT, **flags: Any) -> Field:
    """A field."""
    return Field(name=name, type=kind, **flags)


@dataclass(frozen=True)
class Setting:
    """One two-way mapping between two schemas; `value` is one that shows what goes wrong."""

    source: tuple[Field, ...]
    target: tuple[Field, ...]
    mapping: Mapping[str, FieldRule | str]
    back: Mapping[str, FieldRule | str | None] = field(default_factory=dict)
    value: object = None
    rows: pl.DataFrame | None = None


def _rules(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Expression(sql=rule) if isinstance(rule, str) else rule for name, rule in given.items()}


def problems(setting: Setting) -> list[Problem]:
    """What the check says of it."""
    spec = SyncSpec(
        name="s", source=Endpoint(connection="crm", object="A"), target=Endpoint(connection="hub", object="B"),
        mapping=_rules(setting.mapping), two_way=TwoWay(back=_rules(setting.back)),
    )  # fmt: skip
    found = pairing(spec, schema_of(setting.source), schema_of(setting.target))
    assert spec.two_way is not None
    folded = {one.name for one in setting.source if one.folded}
    return round_trip_problems(found, Rule(two_way=spec.two_way, source=Comparing(folded=folded)), source=setting.rows)


STAGES = {"New": "open", "Working": "open", "Closed": "done"}
LOOPS = {
    "phone format": Setting(
        (f("Phone"),), (f("phone"),), {"phone": "regexp_replace(Phone, '[^0-9+]', '', 'g')"}, {"Phone": "phone"}
    ),
    "rounding": Setting(
        (f("Amount", MONEY),), (f("amount", MONEY),), {"amount": "round(Amount, 0)"}, {"Amount": "amount"}
    ),
    "case": Setting((f("Name"),), (f("name"),), {"name": "upper(Name)"}, {"Name": "name"}),
    "time zone": Setting(
        (f("Start", MOMENT),), (f("start"),), {"start": "strftime(Start, '%Y-%m-%d %H:%M')"},
        {"Start": "strptime(start || ' +0200', '%Y-%m-%d %H:%M %z')"},
    ),
    "truncation": Setting((f("Note"),), (f("note"),), {"note": "left(Note, 40)"}, {"Note": "note"}),
    "default filling": Setting((f("Title"),), (f("title"),), {"title": "coalesce(Title, 'n/a')"}, {"Title": "title"}),
    "trimming": Setting((f("City"),), (f("city"),), {"city": "trim(City)"}, {"City": "city"}),
    "many-to-one picklist": Setting(
        (f("Stage", values=tuple(STAGES)),), (f("stage"),), {"stage": ValueMap(source="Stage", values=STAGES)},
        {"Stage": ValueMap(source="stage", values={"open": "New", "done": "Closed"})},
    ),
    "name split": Setting(
        (f("First"), f("Last")), (f("name"),), {"name": "First || ' ' || Last"},
        {"First": "split_part(name, ' ', 1)", "Last": "split_part(name, ' ', 2)"},
    ),
    "currency": Setting(
        (f("Price", MONEY),), (f("price", MONEY),), {"price": "round(Price * 1.08, 2)"},
        {"Price": "round(price / 1.08, 2)"},
    ),
}  # fmt: skip
HARMLESS = {
    "case where the system ignores it": Setting(
        (f("Email", folded=True),), (f("email"),), {"email": "lower(Email)"}, {"Email": "email"}
    ),
    "one-way normalisation": Setting(
        (f("Phone"),), (f("phone"),), {"phone": "regexp_replace(Phone, '[^0-9]', '', 'g')"}
    ),
    "a rename one way on purpose": Setting((f("Code"),), (f("code", pa.int64()),), {"code": "Code"}, {"Code": None}),
    "rounding of whole numbers": Setting(
        (f("Staff", pa.int64()),), (f("staff", pa.int64()),), {"staff": "round(Staff, 0)"}, {"Staff": "staff"}
    ),
    "truncation beyond the field's length": Setting(
        (f("Code", max_length=10),), (f("code"),), {"code": "left(Code, 40)"}, {"Code": "code"}
    ),
    "default that means empty": Setting(
        (f("Title"),), (f("title"),), {"title": "coalesce(Title, '')"}, {"Title": "title"}
    ),
    "trimming of a list without spaces": Setting(
        (f("Tier", values=("Gold", "Silver")),), (f("tier"),), {"tier": "trim(Tier)"}, {"Tier": "tier"}
    ),
    "one-to-one picklist": Setting(
        (f("Stage", values=("New", "Closed")),), (f("stage"),),
        {"stage": ValueMap(source="Stage", values={"New": "open", "Closed": "done"})},
    ),
    "join of lists without the separator": Setting(
        (f("Area", values=("North", "South")), f("Tier", values=("Gold", "Silver"))), (f("segment"),),
        {"segment": "coalesce(Area, '') || '-' || coalesce(Tier, '')"},
        {"Area": "split_part(segment, '-', 1)", "Tier": "split_part(segment, '-', 2)"},
    ),
    "a date as text": Setting(
        (f("Born", pa.date32()),), (f("born"),), {"born": "strftime(Born, '%Y-%m-%d')"}, {"Born": "born"}
    ),
    "a shifted number": Setting(
        (f("Score", pa.int64()),), (f("score", pa.int64()),), {"score": "Score + 100"}, {"Score": "score - 100"}
    ),
    "true as text": Setting(
        (f("Agreed", pa.bool_()),), (f("agreed"),),
        {"agreed": "CASE WHEN Agreed THEN 'yes' WHEN NOT Agreed THEN 'no' END"},
        {"Agreed": "CASE agreed WHEN 'yes' THEN TRUE WHEN 'no' THEN FALSE END"},
    ),
    "a time as text in UTC": Setting((f("Start", MOMENT),), (f("start"),), {"start": "Start"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_looping_mapping_is_refused_with_a_value_that_shows_it(name: str) -> None:
    [problem] = problems(LOOPS[name])
    assert problem.field in {one.name for one in LOOPS[name].source}
    assert problem.value != ""
    assert "comes back as" in problem.message
    assert "one-way" in problem.mend


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_look_alike_is_accepted(name: str) -> None:
    assert problems(HARMLESS[name]) == []


def test_there_are_ten_of_each() -> None:
    assert (len(LOOPS), len(HARMLESS) >= 10) == (10, True)


def test_a_value_only_the_real_records_hold_is_found() -> None:
    swapped = {"code": "replace(Code, 'QX', 'XQ')"}
    setting = Setting((f("Code"),), (f("code"),), swapped, {"Code": "code"})
    assert problems(setting) == []
    found = problems(
        Setting(setting.source, setting.target, swapped, setting.back, rows=pl.DataFrame({"Code": ["aQXb"]}))
    )
    assert [(one.field, one.value) for one in found] == [("Code", "'aQXb'")]


def test_a_plain_rename_into_a_field_that_cannot_hold_it_is_refused() -> None:
    [problem] = problems(Setting((f("Code"),), (f("code", pa.int64()),), {"code": "Code"}))
    assert problem.field == "Code"


def _step(sync: str, origin: str, end: str, mapping: Mapping[str, str], fields: str) -> Step:
    from sync_platform.engine.mapping import compile_mapping

    spec = SyncSpec(
        name=sync, source=Endpoint(connection=origin, object="o"), target=Endpoint(connection=end, object="o"),
        mapping=_rules(mapping),
    )  # fmt: skip
    return Step(sync=sync, origin=origin, end=end, mapping=compile_mapping(spec, schema_of(tuple(map(f, fields)))))


@pytest.mark.parametrize(
    ("second", "looping"), [("b", False), ("upper(b)", True), ("b || '!'", True), ("reverse(reverse(b))", False)]
)
def test_a_cycle_over_three_syncs_is_tried_like_one_mapping(second: str, looping: bool) -> None:
    steps = [
        _step("one", "A", "B", {"b": "a"}, "a"),
        _step("two", "B", "C", {"c": second}, "b"),
        _step("three", "C", "A", {"a": "c"}, "c"),
    ]
    schemas = {name: schema_of((f(name.lower()),)) for name in "ABC"}
    found = loops(steps, schemas, {name: Comparing() for name in "ABC"})
    assert bool(found) is looping
    assert len(found) <= 1


def test_a_way_round_that_writes_another_field_is_no_cycle() -> None:
    steps = [_step("one", "A", "B", {"b": "upper(a)"}, "a"), _step("two", "B", "A", {"copy": "b"}, "b")]
    schemas = {"A": schema_of((f("a"), f("copy"))), "B": schema_of((f("b"),))}
    assert loops(steps, schemas, {name: Comparing() for name in "AB"}) == []
