"""A small picture of the last runs, as Markdown with the image inside."""

from __future__ import annotations

import base64
from typing import Any

WIDTH, HEIGHT, GAP = 480, 96, 2


def runs_picture(reports: list[dict[str, Any]]) -> str:
    """Bars of transferred (green), held (amber) and failed (red) records per run, oldest left."""
    counts = [
        (
            report["sync_summary"]["successful_transfers"],
            report["sync_summary"]["held"],
            report["sync_summary"]["failed_transfers"],
        )
        for report in reports
    ]
    tallest = max((sum(one) for one in counts), default=0) or 1
    bar = WIDTH / max(len(counts), 1)
    shapes = []
    for number, parts in enumerate(counts):
        bottom = float(HEIGHT)
        for value, colour in zip(parts, ("#2e7d32", "#f9a825", "#c62828"), strict=True):
            tall = value / tallest * (HEIGHT - 4)
            bottom -= tall
            shapes.append(
                f'<rect x="{number * bar:.1f}" y="{bottom:.1f}" width="{max(bar - GAP, 1):.1f}" '
                f'height="{tall:.1f}" fill="{colour}"/>'
            )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}" stroke="#9e9e9e"/>{"".join(shapes)}</svg>'
    )
    encoded = base64.b64encode(svg.encode()).decode()
    return f"![records per run, the last {len(counts)} runs](data:image/svg+xml;base64,{encoded})"
