"""A report as a page for the terminal: nothing is cut off, also in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MOST_ERRORS = 20
WIDE = 72
STEPS = ("extract", "transform", "plan", "deliver")


def show_report(report: dict[str, Any]) -> None:
    """Prints a report for people."""
    from rich.console import Console

    print_report(report, Console(highlight=False))


def print_report(report: dict[str, Any], console: Console) -> None:
    """Prints the report's page on a console."""
    for part in _page(report, console.width):
        console.print(part)


def _page(report: dict[str, Any], width: int) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    summary = report["sync_summary"]
    title = Text.assemble((report["sync"], "bold"), ("  " + _verdict(report), _colour(report)))
    where = Text(f"run {report['run_id']}, {summary['sync_duration']}, {report['lane']}", style="dim")
    parts: list[RenderableType] = [title, where, Text(), Padding(_counts(summary, width), (0, 2)), Text()]
    parts += [Padding(_measures(report), (0, 2))]
    for name, told in (("Failed", report["errors"]), ("Refused, because the target moved", report["refused"])):
        if told:
            more = len(told) - MOST_ERRORS
            rows = [_row(one) for one in told[:MOST_ERRORS]]
            parts += [Text(), Text(f"{name} ({len(told):,})", style="bold"), _problems(rows, width)]
            if more > 0:
                parts.append(Text(f"  ... and {more:,} more: sync-platform dead list, or report --json", style="dim"))
    for resolution in dict.fromkeys(one["resolution"] for one in report["errors"]):
        parts.append(Padding(Text(f"mend: {resolution}", style="dim"), (0, 2)))
    if report["first_sync_held"]:
        held = f"{report['first_sync_held']:,} creates wait for a decision"
        mend = f"decide with `sync-platform match {report['sync']}`, or set first_sync: create"
        parts += [Text(), Text(f"{held}: {mend}", style="yellow")]
    return parts


def _verdict(report: dict[str, Any]) -> str:
    summary = report["sync_summary"]
    if not summary["records_processed"]:
        return "nothing new"
    wrong = [
        f"{summary[key]:,} {word}" for key, word in (("failed_transfers", "failed"), ("held", "held")) if summary[key]
    ]
    return ", ".join([f"{summary['successful_transfers']:,} of {summary['records_processed']:,} transferred", *wrong])


def _colour(report: dict[str, Any]) -> str:
    summary = report["sync_summary"]
    if summary["failed_transfers"] or report["refused"]:
        return "red"
    return "yellow" if summary["held"] else "green"


def _counts(summary: dict[str, Any], width: int) -> RenderableType:
    """Created, updated, ... as numbers under their words; beside them where the terminal is narrow."""
    from rich.table import Table
    from rich.text import Text

    shown = {
        "processed": (summary["records_processed"], "bold"),
        "created": (summary["created"], "green"),
        "updated": (summary["updated"], "green"),
        "deleted": (summary["deleted"], "green"),
        "unchanged": (summary["unchanged"], ""),
        "failed": (summary["failed_transfers"], "red"),
        "held": (summary["held"], "yellow"),
    }
    numbers = [Text(f"{number:,}", style=style if number else "dim") for number, style in shown.values()]
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 3, 0, 0), show_edge=False, show_header=wide, header_style="dim")
    if wide:
        for word in shown:
            table.add_column(word, justify="right", no_wrap=True)
        table.add_row(*numbers)
    else:
        table.add_column(style="dim")
        table.add_column(justify="right")
        for word, number in zip(shown, numbers, strict=True):
            table.add_row(word, number)
    return table


def _measures(report: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    summary, speed = report["sync_summary"], report["performance"]
    quality = f"{report['data_quality']['completeness_score']:.1%}"
    if report["data_quality"]["missing_required_fields"]:
        quality += ", " + "; ".join(report["data_quality"]["missing_required_fields"])
    took = speed["seconds_by_step"]
    steps = ", ".join(f"{name} {took[name]:.1f} s" for name in STEPS if name in took)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("completeness", quality),
        ("success rate", f"{speed['success_rate']:.1%}"),
        ("duplicates skipped", f"{summary['duplicates_skipped']:,}"),
        ("dead letters open", f"{summary['dead_letters_open']:,}"),
        ("calls", f"{speed['api_calls']:,}, {speed['bytes_sent']:,} bytes sent"),
        ("took", steps),
        ("next sync", report["next_sync"] or "on demand"),
    ):
        table.add_row(name, Text(value))
    return table


def _row(one: dict[str, Any]) -> tuple[str, str, str]:
    if "found" in one:
        reason = f"planned on {one['planned_old']!r}, found {one['found']!r}"
        return (one["key"] or one["target_id"] or "", one["field"] or "", reason)
    return (one["key"] or "", one["field"] or "", one["reason"] or "")


def _problems(rows: list[tuple[str, str, str]], width: int) -> RenderableType:
    """Key, field and reason in columns; below each other where the terminal is too narrow for that."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if width < WIDE:
        return Padding(Text("\n".join(" ".join(filter(None, row)) for row in rows)), (0, 2))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), show_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    return Padding(table, (0, 2))
