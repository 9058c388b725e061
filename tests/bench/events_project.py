"""The project of the events bench: three connections and the syncs a row asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.project_files import lay_out

#: The field that every edit of the bench changes, by source stream.
EDITED = {"hubspot/contacts": "company", "salesforce/Lead": "Company"}
_RESOURCES = '''\
"""The simulated vendors and the database of the bench."""

from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.postgres import Postgres
from sync_platform.connectors.salesforce import Salesforce

salesforce = Salesforce(
    base_url=EnvVar("SALESFORCE_BASE_URL"),
    client_id=EnvVar("SALESFORCE_CLIENT_ID"),
    client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
    webhook_secret=EnvVar("SALESFORCE_WEBHOOK_SECRET"),
)
hubspot = HubSpot(
    base_url=EnvVar("HUBSPOT_BASE_URL"),
    access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"),
    client_secret=EnvVar("HUBSPOT_CLIENT_SECRET"),{unpaced}
)
warehouse = Postgres(url=EnvVar("BENCH_TARGET_URL"))
'''
_UNPACED = "\n    calls_per_10_seconds=1_000_000,"
_CHECKS = '''\
"""What a person must be, whatever the system calls its fields."""

import pandera.polars as pa

ADDRESS = r"^[^@\\s]+@[^@\\s]+\\.[^@\\s.]+$"


class Contact(pa.DataFrameModel):
    """A HubSpot contact or a row of the warehouse."""

    email: str = pa.Field(str_matches=ADDRESS)
    company: str = pa.Field(str_length={"min_value": 1, "max_value": 255})


class Lead(pa.DataFrameModel):
    """A Salesforce lead."""

    Email: str = pa.Field(str_matches=ADDRESS)
    Company: str = pa.Field(str_length={"min_value": 1, "max_value": 255})
'''
_HUBSPOT_TO_SALESFORCE = """\
  mapping:
    FirstName: firstname
    LastName: lastname
    Email: lower(trim(email))
    Company: company
    Status:
      from: lifecyclestage
      values: {lead: Open - Not Contacted, customer: Closed - Converted, other: Closed - Not Converted}
      default: Working - Contacted
  dedupe: {by: lower(trim(email)), keep: newest}
  contract: checks.people.Lead
"""
_HUBSPOT_TO_WAREHOUSE = """\
  mapping:
    email: lower(trim(email))
    first_name: firstname
    last_name: lastname
    company: company
    stage: {from: lifecyclestage, values: {lead: new, customer: won, other: lost}, default: open}
  dedupe: {by: lower(trim(email)), keep: newest}
  contract: checks.people.Contact
"""
_SALESFORCE_TO_WAREHOUSE = """\
  mapping:
    email: lower(trim(Email))
    first_name: FirstName
    last_name: LastName
    company: Company
    stage: {from: Status, values: {Open - Not Contacted: new, Closed - Converted: won}, default: open}
  dedupe: {by: lower(trim(Email)), keep: newest}
  contract: checks.people.Contact
"""
_SALESFORCE_TO_HUBSPOT = """\
  mapping:
    firstname: FirstName
    lastname: LastName
    email: lower(trim(Email))
    company: Company
    lifecyclestage: {from: Status, values: {Open - Not Contacted: lead, Closed - Converted: customer}, default: lead}
  dedupe: {by: lower(trim(Email)), keep: newest}
  contract: checks.people.Contact
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One realtime sync: from a stream to a target, with the target's field that shows an edit."""

    name: str
    source: str  # connection/object
    target: str  # connection/object
    match: str
    shown: str
    rules: str
    mode: str = "upsert"

    @property
    def yaml(self) -> str:
        """Its `defs.yaml`."""
        (source, stream), (target, table) = self.source.split("/"), self.target.split("/")
        match = f", match: [{self.match}]" if self.match else ""
        return (
            "type: sync_platform.Sync\nattributes:\n"
            f"  source: {{connection: {source}, object: {stream}}}\n"
            f"  target: {{connection: {target}, object: {table}{match}}}\n"
            f"  mode: {self.mode}\n  first_sync: create\n{self.rules}  frequency: realtime\n"
        )


def _feed(name: str, source: str, target: str, match: str, shown: str, rules: str) -> Feed:
    return Feed(name=name, source=source, target=target, match=match, shown=shown, rules=rules)


HUBSPOT_TO_SALESFORCE = _feed(
    "contacts_to_leads", "hubspot/contacts", "salesforce/Lead", "Email", "Company", _HUBSPOT_TO_SALESFORCE
)
HUBSPOT_TO_WAREHOUSE = _feed(
    "contacts_to_people", "hubspot/contacts", "warehouse/people", "email", "company", _HUBSPOT_TO_WAREHOUSE
)
SALESFORCE_TO_WAREHOUSE = _feed(
    "leads_to_people", "salesforce/Lead", "warehouse/people", "email", "company", _SALESFORCE_TO_WAREHOUSE
)
SALESFORCE_TO_HUBSPOT = _feed(
    "leads_to_contacts", "salesforce/Lead", "hubspot/contacts", "email", "company", _SALESFORCE_TO_HUBSPOT
)


def twenty() -> list[Feed]:
    """Twenty syncs of HubSpot's contacts: six into Salesforce, three into HubSpot, eleven into PostgreSQL."""
    return list(_twenty())


def _twenty() -> Iterator[Feed]:
    def simple(name: str, target: str, match: str, shown: str, /, **fields: str) -> Feed:
        rules = "  mapping:\n" + "".join(f"    {field}: {rule}\n" for field, rule in fields.items())
        return _feed(name, "hubspot/contacts", target, match, shown, rules)

    yield HUBSPOT_TO_SALESFORCE
    titles = simple("to_lead_titles", "salesforce/Lead", "Email", "Title", Email="lower(trim(email))", Title="company")
    yield replace(titles, mode="update")
    yield simple("to_contacts", "salesforce/Contact", "Email", "Department", Email="lower(trim(email))",
                 LastName="lastname", Department="company")  # fmt: skip
    yield replace(titles, name="to_contact_titles", target="salesforce/Contact", mode="update")
    yield simple("to_accounts", "salesforce/Account", "Ext__c", "Name", Ext__c="id", Name="company")
    yield simple("to_campaigns", "salesforce/Campaign", "Ext__c", "Name", Ext__c="id", Name="company")
    yield simple("to_companies", "hubspot/companies", "domain", "name", domain="concat('c', id, '.example.com')",
                 name="company")  # fmt: skip
    yield simple("to_deals", "hubspot/deals", "", "dealname", dealname="company", dealstage="{constant: closedwon}",
                 pipeline="{constant: default}")  # fmt: skip
    yield simple("to_tickets", "hubspot/tickets", "", "subject", subject="company", hs_pipeline="{constant: '0'}",
                 hs_pipeline_stage="{constant: '1'}")  # fmt: skip
    yield HUBSPOT_TO_WAREHOUSE
    for number in range(2, 12):
        yield simple(f"to_people_{number}", f"warehouse/people_{number}", "email", "company",
                     email="lower(trim(email))", last_name="lastname", company="company")  # fmt: skip


def write_project(folder: Path, feeds: Sequence[Feed]) -> None:
    """The project with these syncs; HubSpot's limit is not kept until `pace` says so."""
    files = {
        "checks/people.py": _CHECKS,
    }
    files |= {f"assets/{feed.name}/defs.yaml": feed.yaml for feed in feeds}
    lay_out(folder, files)
    pace(folder, kept=False)


def pace(folder: Path, *, kept: bool) -> None:
    """Whether the HubSpot connection keeps the account's limit (as it does by default) or is told there is none."""
    text = _RESOURCES.format(unpaced="" if kept else _UNPACED)
    (folder / "resources/systems.py").write_text(text, encoding="utf-8")


def tables(feeds: Sequence[Feed]) -> list[str]:
    """The warehouse's tables that these syncs write."""
    return [feed.target.partition("/")[2] for feed in feeds if feed.target.startswith("warehouse/")]


#: Every write of the bench leaves a line in `writes`: which table, which value, when.
DDL = """
CREATE TABLE IF NOT EXISTS writes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, target text NOT NULL, value text,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE OR REPLACE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.written_at := clock_timestamp();
    INSERT INTO writes (target, value, at) VALUES (TG_TABLE_NAME, NEW.company, NEW.written_at);
    RETURN NEW;
END $$;
CREATE TABLE {name} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE NOT NULL, first_name text, last_name text,
    company text, stage text, written_at timestamptz);
CREATE TRIGGER told BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION told();
"""
