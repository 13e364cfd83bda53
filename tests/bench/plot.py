"""The plot of the page, as SVG: bars on a logarithmic scale, readable on dark and light pages."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from tests.bench import servers, targets
from tests.bench.results import Results
from tests.bench.tables import number

_CLIENTS = 8
_ROWS = (
    servers.NGINX,
    servers.OURS_MUTATE,
    servers.OURS,
    servers.POD_SECURITY,
    servers.TEXTBOOK,
    servers.ISTIOD,
)
_OURS = (servers.OURS, servers.OURS_MUTATE)

_WIDTH, _LEFT, _RIGHT, _STEP, _BAR, _TOP = 860, 270, 70, 26, 16, 34

_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .bar { fill: #8c959f } .ours { fill: #0969da }
.line { stroke: #d1d9e0; stroke-width: 1 } .axis { font-size: 11px; fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .bar { fill: #656c76 } .ours { fill: #4493f8 }
.line { stroke: #3d444d } .axis { fill: #9198a1 }
}"""


class _Panel(NamedTuple):
    title: str
    bars: list[tuple[str, float]]


def svg(results: Results) -> str:
    """The whole file."""
    panels = [
        _Panel(f"CPU a review, µs (typical pod, c={_CLIENTS})", _bars(results, "cpu_us", 1)),
        _Panel(f"p50, ms (typical pod, c={_CLIENTS})", _bars(results, "p50", 1000)),
        _Panel(f"p99, ms (typical pod, c={_CLIENTS})", _bars(results, "p99", 1000)),
    ]
    heights = [_TOP + _STEP * len(panel.bars) + 34 for panel in panels]
    lines: list[str] = []
    top = 0
    for panel, height in zip(panels, heights, strict=True):
        lines += _draw(panel, top)
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">'
    title = "<title>What a review costs: mendix-mesh, Pod Security, istiod, nginx, Flask</title>"
    return "\n".join([head, title, f"<style>\n{_STYLE}\n</style>", *lines, "</svg>"]) + "\n"


def _bars(results: Results, figure: str, divisor: float) -> list[tuple[str, float]]:
    return [
        (row, targets.median(cell, figure) / divisor)
        for row in _ROWS
        if (cell := results.cell(row, "typical", _CLIENTS))
    ]


def _draw(panel: _Panel, top: int) -> Iterator[str]:
    low, high = _decades([value for _, value in panel.bars])
    scale = (_WIDTH - _LEFT - _RIGHT) / (high - low)
    bottom = top + _TOP + _STEP * len(panel.bars)
    yield f'<text class="title" x="0" y="{top + 20}">{escape(panel.title)}</text>'
    for decade in range(low, high + 1):
        x = round(_LEFT + (decade - low) * scale)
        yield f'<line class="line" x1="{x}" y1="{top + _TOP}" x2="{x}" y2="{bottom}"/>'
        label = f"{10.0**decade:g}"
        yield f'<text class="axis" text-anchor="middle" x="{x}" y="{bottom + 14}">{label}</text>'
    for place, (row, value) in enumerate(panel.bars):
        y = top + _TOP + place * _STEP
        length = round((math.log10(value) - low) * scale)
        name = escape(servers.NAMES[row])
        kind = "ours" if row in _OURS else "bar"
        base = y + _BAR - 3
        yield f'<text text-anchor="end" x="{_LEFT - 8}" y="{base}">{name}</text>'
        yield (
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}" rx="2"/>'
        )
        yield f'<text x="{_LEFT + length + 6}" y="{base}">{number(value)}</text>'


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values: bars start below the least."""
    low = math.floor(math.log10(min(values)) - 0.05)
    return low, max(low + 1, math.ceil(math.log10(max(values))))
