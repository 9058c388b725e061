"""`sql`: one SELECT through the locked door, as a table, JSON, CSV or a Parquet file."""

from __future__ import annotations

import sys
from pathlib import Path

from sync_platform.commands.output import Output, table
from sync_platform.home import Home


def answer(output: Output, query: str, *, csv: bool, parquet: Path | None) -> None:
    """Prints (or writes) the answer; ConfigError for a statement that is wrong or not allowed."""
    from sync_platform.staging.door import export_sql, run_sql
    from sync_platform.staging.export import json_text

    if parquet is not None:
        file = parquet if parquet.suffix.lower() == ".parquet" else parquet.with_name(parquet.name + ".parquet")
        rows = export_sql(Home.current(), query, file)
        output.show({"file": str(file), "rows": rows}, lambda: print(f"{rows} rows written to {file}"))
        return
    if csv:
        _print_csv(query)
        return
    found = run_sql(Home.current(), query)
    if output.json:
        sys.stdout.buffer.write(json_text(found) + b"\n")
        sys.stdout.flush()
        return
    table("", found.column_names, [list(row.values()) for row in found.to_pylist()])


def _print_csv(query: str) -> None:
    """Writes the CSV through a file of the export, which quotes and types as the files do."""
    import shutil
    import tempfile

    from sync_platform.staging.door import export_sql

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.csv"
        export_sql(Home.current(), query, file)
        with file.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
    sys.stdout.flush()
