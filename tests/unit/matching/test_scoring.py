"""What is compared, what that says, and which class it makes."""

from __future__ import annotations

import polars as pl
import pytest

from sync_platform.engine.spec import Matching
from sync_platform.matching.classes import Likeness, alike, classify
from sync_platform.matching.forms import fields_of, kind_of, latin

FIELDS = ("email", "firstname", "lastname", "phone", "city")
LIKENESS = Likeness(on=("email",), folded=frozenset({"email"}), matching=Matching(fields=fields_of(FIELDS)))
ANN = ("ann.hallberg@mail.example", "Elizabeth", "Hallberg", "+49 151 2345678", "Bonn")


def frame(id: str, *rows: tuple[str | None, ...]) -> pl.DataFrame:
    named = [{id: f"{id[1]}{at}", **dict(zip(FIELDS, row, strict=True))} for at, row in enumerate(rows)]
    return pl.DataFrame(named, schema={id: pl.String, **dict.fromkeys(FIELDS, pl.String)})


def classes(source: list[tuple[str | None, ...]], target: list[tuple[str | None, ...]]) -> list[tuple[str, str | None]]:
    found = classify(frame("_key", *source), frame("_target_id", *target), LIKENESS)
    return [(row["class"], row["_target_id"]) for row in found.sort("_key", "_target_id").iter_rows(named=True)]


def test_equal_match_fields_are_exact_however_they_are_written() -> None:
    assert classes([ANN], [(f" {ANN[0].upper()} ", *ANN[1:])]) == [("exact", "t0")]


def test_a_key_that_two_records_share_is_for_a_person() -> None:
    assert classes([ANN, ANN], [ANN]) == [("ambiguous", "t0"), ("ambiguous", "t0")]
    assert classes([ANN], [ANN, ANN]) == [("ambiguous", "t0"), ("ambiguous", "t1")]


def test_a_couple_with_one_mailbox_is_not_exact() -> None:
    assert classes([ANN], [(ANN[0], "Thomas", *ANN[2:])]) == [("ambiguous", "t0")]


@pytest.mark.parametrize(
    "other",
    [
        ("liz@web.example", "Liz", "Hallberg", "01512345678", "Bonn"),  # nickname, new address, national number
        (None, "ELIZABETH", "Halberg", "+49 151 2345678", None),  # a typing error
        ("ann.halberg@mail.example", "Elizabeth", "Hallberg", None, "Bonn"),
        (None, "Hallberg", "Elizabeth", "+49 151 2345678", "Bonn"),  # names exchanged
    ],
)
def test_the_same_person_in_other_words_is_likely(other: tuple[str | None, ...]) -> None:
    assert classes([ANN], [other]) == [("likely", "t0")]


def test_names_and_addresses_that_differ_by_a_letter_are_for_a_person() -> None:
    other = ("ann.halberg@mail.example", "Elizabeth", "Halberg", "+49 170 7654321", "Bonn")
    assert classes([ANN], [other]) == [("ambiguous", "t0")]


def test_a_name_in_another_script_is_the_same_name() -> None:
    person = ("ivan@mail.example", "Иван", "Петров", "+49 151 2345678", "Wien")
    assert classes([person], [("other@web.example", "Ivan", "Petrov", "01512345678", "Wien")]) == [("likely", "t0")]
    assert (latin("Søren Guðmundsdóttir"), latin("  --  ")) == ("soren gudmundsdottir", "")


def test_a_twin_is_for_a_person_until_the_other_twin_is_found() -> None:
    twin = ("eve.hallberg@mail.example", "Eve", *ANN[2:])
    assert classes([ANN], [twin]) == [("ambiguous", "t0")]
    assert classes([ANN, twin], [twin]) == [("unmatched", None), ("exact", "t0")]


def test_a_namesake_without_anything_else_in_common_is_another() -> None:
    other = ("e.h@web.example", "Elizabeth", "Smith", "+49 170 7654321", "Oslo")
    assert classes([("a@mail.example", "Elizabeth", "Smith", *ANN[3:])], [other]) == [("unmatched", None)]


def test_what_was_rejected_is_not_proposed_again() -> None:
    refused = pl.DataFrame({"_key": ["k0"], "_target_id": ["t0"]})
    found = classify(frame("_key", ANN), frame("_target_id", ANN), LIKENESS, refused)
    assert found.select("class", "_target_id").rows() == [("unmatched", None)]


def test_nothing_to_compare_is_no_match_and_no_error() -> None:
    nobody = (None,) * 5
    assert classes([nobody, ANN], [nobody]) == [("unmatched", None), ("unmatched", None)]
    assert classes([], [ANN]) == []
    assert classes([ANN], []) == [("unmatched", None)]


def test_the_evidence_says_what_each_field_says() -> None:
    pairs = alike(
        frame("_key", ANN), frame("_target_id", ("x@y.example", "Liz", "Halberg", "01512345678", None)), LIKENESS
    )
    assert pairs["_evidence"].to_list() == [
        "email different (ann.hallberg@mail.example / x@y.example); firstname nickname (elizabeth / liz); "
        "lastname close (hallberg / halberg); phone equal"
    ]


def test_a_score_does_not_depend_on_the_order_of_the_records() -> None:
    rows = [ANN, ("liz@web.example", "Liz", "Hallberg", "01512345678", "Bonn"), ("b@x.example", "Bob", *ANN[2:])]
    one = alike(frame("_key", *rows), frame("_target_id", *rows), LIKENESS).sort("_key", "_target_id")
    turned = frame("_key", *rows)[::-1], frame("_target_id", *rows)[::-1]
    assert one.equals(alike(*turned, LIKENESS).sort("_key", "_target_id"))


def test_companies_are_matched_by_their_names_and_telephones() -> None:
    likeness = Likeness(
        on=("domain",), folded=frozenset(), matching=Matching(fields=fields_of(("domain", "name", "phone")))
    )
    source = pl.DataFrame(
        {"_key": ["s"], "domain": [None], "name": ["Müller & Söhne GmbH"], "phone": ["0221 2345678"]},
        schema_overrides={"domain": pl.String},
    )
    target = pl.DataFrame(
        {
            "_target_id": ["t"],
            "domain": ["mueller.example"],
            "name": ["Muller & Sohne GMBH"],
            "phone": ["+49 221 2345678"],
        }
    )
    assert classify(source, target, likeness)["class"].to_list() == ["likely"]


def test_a_fields_kind_is_told_by_its_name() -> None:
    names = ("Email", "hs_additional_emails", "MobilePhone", "FirstName", "company", "city", "Fax")
    assert [kind_of(name) for name in names] == ["email", "email", "phone", "name", "name", "text", "phone"]
