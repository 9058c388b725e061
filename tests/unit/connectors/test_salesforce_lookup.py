"""Look-ups in Salesforce, by id and by field."""

from __future__ import annotations

import pytest
from salesforce_account import Account, soql

from sync_platform.errors import ConfigError


def test_get_returns_live_records_and_leaves_out_what_is_gone(account: Account) -> None:
    keys = [account.org.lead(number, number, Email=f"{number}@example.com") for number in range(700)]
    account.org.rows[keys[3]]["IsDeleted"] = True
    table = account.connector.get("Lead", [*keys, "00Q000000999999AAA"], ["Email"])
    assert set(table.column_names) == {"Id", "Email"}
    assert set(table["Id"].to_pylist()) == set(keys) - {keys[3]}


def test_find_escapes_its_values_and_ignores_case(account: Account) -> None:
    nasty = 'o\'brien\\ "x"\n@example.com'
    account.org.lead(1, 1, Email=nasty, FirstName="Pat")
    account.org.lead(2, 2, Email="OTHER@example.com", FirstName="Sam")
    table = account.connector.find("Lead", "Email", [nasty, "other@example.com", "none@example.com"], ["FirstName"])
    assert sorted(table["FirstName"].to_pylist()) == ["Pat", "Sam"]
    assert account.connector.find("Lead", "Email", [], ["FirstName"]).num_rows == 0


def test_find_by_many_long_values_keeps_every_address_short(account: Account) -> None:
    values = [f"{number}-{'x' * 120}@example.com" for number in range(400)]
    for number, value in enumerate(values):
        account.org.lead(number, number, Email=value)
    assert account.connector.find("Lead", "Email", values, []).num_rows == 400
    assert max(len(one) for one in soql(account.server)) < 14_000
    assert len(soql(account.server)) > 3


def test_find_by_a_number_or_an_unfilterable_field(account: Account) -> None:
    account.org.lead(1, 1, Staff=7)
    assert account.connector.find("Lead", "Staff", ["7", "not a number"], []).num_rows == 1
    with pytest.raises(ConfigError, match="Notes"):
        account.connector.find("Lead", "Notes", ["x"], [])
