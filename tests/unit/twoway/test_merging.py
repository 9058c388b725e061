"""The merge of one record: null, empty and absent are three things, and each side has its own base."""

from __future__ import annotations

from typing import Any

import pytest

from sync_platform.engine.spec import TwoWay
from sync_platform.engine.twoway.merging import Both, Rule, Verdict, merge
from sync_platform.engine.twoway.pairing import Pair
from sync_platform.engine.twoway.values import Comparing

APART = Comparing(empty_is_null=False)
PHONE = Pair(name="phone", sources=("Phone",), targets=("phone",), reads_source=("Phone",), reads_target=("phone",))
DOMAIN = Pair(name="Domain", sources=("Domain",), targets=(), reads_source=(), reads_target=("email",))


def verdict(source: Any, target: Any, *, base: Any = "A", pair: Pair = PHONE, how: Comparing = APART) -> Verdict:
    """What is done with a field; `...` is absent."""
    ours = {} if source is ... else {"Phone": source}
    theirs = {} if target is ... else {"phone": target}
    both = Both(
        source=ours, target=theirs, forward={} if source is ... else {"phone": source},
        back={} if target is ... else {"Phone": target},
        base_source=None if base is ... else {"Phone": base}, base_target=None if base is ... else {"phone": base},
    )  # fmt: skip
    return merge([pair], both, Rule(two_way=TwoWay(conflicts="ask"), source=how, target=how)).verdicts[pair.name]


@pytest.mark.parametrize(
    ("source", "target", "base", "wanted"),
    [
        (None, "A", "A", Verdict.TO_TARGET),
        ("", "A", "A", Verdict.TO_TARGET),
        (..., "A", "A", Verdict.ABSENT),
        ("A", ..., "A", Verdict.ABSENT),
        ("", None, None, Verdict.TO_TARGET),
        (None, "", "", Verdict.TO_TARGET),
        (None, "", None, Verdict.TO_SOURCE),
        ("B", "C", "A", Verdict.CONFLICT),
        ("B", "B", "A", Verdict.SETTLE),
        ("B", "C", ..., Verdict.CONFLICT),
        ("B", None, ..., Verdict.TO_TARGET),
        ("", "C", ..., Verdict.TO_SOURCE),
    ],
)
def test_null_empty_and_absent_are_three_things(source: Any, target: Any, base: Any, wanted: Verdict) -> None:
    assert verdict(source, target, base=base) is wanted


def test_a_vendor_that_stores_empty_as_null_has_two_of_them() -> None:
    assert verdict("", None, base=None, how=Comparing()) is Verdict.NOTHING


def test_nothing_is_led_back_from_a_field_that_is_not_told() -> None:
    both = Both(source={"Domain": "x.org"}, target={}, forward={}, back={"Domain": None})
    merged = merge([DOMAIN], both, Rule(two_way=TwoWay()))
    assert (merged.verdicts, merged.to_source) == ({"Domain": Verdict.ABSENT}, {})


def test_each_side_is_compared_with_its_own_base_only() -> None:
    both = Both(
        source={"Phone": "030 1"}, target={"phone": "0301"}, forward={"phone": "030 1"}, back={"Phone": "0301"},
        base_source={"Phone": "030 1"}, base_target={"phone": "0301"}, source_stamp=9, target_stamp=1,
    )  # fmt: skip
    assert merge([PHONE], both, Rule(two_way=TwoWay())).verdicts == {"phone": Verdict.NOTHING}
