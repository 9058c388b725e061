"""What `dg scaffold defs` writes for a new Source or Sync: a file that needs only names filled in."""

from __future__ import annotations

from dagster.components import Scaffolder, ScaffoldRequest

SOURCE = """\
type: sync_platform.Source
attributes:
  connection: salesforce          # a name from resources/
  streams:
    - object: Lead
"""

SYNC = """\
type: sync_platform.Sync
attributes:
  description: Say in one sentence what this keeps in step.
  source: {connection: salesforce, object: Lead}
  target: {connection: hubspot, object: contacts, match: [email]}
  mapping:                        # target field: SQL over source fields
    email: lower(trim(Email))
    firstname: FirstName
  dedupe: {by: lower(trim(Email)), keep: newest}
  frequency: on_demand            # or realtime, or a cron line
"""


class SourceScaffolder(Scaffolder):
    """Writes a Source's defs.yaml."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """Creates the folder and its defs.yaml."""
        _write(request, SOURCE)


class SyncScaffolder(Scaffolder):
    """Writes a Sync's defs.yaml."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """Creates the folder and its defs.yaml."""
        _write(request, SYNC)


def _write(request: ScaffoldRequest, text: str) -> None:
    request.target_path.mkdir(parents=True, exist_ok=True)
    (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")
