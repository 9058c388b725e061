"""What Python says of a value is what pandera's own check says of it."""

from __future__ import annotations

import pandera.polars as pa
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.known_values import _pattern, _plainly, known_values

PATTERNS = [
    r"^[^@\s]+@[^@\s]+\.[^@\s.]+$",
    r"[A-Z]{2}\d{1,3}",
    r"^(?:\+|00)[0-9 /-]+$",
    r"a|^b$",
    r"(ab)+\w?\.?$",
    r"^\S*[\s.]\D\W",
    r"x{2,}y{,2}",
]
TEXTS = st.sampled_from(
    ["a@b.c", "a@b.c ", "AB12", "+49 30/1-2", "b", "b\n", "abab.", "xxyy", "é@x.y", "", " ", "ab_ .x-"]
) | st.text(st.characters(min_codepoint=0, max_codepoint=300), max_size=8)


class Texts(pa.DataFrameModel):
    """One column, several checks."""

    length: str = pa.Field(str_length={"min_value": 1, "max_value": 5})
    short: str = pa.Field(str_length={"max_value": 3})
    known: str = pa.Field(isin=["", "b", "AB12"])


@settings(deadline=None, max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_lengths_and_lists_of_values(values: list[str]) -> None:
    agree(Texts, values)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PATTERNS), st.lists(TEXTS, min_size=1, max_size=4))
def test_patterns(pattern: str, values: list[str]) -> None:
    model = type(
        "Matching", (pa.DataFrameModel,), {"__annotations__": {"text": str}, "text": pa.Field(str_matches=pattern)}
    )
    agree(model, values)


def agree(model: type[pa.DataFrameModel], values: list[str]) -> None:
    known = known_values(model)
    assert known is not None
    for name, checks in known.checks.items():
        for check in checks:
            plain = _plainly(check, values)
            if plain is not None:
                told = check(pl.LazyFrame({name: values}), name).check_passed.collect().item()
                assert plain == told, (name, check, values)


def test_what_rust_reads_otherwise_is_left_to_it() -> None:
    left = [
        r"\p{L}",
        r"(?i)abc",
        r"[[:alpha:]]",
        r"[a&&b]",
        r"\bw\b",
        r"a(?=b)",
        r"\x41",
        "é",
        r"[a--b]",
        "a++",
        "y{,2}",
    ]
    assert [pattern for pattern in left if _pattern(pattern) is not None] == []
    assert _pattern(PATTERNS[0]) is not None
