"""Results as tables, for the terminal and for the page."""

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from tests.bench import creations, inprocess, servers, targets
from tests.bench.results import Cell, Results, Sample


class Table(NamedTuple):
    """A table of texts; what is not in the first column is a figure."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """As a table of a page, without its title."""
        lines = [self.columns, tuple("---" if i == 0 else "---:" for i in range(len(self.columns)))]
        return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *self.rows])

    def show(self, console: Console) -> None:
        """On a terminal."""
        shown = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            shown.add_row(*(text.strip("*") for text in row))
        console.print(shown)


def everything(results: Results) -> dict[str, Table]:
    """All tables, by the names that the page calls them."""
    return {
        "typical": _reviews(results, "typical"),
        "small": _reviews(results, "small"),
        "large": _reviews(results, "large"),
        "creations": _creations(results),
        "cluster-cpu": _cluster_cpu(results),
        "servers": _servers(results),
        "steps": _steps(results),
        "growth": _growth(results),
        "targets": _targets(results),
    }


_FIGURES = ("reviews/s", "CPU µs", "p50 ms", "p99 ms", "p99.9 ms")
#: The rows of the tables of reviews.
_COMPARED = tuple(servers.NAMES)


def _reviews(results: Results, body: str) -> Table:
    title = f"Reviews of the {body} pod: {_sizes(results, body)}"
    rows = list(_review_rows(results, body, _COMPARED))
    return Table(title, ("server", "c", *_FIGURES), rows)


def _sizes(results: Results, body: str) -> str:
    size = results.sizes[body]
    return f"{_bytes(size['stored'])} to validate, {_bytes(size['plain'])} to mutate"


def _bytes(count: int) -> str:
    return f"{count / 1024:.1f} KiB" if count < 1024 * 100 else f"{count / 1024 / 1024:.2f} MiB"


def _review_rows(results: Results, body: str, keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for clients in sorted({cell.clients for cell in results.cells}):
        for key in keys:
            if cell := results.cell(key, body, clients):
                p999 = ms(cell.p999) if cell.p999 else "-"
                yield (servers.NAMES[key], str(clients), *_figures(cell.samples), p999)


def _figures(samples: Sequence[Sample]) -> tuple[str, ...]:
    return (
        _spread([sample.rate for sample in samples]),
        _spread([sample.cpu_us for sample in samples]),
        ms(statistics.median(sample.p50 for sample in samples)),
        _spread([sample.p99 / 1000 for sample in samples]),
    )


def _creations(results: Results) -> Table:
    rows = [
        (creations.NAMES[cell.row], str(cell.clients), figures[0], figures[2], figures[3])
        for cell in results.creations
        if (figures := _figures(cell.samples))
    ]
    columns = ("in the way of a pod", "c", "pods/s", "p50 ms", "p99 ms")
    return Table("Pods created through the API server", columns, rows)


def _cluster_cpu(results: Results) -> Table:
    parts = [*(results.creations[0].cpu_us if results.creations else {})]
    rows = [
        (
            creations.NAMES[cell.row],
            str(cell.clients),
            *(number(statistics.median(cell.cpu_us[part])) for part in parts),
        )
        for cell in results.creations
    ]
    title = "CPU µs of each part, for one pod created"
    return Table(title, ("in the way of a pod", "c", *parts), rows)


def _servers(results: Results) -> Table:
    rows = [
        (
            servers.NAMES[key].partition(",")[0],
            *(f"{size:.0f}" for size in (server.pss_start, server.pss_typical, server.pss)),
            f"{server.idle / 10:.2f} %",
        )
        for key, server in results.servers.items()
        if key in _COMPARED
    ]
    columns = ("server", "at start", "after typical pods", "after all", "CPU at rest, of a core")
    return Table("The servers: PSS in MiB", columns, rows)


def _steps(results: Results) -> Table:
    names = ("validate", "mutate")
    first = results.inprocess.steps.get("validate", {})
    rows = [
        (step, *(number(results.inprocess.steps[name][step]) for name in names)) for step in first
    ]
    rows[-1:] = [("HTTP and TLS (by difference)", *_http(results, names)), *_whole(results, names)]
    return Table("Where the CPU of a review goes, µs", ("step", *names), rows)


def _http(results: Results, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if cell := _busy(results, name):
            total = results.inprocess.steps[name][inprocess.TOTAL]
            yield number(targets.median(cell, "cpu_us") - total)


def _whole(results: Results, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    whole = [cell for name in names if (cell := _busy(results, name))]
    yield ("all, as measured at c=8", *(number(targets.median(cell, "cpu_us")) for cell in whole))


def _busy(results: Results, name: str) -> Cell | None:
    row = {"validate": servers.OURS, "mutate": servers.OURS_MUTATE}[name]
    return results.cell(row, "typical", 8)


def _growth(results: Results) -> Table:
    rows = [
        (
            growth.what,
            " · ".join(f"{amount}" for amount, _ in growth.points),
            " · ".join(number(cost) for _, cost in growth.points),
        )
        for growth in results.inprocess.growth
    ]
    columns = ("what grows", "how much of it", "µs")
    return Table("How the CPU of a validation grows, without HTTP", columns, rows)


def _targets(results: Results) -> Table:
    rows = [
        (target.what, target.limit, target.measured, "met" if target.met else "**missed**")
        for target in targets.evaluate(results)
    ]
    return Table("Targets", ("target", "limit", "measured", ""), rows)


def _spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where they differ from it."""
    middle, low, high = (number(f(values)) for f in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def ms(microseconds: float) -> str:
    """Microseconds as milliseconds, in three digits at most."""
    return number(microseconds / 1000)


def number(value: float) -> str:
    """A figure in as many digits as it is worth."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
