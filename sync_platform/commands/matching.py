"""`match`: who is who, as a file people review, and what they decided there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from sync_platform.project import Project

MOST_SHOWN = 20


def match_sync(project: Project, sync: str, *, accept: Collection[str], apply: bool) -> dict[str, Any]:
    """Writes the match plan of a sync, or applies what its file decides; the command's answer.

    Without `accept` and `apply` the file is written anew, decisions in it kept. `accept`: the classes that are decided
    as a whole, and then applied. Raises ConfigError for a file that contradicts itself.
    """
    from sync_platform.matching.applying import apply_decisions
    from sync_platform.matching.classes import CLASSES
    from sync_platform.matching.decisions import DECISIONS, MatchFile, accepted, counts
    from sync_platform.session import Session

    declared = project.sync(sync)
    file = MatchFile.of(project, declared)
    rows = file.read()
    if accept:
        accepted(rows, accept)  # refused before anything is read
    elif apply and not file.path.is_file():
        raise ConfigError(
            f"{sync} has no match plan to apply", field="--apply", file=str(file.path),
            mend=f"write it first: sync-platform match {sync}",
        )  # fmt: skip
    if accept or not apply:
        rows = accepted(_proposed(project, sync, rows), accept)
        file.write(rows)
    done = None
    if accept or apply:
        with Session.open(project) as session:
            done = apply_decisions(session, declared.spec, rows)
    return {
        "sync": sync,
        "file": str(file.path),
        "classes": counts(rows, "class", CLASSES),
        "decisions": counts(rows, "decision", DECISIONS),
        "applied": asdict(done) if done else None,
        "matches": rows.to_dicts(),
    }


def _proposed(project: Project, sync: str, before: pl.DataFrame) -> pl.DataFrame:
    from sync_platform.commands.planning import make_plan_of
    from sync_platform.matching.proposing import likeness_of, propose
    from sync_platform.session import Session

    spec = project.sync(sync).spec
    with Session.open(project) as session:
        likeness_of(session, spec)
    plan_id = make_plan_of(project, sync)
    with Session.open(project) as session:
        return propose(session, spec, plan_id, before)


def exit_code_of(document: dict[str, Any]) -> int:
    """1 when decisions were applied and some records still wait or could not be linked, else 0."""
    applied = document["applied"]
    return 1 if applied and (applied["undecided"] or applied["refused"]) else 0


def show_matches(document: dict[str, Any]) -> None:
    """Prints a match plan for people: how many of each class, and the first rows that wait."""
    from rich.console import Console

    console = Console(highlight=False)
    told = ", ".join(f"{number:,} {name}" for name, number in document["classes"].items())
    console.print(f"[bold]{document['sync']}[/bold]: {told}")
    waiting = [row for row in document["matches"] if row["decision"] == "undecided"]
    for row in waiting[:MOST_SHOWN]:
        console.print(
            f"{row['class']:>10} {row['score'] or '':>6} {row['source_key']} -> {row['target_id'] or 'nobody'}"
            f"  {row['evidence'] or row['source'] or ''}",
            markup=False,
        )
    if len(waiting) > MOST_SHOWN:
        console.print(f"... and {len(waiting) - MOST_SHOWN:,} more undecided in {document['file']}", style="dim")
    applied = document["applied"]
    if applied is None:
        console.print(f"review {document['file']}, then: sync-platform match {document['sync']} --apply")
        return
    console.print(
        f"{applied['linked']:,} linked, {applied['create']:,} to be created by the next run, "
        f"{applied['undecided']:,} undecided and held"
    )
    for one in applied["refused"]:
        console.print(f"refused {one['key']} -> {one['target_id']}: {one['reason']}", style="red", markup=False)
