"""A process that loads a generated stream once: `python -m tests.laws.staging.loader '{"total": 100, …}'`.

The state comes from SYNC_HOME and SYNC_DATABASE_URL. It prints a line per committed chunk, then the
load as JSON. Record n of version v is modified n minutes after the start, v hours later.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

from sync_platform.model import Page, Position
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import Progress, stage
from sync_platform.state.database import open_state
from tests.laws.staging.scripted import Scripted, lead, page


def generated(total: int, size: int, version: int = 0, stop: int | None = None, width: int = 0) -> Scripted:
    """A source of `total` records on pages of `size` that resumes at a position; read no further than `stop`.

    The keys rise as texts do where they are as wide as the highest.
    """

    def answers(since: Position | None) -> Iterator[Page]:
        first = int(since.value["next"]) if since else 0
        for start in range(first, stop or total, size):
            records = [
                lead(f"{n:0{width}d}", n + 60 * version, Value=f"{version}:{n}")
                for n in range(start, min(total, start + size))
            ]
            yield page(records, start + size, complete=since is None and start + size >= total)

    return Scripted.by(answers)


def main(options: dict[str, Any]) -> None:
    """Loads once."""

    def told(step: Progress) -> None:
        print(f"chunk {step.chunks} {step.rows_read}", flush=True)

    source = generated(options["total"], options["size"], options.get("version", 0), width=options.get("width", 0))
    done = stage(
        Lake(open_state()),
        source,
        "crm",
        options.get("stream", "Lead"),
        full=options.get("full", False),
        on_progress=told,
        limits=Limits(rows=options.get("chunk", 500_000), ahead_from=options.get("ahead_from", 50_000)),
    )
    print(json.dumps(dataclasses.asdict(done), default=str), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
