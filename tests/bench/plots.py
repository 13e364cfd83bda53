"""Results as plots: horizontal bars in groups, as SVG for light and dark pages."""

import html
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import creations
from tests.bench.results import CREATION, Results
from tests.cluster import scale

FOLDER = Path(__file__).parents[2] / "docs/img"
_WIDTH, _LEFT, _BAR, _LINE = 720, 220, 14, 20
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.bar{fill:#2f6feb}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6ea8fe}}"
)


class Plot(NamedTuple):
    """A plot: for each group its bars, from label to value."""

    title: str
    groups: Mapping[str, Mapping[str, float]]
    unit: str


def plots(results: Results, sizes: Sequence[scale.Measured]) -> dict[str, Plot]:
    """Return the plots of docs/performance.md by the names of their files."""
    created = {
        f"{clients} client{'s' if clients > 1 else ''}": {
            creations.NAMES[cell.row]: statistics.median(sample.rate for sample in cell.samples)
            for cell in results.cells
            if cell.body == CREATION and cell.clients == clients
        }
        for clients in creations.CONNECTIONS
    }
    memory = {
        f"{one.pods:,} pods": {"audit": one.audit_mib, "dashboard": one.dashboard_mib}
        for one in sizes
    }
    pages = {
        f"{one.pods:,} pods": {"first page": one.first_page_ms, "the next pages": one.page_ms}
        for one in sizes
    }
    return {
        "performance-creations.svg": Plot("Pods created a second", created, "/s"),
        "performance-memory.svg": Plot("Peak memory", memory, " MiB"),
        "performance-pages.svg": Plot("The dashboard's overview", pages, " ms"),
    }


def drawn(plot: Plot) -> str:
    """Return a plot as SVG."""
    most = max(value for bars in plot.groups.values() for value in bars.values())
    made = [f'<text class="title" x="0" y="16">{html.escape(plot.title)}</text>']
    y = 24
    for group, bars in plot.groups.items():
        y += _LINE
        made.append(f'<text class="title" x="0" y="{y}">{html.escape(group)}</text>')
        for label, value in bars.items():
            y += _LINE
            width = (_WIDTH - _LEFT - 90) * value / most
            shown = f"{value:,.0f}{plot.unit}"
            made += [
                f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{html.escape(label)}</text>',
                f'<rect class="bar" x="{_LEFT}" y="{y - 12}" width="{width:.1f}" height="{_BAR}"/>',
                f'<text x="{_LEFT + width + 6:.1f}" y="{y}">{shown}</text>',
            ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" role="img">'
    title = f"<title>{html.escape(plot.title)}</title>"
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *made, "</svg>"]) + "\n"
