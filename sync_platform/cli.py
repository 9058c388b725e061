"""The command line. Every command takes `--json`; heavy imports happen inside the command that needs them.

Exit codes: 0 done, 1 finished with failed, held or refused records, 2 found wrong before anything was
sent, 3 a system refused us or could not be reached, 4 blocked by a guard, 70 a bug.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_platform.commands.output import Output, table
from sync_platform.errors import ConfigError, SyncError

if TYPE_CHECKING:
    from sync_platform.project import Project

app = typer.Typer(
    name="sync-platform",
    help="Keeps the records of many systems in step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dead = typer.Typer(help="Records set aside: list them, try them again, give them up.", no_args_is_help=True)
app.add_typer(dead, name="dead")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ProjectDir = Annotated[Path | None, typer.Option("--project", help="Another project's folder.", show_default=False)]
SyncName = Annotated[str, typer.Argument(metavar="SYNC", help="The sync's name.")]


@contextmanager
def answering(json: bool) -> Iterator[Output]:
    """An Output whose block's errors become a sentence and an exit code."""
    output = Output(json)
    try:
        yield output
    except SyncError as error:
        output.fail(error)


def _project(folder: Path | None) -> Project:
    from sync_platform.project import PROJECT_VARIABLE, Project

    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder", field="--project", value=str(folder))
        os.environ[PROJECT_VARIABLE] = str(folder.resolve())
    project = Project.current()
    project.load_environment()
    return project


@app.callback()
def options(project: ProjectDir = None) -> None:
    """Keeps the records of many systems in step."""
    if project is not None:
        os.environ["SYNC_PROJECT"] = str(project.resolve())


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    from sync_platform import __version__

    Output(json).show({"version": __version__}, lambda: print(__version__))


@app.command()
def check(project: ProjectDir = None, json: Json = False) -> None:
    """Find what is wrong with the project before anything runs: YAML, fields, types, owners, credentials."""
    with answering(json) as output:
        from sync_platform.commands.checking import check_project, show_problems

        found = check_project(_project(project))
        output.show(found, lambda: show_problems(found))
        raise SystemExit(0 if found["ok"] else 2)


@app.command()
def plan(
    sync: SyncName,
    out: Annotated[Path | None, typer.Option("--out", help="Write the exact plan to this file.")] = None,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Show exactly what a run would change; nothing is sent and no position moves."""
    with answering(json) as output:
        from sync_platform.commands.planning import make_document, show_plan

        document = make_document(_project(project), sync)
        if out is not None:
            import orjson

            out.write_bytes(orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2) + b"\n")
        output.show(document, lambda: show_plan(document, out))


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan written by `plan --out`.")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Write exactly a plan; a target that moved since is refused and named, not overwritten."""
    with answering(json) as output:
        from sync_platform.commands.planning import apply_file

        _finish(output, apply_file(_project(project), file))


@app.command()
def run(sync: SyncName, project: ProjectDir = None, json: Json = False) -> None:
    """Run a sync once: load, map, plan, deliver; then print its report."""
    with answering(json) as output:
        from sync_platform.commands.planning import run_sync

        _finish(output, run_sync(_project(project), sync))


def _finish(output: Output, report: dict[str, Any]) -> None:
    from sync_platform.commands.planning import exit_code_of
    from sync_platform.commands.report_page import show_report

    output.show(report, lambda: show_report(report))
    raise SystemExit(exit_code_of(report))


@app.command()
def report(
    sync: SyncName,
    run_id: Annotated[str | None, typer.Option("--run", help="The report of this run instead of the last.")] = None,
    json: Json = False,
) -> None:
    """Print the report of a sync's last run."""
    with answering(json) as output:
        from sync_platform.commands.report_page import show_report
        from sync_platform.ledger.runs import last_report
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            found = last_report(connection, sync, run_id)
        if found is None:
            raise ConfigError(
                f"{sync} has no report yet", field="sync", value=sync, mend=f"run `sync-platform run {sync}`"
            )
        output.show(found, lambda: show_report(found))


@app.command()
def log(
    sync: SyncName, key: Annotated[str, typer.Argument(help="The source record's key.")], json: Json = False
) -> None:
    """Show every write of one record: when, which field, from what to what, by which run."""
    with answering(json) as output:
        from sync_platform.commands.logs import outcome_log

        rows = outcome_log(sync, key)
        columns = ["time", "op", "field", "old", "new", "status", "reason", "run_id"]
        output.show(
            {"sync": sync, "key": key, "outcomes": rows},
            lambda: table(f"{sync} {key}", columns, [[row[c] for c in columns] for row in rows]),
        )


@dead.command("list")
def dead_list(sync: Annotated[str | None, typer.Argument(help="Only this sync's.")] = None, json: Json = False) -> None:
    """List the dead letters that wait, with reason and resolution."""
    with answering(json) as output:
        from sync_platform.ledger.unsettled import open_dead_letters
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            letters = open_dead_letters(connection, sync)
        columns = ["id", "sync", "key", "field", "reason", "resolution", "attempts", "state"]
        output.show(
            {"dead_letters": letters},
            lambda: table("dead letters", columns, [[letter[c] for c in columns] for letter in letters]),
        )


def _set_letters(state: str, sync: str | None, ids: list[int], json: bool) -> None:
    with answering(json) as output:
        from sync_platform.ledger.unsettled import set_dead_letters
        from sync_platform.state.database import open_state

        if sync is None and not ids:
            raise ConfigError("say which dead letters", field="sync", mend="name a sync, or give --id")
        with open_state().connection() as connection:
            count = set_dead_letters(connection, state, sync=sync, ids=ids)
        output.show({"changed": count, "state": state}, lambda: print(f"{count} dead letters: {state}"))


Ids = Annotated[list[int] | None, typer.Option("--id", help="Only this one (repeatable).")]
OneSync = Annotated[str | None, typer.Argument(help="All of this sync's.")]


@dead.command("retry")
def dead_retry(sync: OneSync = None, ids: Ids = None, json: Json = False) -> None:
    """Try dead letters again with the next run."""
    _set_letters("retry", sync, ids or [], json)


@dead.command("discard")
def dead_discard(sync: OneSync = None, ids: Ids = None, json: Json = False) -> None:
    """Give dead letters up; the record is planned again when its source changes."""
    _set_letters("discarded", sync, ids or [], json)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over staging.<connection>.<Object> and sync.*")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write a Parquet file.")] = None,
    json: Json = False,
) -> None:
    """Ask the staging lake and the sync tables; it can read nothing else and write nothing."""
    with answering(json) as output:
        from sync_platform.commands.asking import answer

        answer(output, query, csv=csv, parquet=parquet)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8900,
    seed: Annotated[int, typer.Option(help="Feeds the sandbox's randomness.")] = 7,
    env: Annotated[bool, typer.Option("--env", help="Start nothing; print KEY=value lines.")] = False,
    json: Json = False,
) -> None:
    """Serve the simulated systems, or print the variables that point at them."""
    with answering(json) as output:
        from sync_platform.sandbox.server import env_lines, serve

        if env:
            lines = env_lines(port)
            output.show(dict(line.split("=", 1) for line in lines), lambda: print("\n".join(lines)))
        else:
            serve(port, seed=seed)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    with_sandbox: Annotated[bool, typer.Option("--sandbox", help="Start the sandbox, too.")] = False,
    sandbox_port: Annotated[int, typer.Option(help="Port of the sandbox.")] = 8900,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Start state, Dagster's UI and daemon (and the sandbox); print one line per service."""
    with answering(json) as output:
        from sync_platform.commands.services import show_services, start_all

        services = start_all(_project(project), port=port, sandbox_port=sandbox_port if with_sandbox else None)
        output.show({"services": services}, lambda: show_services(services))


@app.command()
def down(json: Json = False) -> None:
    """Stop everything `up` started, and nothing else."""
    with answering(json) as output:
        from sync_platform.commands.services import stop_all

        stopped = stop_all()
        output.show(
            {"stopped": stopped}, lambda: print("\n".join(f"stopped {name}" for name in stopped) or "nothing runs")
        )


@app.command()
def status(project: ProjectDir = None, json: Json = False) -> None:
    """Show the services and, per sync, its last run, next run and open dead letters."""
    with answering(json) as output:
        from sync_platform.commands.services import show_status, status_document

        document = status_document(_project(project))
        output.show(document, lambda: show_status(document))


@app.command()
def doctor(project: ProjectDir = None, json: Json = False) -> None:
    """Look at everything a sync needs: state, lake, connections, disk; say what is wrong and the mend."""
    with answering(json) as output:
        from sync_platform.commands.doctor import examine, show_findings

        findings = examine(_project(project))
        output.show({"ok": all(one["ok"] for one in findings), "findings": findings}, lambda: show_findings(findings))
        raise SystemExit(0 if all(one["ok"] for one in findings) else 3)


@app.command()
def demo(
    leads: Annotated[int, typer.Option(envvar="LEADS", help="Valid, distinct leads changed since yesterday.")],
    missing_email: Annotated[int, typer.Option(envvar="MISSING_EMAIL", help="Of these, how many lack an e-mail.")],
    duplicates: Annotated[int, typer.Option(envvar="DUPLICATES", help="Duplicates on top.")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Run the main job against the sandbox, twice, and compare the report with the target."""
    with answering(json) as output:
        from sync_platform.commands.demo import run_demo

        run_demo(output, _project(project), leads=leads, missing_email=missing_email, duplicates=duplicates)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")], json: Json = False
) -> None:
    """Write a new project into a folder."""
    with answering(json) as output:
        from sync_platform.commands.scaffold import write_project

        written = write_project(folder)
        output.show({"written": written}, lambda: print("\n".join(written)))


@app.command()
def new(
    from_json: Annotated[Path, typer.Option("--from-json", help="A file with source, target, data_mapping, …")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Turn a JSON configuration into a checked sync, saying what was assumed."""
    with answering(json) as output:
        from sync_platform.commands.new_sync import from_json_file, show_new

        made = from_json_file(_project(project), from_json)
        output.show(made, lambda: show_new(made))


def main() -> None:
    """The console script: usage errors exit with 2, ours with their own code, a bug with 70."""
    gc.set_threshold(100_000, 50, 50)  # imports make a million objects that stay: looking through them took 0.5 s
    try:
        _run(app, standalone_mode=False)
    except SyncError as error:
        Output("--json" in sys.argv).fail(error)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            _usage(error)
        bug = SyncError(f"{type(error).__name__}: {error}", mend="please report this with the traceback")
        bug.code = "bug"
        if "--json" not in sys.argv:
            import traceback

            traceback.print_exc()
        Output("--json" in sys.argv).fail(bug)


def _run(command: Callable[..., Any], **options: Any) -> None:
    result = command(**options)
    if isinstance(result, int) and result:
        raise SystemExit(result)


def _usage(error: Exception) -> None:
    shown = getattr(error, "format_message", lambda: str(error))()
    if type(error).__name__ == "Abort":
        raise SystemExit(130)
    Output("--json" in sys.argv).fail(
        ConfigError(f"{shown}".rstrip("."), mend="see `sync-platform --help`", field="arguments")
    )


if __name__ == "__main__":
    main()
