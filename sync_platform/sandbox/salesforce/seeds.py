"""Invented people as the records of each object."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from sync_platform.sandbox.kit import Fields, Person
from sync_platform.sandbox.salesforce.objects import (
    INDUSTRIES,
    LEAD_SOURCES,
    LEAD_STATUSES,
    RATINGS,
    REGIONS,
    STAGES,
    TAGS,
)

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

_REMARKS: Final = (
    None, None, None, 'Said "call me later", then hung up.', "Met at the fair, wants a quote; see notes\nfrom Monday.",
    "Ne pas rappeler avant l'été 🌞", "C:\\deals\\2026, tab\there",
)  # fmt: skip


def fields_of(org: SalesforceSimulator, stream: str, person: Person, rng: random.Random) -> Fields:
    """The stored fields of a seeded record."""
    makers = {"Lead": _lead, "Contact": _contact, "Account": _account, "Opportunity": _opportunity,
              "Campaign": _campaign, "User": _user}  # fmt: skip
    return makers[stream](org, person, rng)


def _lead(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    chance = rng.random()
    fields: Fields = {
        "LastName": person.last,
        "Company": person.company,
        "Email": person.email,
        "Phone": person.phone,
        "City": person.city,
        "Country": person.country,
        "Status": LEAD_STATUSES[int(chance * 1000) % 4],
        "LeadSource": LEAD_SOURCES[int(chance * 100) % 5],
        "Score__c": int(chance * 10_000) / 100,
    }
    if chance < 0.97:
        fields["FirstName"] = person.first
    if person.title:
        fields["Title"] = person.title
    if chance < 0.8:
        fields["Industry"] = INDUSTRIES[int(chance * 10_000) % 14]
        fields["NumberOfEmployees"] = 1 + int(chance * 5000)
    if chance < 0.7:
        fields["Region__c"] = REGIONS[int(chance * 50) % 3]
        fields["Rating"] = RATINGS[int(chance * 10) % 3]
    if chance < 0.5:
        fields["Website"] = f"https://www.{person.domain}"
        fields["AnnualRevenue"] = float(int(chance * 1e7))
    remark, tags = _REMARKS[int(chance * 700) % 7], int(chance * 9) % 4
    if remark:
        fields["Description"] = remark
    if tags:
        fields["Tags__c"] = ";".join(TAGS[:tags])
    return fields


def _contact(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    accounts = org.account_ids()
    return {
        "FirstName": person.first,
        "LastName": person.last,
        "Email": person.email,
        "Phone": person.phone,
        "Title": person.title or None,
        "AccountId": rng.choice(accounts) if accounts else None,
        "MailingCity": person.city,
        "MailingCountry": person.country,
        "LeadSource": rng.choice(LEAD_SOURCES),
        "Birthdate": f"{rng.randint(1950, 2004)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "Description": rng.choice(_REMARKS),
    }


def _account(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    return {
        "Name": person.company,
        "Phone": person.phone,
        "Website": f"https://www.{person.domain}",
        "Industry": rng.choice(INDUSTRIES),
        "BillingCity": person.city,
        "BillingCountry": person.country,
        "NumberOfEmployees": rng.randint(1, 9000),
        "AccountNumber": f"A-{person.number:07d}",
    }


def _opportunity(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    accounts = org.account_ids()
    return {
        "Name": f"{person.company}: {rng.choice(('renewal', 'first order', 'Upgrade – phase 2', 'pilot'))}",
        "AccountId": rng.choice(accounts) if accounts else None,
        "StageName": rng.choice(STAGES),
        "Amount": round(rng.uniform(100, 250_000), 2),
        "CloseDate": f"{rng.randint(2025, 2027)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "Probability": float(rng.randrange(0, 101, 10)),
        "LeadSource": rng.choice(LEAD_SOURCES),
    }


def _campaign(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    return {
        "Name": f"{person.company} {person.number}"[:80],
        "Type": rng.choice(("Conference", "Webinar", "Email")),
        "Status": "Planned",
        "IsActive": rng.random() < 0.5,
    }


def _user(org: SalesforceSimulator, person: Person, rng: random.Random) -> Fields:
    return {
        "Username": person.email,
        "FirstName": person.first,
        "LastName": person.last,
        "Email": person.email,
        "Alias": person.first[:8],
        "IsActive": True,
        "TimeZoneSidKey": "Europe/Berlin",
        "Title": person.title or None,
    }
