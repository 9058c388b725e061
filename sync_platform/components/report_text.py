"""A report as Markdown, for the Dagster UI and chat alerts."""

from __future__ import annotations

from typing import Any


def report_markdown(report: dict[str, Any]) -> str:
    """The report as a short table, its quality notes and its first errors."""
    summary = report["sync_summary"]
    lines = [
        f"### {report['sync']}",
        "",
        "| processed | created | updated | deleted | unchanged | failed | held | duplicates skipped | took |",
        "|---|---|---|---|---|---|---|---|---|",
        "| "
        + " | ".join(
            str(summary[name])
            for name in (
                "records_processed",
                "created",
                "updated",
                "deleted",
                "unchanged",
                "failed_transfers",
                "held",
                "duplicates_skipped",
                "sync_duration",
            )
        )
        + " |",
        "",
        f"Completeness {report['data_quality']['completeness_score']:.1%}, "
        f"success rate {report['performance']['success_rate']:.1%}, "
        f"open dead letters {summary['dead_letters_open']}, next sync {report['next_sync'] or 'on demand'}.",
    ]
    lines += [
        f"- `{error['key']}` {error['field'] or ''}: {error['reason']}. {error['resolution']}"
        for error in report["errors"][:20]
    ]
    return "\n".join(lines)
