"""`doctor`: looks at everything a sync needs and says, for each thing that is wrong, the mend."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_platform.commands.checking_capture import capture_looks
from sync_platform.errors import SyncError
from sync_platform.home import Home

if TYPE_CHECKING:
    from sync_platform.project import Project

LITTLE_DISK = 1 << 30

Finding = dict[str, Any]


def examine(project: Project) -> list[Finding]:
    """One finding per thing looked at: `{"what", "ok", "told", "mend"}`."""
    findings = [_look("disk", _disk), _look("state", _state), _look("lake", _lake)]
    try:
        names = sorted(project.connectors)
    except SyncError as error:
        return [*findings, {"what": "resources", "ok": False, "told": error.message, "mend": error.mend}]
    findings += [_look(f"connection {name}", partial(_connection, project, name)) for name in names]
    try:
        looks = capture_looks(project)
    except SyncError:  # the state is away, which is among the findings
        return findings
    return findings + [_look(what, how) for what, how in looks]


def _look(what: str, how: Callable[[], str]) -> Finding:
    try:
        return {"what": what, "ok": True, "told": how(), "mend": None}
    except SyncError as error:
        return {"what": what, "ok": False, "told": error.message, "mend": error.mend}


def _disk() -> str:
    from sync_platform.errors import AccessError

    home = Home.current().create()
    free = shutil.disk_usage(home.root).free
    if free < LITTLE_DISK:
        raise AccessError(f"only {free >> 20} MiB are free at {home.root}", mend="free some space")
    return f"{free >> 30} GiB free"


def _state() -> str:
    from sync_platform.state.database import open_state

    with open_state().connection() as connection:
        row = connection.execute("SELECT split_part(version(), ' on ', 1)").fetchone()
    return str(row[0]) if row else ""


def _lake() -> str:
    from sync_platform.staging.lake import Lake
    from sync_platform.state.database import open_state

    with Lake(open_state()).connect() as con:
        row = con.execute("SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake'").fetchone()
    return f"{row[0] if row else 0} tables"


def _connection(project: Project, name: str) -> str:
    from sync_platform.errors import AccessError
    from sync_platform.session import Session

    with Session.open(project) as session:
        health = session.connector(name).check()
    if not health.ok:
        raise AccessError("; ".join(health.problems), mend="grant what is missing, then run doctor again")
    return f"{health.account} (API {health.api_version})"


def show_findings(findings: list[Finding]) -> None:
    """Prints one line per finding."""
    for one in findings:
        print(f"{'ok   ' if one['ok'] else 'WRONG'} {one['what']}: {one['told']}")
        if one["mend"]:
            print(f"      mend: {one['mend']}")
