"""A sandbox, a project and an installation of its own, driven through the command line as a user drives it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_platform.sandbox.server import SandboxProcess, env_lines
from tests.forked_commands import Answer, ran

ROOT = Path(__file__).resolve().parent.parent
SYNC = "salesforce_leads_to_hubspot_contacts"
STAGES = {
    "Open - Not Contacted": "lead",
    "Working - Contacted": "marketingqualifiedlead",
    "Closed - Converted": "customer",
    "Closed - Not Converted": "other",
}


@dataclass
class World:
    """One installation (its own database and home) beside one sandbox."""

    sandbox: SandboxProcess = field(repr=False)
    home: Path
    database_url: str = field(repr=False)
    project: Path = ROOT
    extra: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def control(self) -> Any:
        """The sandbox's control API."""
        return self.sandbox.control

    def environment(self, **more: str) -> dict[str, str]:
        """The variables a command of this installation runs with."""
        variables = dict(line.split("=", 1) for line in env_lines(self.sandbox.port))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "DAGSTER_"))}
        return {
            **kept,
            **variables,
            "SYNC_HOME": str(self.home),
            "SYNC_DATABASE_URL": self.database_url,
            "SYNC_PROJECT": str(self.project),
            **self.extra,
            **more,
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Starts a command in a session of its own, without waiting."""
        return subprocess.Popen(
            [sys.executable, "-m", "sync_platform.cli", *arguments],
            env=self.environment(**more),
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def cli(self, *arguments: str, seconds: float = 240, **more: str) -> Answer:
        """Runs a command to its end."""
        return ran(arguments, self.environment(**more), self.project, seconds=seconds)

    def run(self, sync: str = SYNC, *, seconds: float = 240, **more: str) -> Answer:
        """`run --json`."""
        return self.cli("run", sync, "--json", seconds=seconds, **more)

    def seed_leads(self, count: int, **options: Any) -> list[str]:
        """Seeds leads; returns their ids."""
        body = {"system": "salesforce", "stream": "Lead", "count": count, "options": options}
        ids: list[str] = self.control.post("seed", body)["ids"]
        return ids

    def records(self, stream: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        """All records of a sandbox stream, e.g. hubspot/contacts."""
        suffix = "?deleted=include" if deleted else ""
        found: list[dict[str, Any]] = self.control.get(f"records/{stream}{suffix}")["records"]
        return found

    def edit(self, stream: str, *changes: dict[str, Any]) -> list[str]:
        """Edits or adds records as a person in the vendor's UI."""
        ids: list[str] = self.control.post(f"records/{stream}", list(changes))["ids"]
        return ids

    def spoil(self, old: str, new: str) -> Path:
        """Replaces a text of the reference sync's defs.yaml; returns the file."""
        file = self.project / "assets" / SYNC / "defs.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        return file

    def mark(self) -> int:
        """The log's last sequence number."""
        requests = self.control.get("log")["requests"]
        return int(requests[-1]["seq"]) if requests else 0

    def requests(self, since: int = 0, system: str | None = None) -> list[dict[str, Any]]:
        """The sandbox's log after a mark."""
        query = f"log?since={since}" + (f"&system={system}" if system else "")
        found: list[dict[str, Any]] = self.control.get(query)["requests"]
        return found

    def written(self, since: int = 0, system: str = "hubspot") -> list[dict[str, Any]]:
        """The applied record effects after a mark."""
        return [
            effect
            for request in self.requests(since, system)
            for effect in request["records"]
            if effect["applied"] and effect["op"] != "noop"
        ]

    def violations(self) -> list[Any]:
        """What the vendors would have refused."""
        found: list[Any] = self.control.get("violations")["violations"]
        return found

    def disagreements(self) -> list[str]:
        """Mapped fields of the target that differ from their newest source, and contacts nobody wants."""
        wanted = wanted_contacts(self.records("salesforce/Lead"))
        held: dict[str, dict[str, Any]] = {}
        wrong = []
        for contact in self.records("hubspot/contacts"):
            email = contact["fields"].get("email")
            if email in held:
                wrong.append(f"{email} is there twice")
            held[email] = contact["fields"]
        for email, fields in wanted.items():
            if email not in held:
                wrong.append(f"{email} is missing")
                continue
            for name, value in fields.items():
                if (held[email].get(name) or None) != (value or None):
                    wrong.append(f"{email}.{name} is {held[email].get(name)!r}, wanted {value!r}")
        return wrong + [f"{email} is in the target only" for email in held if email not in wanted]


def wanted_contacts(leads: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The contacts the reference sync must make of these leads: an independent reading of its defs.yaml."""
    newest: dict[str, tuple[Any, dict[str, Any]]] = {}
    for lead in leads:
        fields = lead["fields"]
        email = (fields.get("Email") or "").strip().lower()
        if not email:
            continue
        rank = (fields.get("SystemModstamp") or lead["updated_at"], lead["id"])
        if email not in newest or rank > newest[email][0]:
            newest[email] = (rank, fields)
    return {
        email: {
            "email": email,
            "firstname": fields.get("FirstName"),
            "lastname": fields.get("LastName"),
            "company": fields.get("Company"),
            "lifecyclestage": STAGES.get(fields.get("Status") or "", "lead"),
        }
        for email, (_, fields) in newest.items()
    }
