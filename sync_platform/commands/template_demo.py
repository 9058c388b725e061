"""`demo --template`: a template on a laptop with no account: the sandbox, an embedded PostgreSQL, a private MariaDB."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sync_platform.commands.demo import fresh, run_once, stop_state
from sync_platform.commands.output import Output
from sync_platform.commands.scaffold import write_project
from sync_platform.commands.templates import Template, from_template, template
from sync_platform.errors import SyncError
from sync_platform.home import Home

if TYPE_CHECKING:
    from sync_platform.state.database import Database

CONTACTS: Final = 60  # of HubSpot, where it is the source
PATIENCE: Final = 120.0  # until an edit of a followed table is delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the demo happens."""

    home: Home
    project: Path
    environment: Mapping[str, str]
    control: Any
    wanted: Template

    def sql(self, connection: str, kind: str = "") -> int:
        """Executes a template's statements at a connection; the rows the last one touched."""
        done = 0
        statements = self.wanted.statements(connection, kind)
        if statements and connection == "postgres":
            import psycopg

            with psycopg.connect(self.environment["POSTGRES_URL"], autocommit=True) as db:
                for statement in statements:
                    done = db.execute(statement.encode()).rowcount
        elif statements:
            import pymysql

            from sync_platform.connectors.mysql.address import parse

            login = parse(self.environment["MYSQL_URL"]).login
            with pymysql.connect(**login, charset="utf8mb4", autocommit=True) as wire, wire.cursor() as cursor:
                cursor.execute("SET time_zone = '+00:00'")
                for statement in statements:
                    done = cursor.execute(statement)
        return done


def run_template_demo(output: Output, name: str) -> None:
    """Runs a template twice, and once more after an edit; raises SyncError where a report is not what was done."""
    wanted = template(name)
    home = Home(Home.current().root / f"demo-{name}")
    fresh(home.root)
    output.say(f"demo: state in {home.root}")
    try:
        with _place(home, wanted) as place:
            source = wanted.connections[0]
            for connection in dict.fromkeys(wanted.connections):
                place.sql(connection)
            rows = place.sql(source, "example")
            if source == "hubspot":
                body = {"system": "hubspot", "stream": "contacts", "count": CONTACTS, "options": {}}
                rows = len(place.control.post("seed", body)["ids"])
            output.say(f"demo: {rows} records at {wanted.attributes['source']['object']} of {source}; first run ...")
            first = run_once(place.environment, wanted.sync)
            output.say("demo: second run ...")
            second = run_once(place.environment, wanted.sync)
            seconds, third = _edited(output, place)
            document = {
                "template": name, "rows": rows, "first": first, "second": second, "edited": third,
                "seconds_to_target": seconds, "violations": place.control.get("violations")["violations"],
            }  # fmt: skip
        wrong = _compare(document)
        output.show(document, lambda: _show(document))
        if wrong:
            raise SyncError("the demo's report is not what was done: " + "; ".join(wrong))
    finally:
        stop_state(home.root)


@contextlib.contextmanager
def _place(home: Home, wanted: Template) -> Iterator[Place]:
    """A project with the template, its databases and the sandbox."""
    from sync_platform.commands.local_mariadb import LocalMariaDB
    from sync_platform.project import Project
    from sync_platform.sandbox.server import SandboxProcess, env_lines
    from sync_platform.state import server

    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(SandboxProcess())
        variables = dict(line.split("=", 1) for line in env_lines(sandbox.port))
        if "postgres" in wanted.connections:
            import psycopg

            url = server.ensure_running(home)
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("CREATE DATABASE example")
            variables["POSTGRES_URL"] = f"{url.rsplit('/', 1)[0]}/example"
        if "mysql" in wanted.connections:
            mariadb = stack.enter_context(LocalMariaDB())
            variables["MYSQL_URL"] = mariadb.create("example")
        project = home.create().root / "project"
        write_project(project)
        from_template(Project(project), wanted.name)
        yield Place(
            home=home,
            project=project,
            environment={**os.environ, **variables, "SYNC_HOME": str(home.root), "SYNC_PROJECT": str(project)},
            control=sandbox.control,
            wanted=wanted,
        )


def _edited(output: Output, place: Place) -> tuple[float | None, dict[str, Any] | None]:
    """What a person does next: seconds until a followed table's edit was delivered, or the run that delivers it."""
    source = place.wanted.connections[0]
    if not place.wanted.statements(source, "edit"):
        return None, None
    if place.wanted.attributes["frequency"] != "realtime":
        place.sql(source, "edit")
        output.say("demo: one record was edited; third run ...")
        return None, run_once(place.environment, place.wanted.sync)
    output.say("demo: the log is followed; one record is edited ...")
    with _process(place, "capture"), _process(place, "worker"), _state(place) as database:
        logs = len(set(place.wanted.connections)) if place.wanted.attributes.get("direction") == "two_way" else 1
        _until(lambda: _answer(database, _FOLLOWED) >= logs)
        run_once(place.environment, place.wanted.sync)  # what happened before it was followed is compared
        before = _answer(database, _DELIVERED)
        begun = time.monotonic()
        place.sql(source, "edit")
        _until(lambda: _answer(database, _DELIVERED) > before)
        return round(time.monotonic() - begun, 3), None


_FOLLOWED: Final = "SELECT count(*) FROM sync.captures WHERE state = 'following'"
_DELIVERED: Final = "SELECT count(*) FROM sync.queue WHERE outcome IS NOT NULL"


def _answer(database: Database, query: str) -> int:
    with database.connection() as connection:
        row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def _until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SyncError(f"the edit was not delivered within {PATIENCE:.0f} s", mend="see the logs of the demo")
        time.sleep(0.02)


@contextlib.contextmanager
def _state(place: Place) -> Iterator[Database]:
    from sync_platform.state.database import open_state

    database = open_state(place.home)
    try:
        yield database
    finally:
        database.close()


@contextlib.contextmanager
def _process(place: Place, command: str) -> Iterator[None]:
    """A command of ours that runs for the length of the block; its words go to a file of the demo's."""
    with (place.home.logs / f"{command}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sync_platform.cli", command], env=dict(place.environment), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _compare(document: dict[str, Any]) -> list[str]:
    """Sentences about every number that is not what was done."""
    first, second = document["first"]["sync_summary"], document["second"]["sync_summary"]
    expected = {
        "created by the first run": (first["created"], document["rows"]),
        "failed in the first run": (first["failed_transfers"], 0),
        "written by the second run": (sum(second[name] for name in ("created", "updated", "deleted")), 0),
        "requests the vendor would refuse": (len(document["violations"]), 0),
    }
    if document["edited"] is not None:
        expected["updated after the edit"] = (document["edited"]["sync_summary"]["updated"], 1)
    return [f"{name}: {got}, expected {wanted}" for name, (got, wanted) in expected.items() if got != wanted]


def _show(document: dict[str, Any]) -> None:
    from sync_platform.commands.report_page import show_report

    show_report(document["first"])
    print(f"Second run: {document['second']['sync_summary']['records_processed']} processed, nothing written.")
    if document["edited"] is not None:
        print(f"After an edit: {document['edited']['sync_summary']['updated']} updated.")
    if document["seconds_to_target"] is not None:
        print(
            f"An edit of the followed table was at the target after {document['seconds_to_target']} s, without a run."
        )
    print(f"\nNext: sync-platform new --template {document['template']} in a project of your own.")
