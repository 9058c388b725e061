"""The command line. Every command takes `--json`; heavy imports happen inside the command that needs them.

Exit codes: 0 done, 1 finished with failed, held or refused records, 2 found wrong before anything was
sent, 3 a system refused us or could not be reached, 4 blocked by a guard, 70 a bug.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sync_platform.commands.capturing import capture
from sync_platform.commands.conflicts import conflicts
from sync_platform.commands.dead_letters import dead
from sync_platform.commands.drift import drift
from sync_platform.commands.invocation import Full, Json, ProjectDir, SyncName, answering, project_of
from sync_platform.commands.links import links
from sync_platform.commands.operating import operating
from sync_platform.commands.output import Output, table
from sync_platform.commands.webhooks import webhooks
from sync_platform.errors import ConfigError, SyncError

app = typer.Typer(
    name="sync-platform",
    help="Keeps the records of many systems in step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(operating)
app.add_typer(capture, name="capture")
app.add_typer(conflicts, name="conflicts")
app.add_typer(dead, name="dead")
app.add_typer(drift, name="drift")
app.add_typer(webhooks, name="webhooks")
app.add_typer(links, name="links")


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

        found = check_project(project_of(project))
        output.show(found, lambda: show_problems(found))
        raise SystemExit(0 if found["ok"] else 2)


@app.command()
def plan(
    sync: SyncName,
    out: Annotated[Path | None, typer.Option("--out", help="Write the exact plan to this file.")] = None,
    full: Full = False,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Show exactly what a run would change; nothing is sent and no position moves."""
    with answering(json) as output:
        from sync_platform.commands.planning import show_plan

        show_plan(project_of(project), sync, output, out=out, full=full)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan written by `plan --out`.")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Write exactly a plan; a target that moved since is refused and named, not overwritten."""
    with answering(json) as output:
        from sync_platform.commands.planning import apply_file

        _finish(output, apply_file(project_of(project), file))


@app.command()
def run(
    syncs: Annotated[list[str], typer.Argument(metavar="SYNC...", help="The sync's name, or several.")],
    full: Full = False,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Run a sync once: load, map, plan, deliver; then print its report. Of several, those others refer to go first."""
    with answering(json) as output:
        if len(syncs) == 1:
            from sync_platform.commands.planning import run_sync

            _finish(output, run_sync(project_of(project), syncs[0], full=full))
        from sync_platform.commands.running_several import exit_code_of_all, run_several, show_reports

        done = run_several(project_of(project), syncs, full=full)
        output.show(done, lambda: show_reports(done))
        raise SystemExit(exit_code_of_all(done))


@app.command()
def match(
    sync: SyncName,
    accept: Annotated[
        str, typer.Option("--accept", metavar="CLASSES", help="Decide whole classes and apply: exact,likely,unmatched.")
    ] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Apply what the file decides, as it is.")] = False,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Write down which target record each unlinked record may be, for people to decide; or apply what they decided."""
    with answering(json) as output:
        from sync_platform.commands.matching import exit_code_of, match_sync, show_matches

        classes = [name.strip() for name in accept.split(",") if name.strip()]
        document = match_sync(project_of(project), sync, accept=classes, apply=apply)
        output.show(document, lambda: show_matches(document))
        raise SystemExit(exit_code_of(document))


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


@app.command()
def trace(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="The vendor's id of the event, or ours.")],
    json: Json = False,
) -> None:
    """Tell an event's story: received, proved, queued, and what each sync did with it, with times."""
    with answering(json) as output:
        from sync_platform.commands.tracing import show_trace, trace_event

        document = trace_event(event_id)
        output.show(document, lambda: show_trace(document))


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
def demo(
    leads: Annotated[int, typer.Option(envvar="LEADS", help="Valid, distinct leads changed since yesterday.")] = 247,
    missing_email: Annotated[int, typer.Option(envvar="MISSING_EMAIL", help="Of these, how many lack an e-mail.")] = 2,
    duplicates: Annotated[int, typer.Option(envvar="DUPLICATES", help="Duplicates on top.")] = 12,
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="Try a template (`new` lists them) instead.")
    ] = "",
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Run the main job, or a template, against local systems, twice, and compare the report with what was done."""
    with answering(json) as output:
        if template:
            from sync_platform.commands.template_demo import run_template_demo

            run_template_demo(output, template)
            return
        from sync_platform.commands.demo import run_demo

        run_demo(output, project_of(project), leads=leads, missing_email=missing_email, duplicates=duplicates)


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
    from_json: Annotated[
        Path | None, typer.Option("--from-json", help="A file with source, target, data_mapping, …")
    ] = None,
    template: Annotated[str, typer.Option("--template", metavar="NAME", help="Write a ready sync.")] = "",
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """List the templates; write one into the project; or turn a JSON configuration into a checked sync."""
    with answering(json) as output:
        from sync_platform.commands import new_sync, templates

        if from_json is not None and template:
            raise ConfigError("--from-json and --template are two ways", field="template", mend="use one of them")
        if from_json is not None:
            made = new_sync.from_json_file(project_of(project), from_json)
            output.show(made, lambda: new_sync.show_new(made))
        elif template:
            made = templates.from_template(project_of(project), template)
            output.show(made, lambda: templates.show_written(made))
        else:
            listed = [one.to_json() for one in templates.templates().values()]
            output.show({"templates": listed}, lambda: templates.show_templates(listed))


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
    finally:
        gc.freeze()  # what lives now dies with the process: looking through it at the end took another second


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
