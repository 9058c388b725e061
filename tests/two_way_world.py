"""The example of docs/two-way.md as an installed project: Salesforce contacts and HubSpot contacts both ways."""

from __future__ import annotations

import re
import shutil
from typing import Any, Final

from tests.docs.two_way_tables import PAGE
from tests.world import SYNC as REFERENCE
from tests.world import World

SYNC: Final = "contacts_both_ways"
#: Salesforce field -> HubSpot property of the example; the last one is one-way there.
FIELDS: Final = {"Email": "email", "FirstName": "firstname", "LastName": "lastname", "Phone": "phone"}


def example() -> str:
    """The page's first example."""
    found = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def install(world: World, *changes: tuple[str, str]) -> None:
    """Makes the example the only sync of the project, with texts replaced."""
    text = example()
    for old, new in (
        ("  source: {connection: salesforce", "  first_sync: create\n  source: {connection: salesforce"),
        *changes,
    ):
        assert old in text, old
        text = text.replace(old, new)
    shutil.rmtree(world.project / "assets" / REFERENCE, ignore_errors=True)
    folder = world.project / "assets" / SYNC
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(text)


def contact(number: int) -> dict[str, Any]:
    """A contact as Salesforce has it."""
    return {"LastName": f"L{number}", "FirstName": f"F{number}", "Email": f"p{number}@x.org", "Phone": f"{number}"}


def disagreements(world: World) -> list[str]:
    """Contacts of one side that the other lacks or holds otherwise."""
    ours = {one["fields"]["Email"]: one["fields"] for one in world.records("salesforce/Contact")}
    theirs = {one["fields"]["email"]: one["fields"] for one in world.records("hubspot/contacts")}
    wrong = [f"{email} is on one side only" for email in ours.keys() ^ theirs.keys()]
    for email in ours.keys() & theirs.keys():
        for name, there in FIELDS.items():
            if (ours[email].get(name) or None) != (theirs[email].get(there) or None):
                wrong.append(f"{email}.{name}: {ours[email].get(name)!r} and {theirs[email].get(there)!r}")
    doubled = (
        len(world.records("salesforce/Contact")) - len(ours) + len(world.records("hubspot/contacts")) - len(theirs)
    )
    return wrong + (["a contact is there twice"] if doubled else [])
