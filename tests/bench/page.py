"""Results as the tables of docs/performance.md, with the targets and whether they are met."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.bench import creations, plots, pods, servers
from tests.bench.results import CREATION, Results, Sample
from tests.cluster import scale

PAGE = Path(__file__).parents[2] / "docs/performance.md"
_PLACE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(results: Results) -> None:
    """Write the tables into the page again, and the plots."""
    PAGE.write_text(filled(PAGE.read_text(), results))
    for name, plot in plots.plots(results, scale.read()).items():
        (plots.FOLDER / name).write_text(plots.drawn(plot))


def filled(text: str, results: Results) -> str:
    """Return the page with its tables written again. The text around them stays."""
    made = tables(results)
    return _PLACE.sub(lambda place: f"{place[1]}{made[place[2]]}\n{place[3]}", text)


def tables(results: Results) -> dict[str, str]:
    """Return all tables by the names that the page has for them."""
    return {
        "run": _run(results),
        **{size: _reviews(results, size) for size in pods.SIZES},
        "creations": _creations(results),
        "servers": _servers(results),
        "scale": _scale(scale.read()),
        "targets": _table(
            ("target", "limit", "measured", ""),
            [(*one[:3], "met" if one.met else "**missed**") for one in targets(results)],
        ),
    }


def _run(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in results.versions.items())
    return (
        f"Measured on {results.date}: {machine}. {results.rounds} rounds of {results.seconds:g} s "
        f"for each cell of the typical pod.\n\nVersions: {versions}."
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [columns, ("---", *("---:" for _ in columns[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reviews(results: Results, size: str) -> str:
    rows = [
        (servers.NAMES[key], str(clients), *_figures(cell.samples))
        for clients in sorted({cell.clients for cell in results.cells})
        for key in servers.NAMES
        if (cell := results.cell(key, size, clients))
    ]
    return _table(("server", "c", "reviews/s", "CPU µs", "p50 ms", "p99 ms"), rows)


def _figures(samples: Sequence[Sample]) -> tuple[str, ...]:
    return (
        _spread([sample.rate for sample in samples]),
        _spread([sample.cpu_us for sample in samples]),
        _number(statistics.median(sample.p50 for sample in samples) / 1000),
        _spread([sample.p99 / 1000 for sample in samples]),
    )


def _creations(results: Results) -> str:
    cells = [cell for cell in results.cells if cell.body == CREATION]
    rows = []
    for cell in cells:
        rate, _, p50, p99 = _figures(cell.samples)
        cpu = (_number(statistics.median(values)) for values in cell.parts.values())
        rows.append((creations.NAMES[cell.row], str(cell.clients), rate, p50, p99, *cpu))
    parts = (f"CPU µs of {name}" for name in cells[0].parts)
    return _table(("webhooks of the namespace", "c", "pods/s", "p50 ms", "p99 ms", *parts), rows)


def _servers(results: Results) -> str:
    rows = [(servers.NAMES[k].partition(",")[0], f"{mib:.0f}") for k, mib in results.pss.items()]
    return _table(("server", "PSS in MiB after all load"), rows)


def _scale(found: Sequence[scale.Measured]) -> str:
    columns = (
        "namespaces", "pods", "audit: seconds", "CPU seconds", "MiB",
        "dashboard: first page, ms", "the next, ms", "MiB",
    )  # fmt: skip
    return _table(columns, [tuple(f"{n:,.10g}" for n in msgspec.structs.astuple(m)) for m in found])


class Target(NamedTuple):
    """A target in words, and what was measured."""

    what: str
    limit: str
    measured: str
    met: bool


_OURS = {servers.OURS: "validate", servers.OURS_MUTATE: "mutate"}
_OTHERS = {
    servers.POD_SECURITY: "Pod Security's",
    servers.ISTIOD: "istiod's",
    servers.NGINX: "nginx's",
}
#: How much CPU of another server mendix-mesh is allowed to use for the typical pod.
_CPU = (
    (servers.OURS, servers.POD_SECURITY, 0.22),
    (servers.OURS, servers.ISTIOD, 0.03),
    (servers.OURS_MUTATE, servers.ISTIOD, 0.013),
    (servers.OURS, servers.NGINX, 5.0),
    (servers.OURS_MUTATE, servers.NGINX, 5.0),
)


#: How many pods of those without mendix-mesh it must be possible to create, by connections.
_CREATED = {1: 0.85, 8: 0.75}


def targets(results: Results) -> list[Target]:
    """Return all targets. Ratios compare figures of one round, and their median counts."""
    found = []
    for key, other, most in _CPU:
        ratios = _ratios(results, key, other, "typical", "cpu_us")
        found.append(limited(f"CPU of {_OURS[key]}, of {_OTHERS[other]}", ratios, most=most))
    for key, name in _OURS.items():
        for other in (servers.POD_SECURITY, servers.ISTIOD):
            for figure in ("p50", "p99"):
                ratios = _ratios(results, key, other, "typical", figure)
                found.append(limited(f"{figure} of {name}, of {_OTHERS[other]}", ratios, most=1))
    ratios = _ratios(results, creations.POLICY, creations.NONE, CREATION, "rate")
    for clients, least in _CREATED.items():
        what = f"pods created with engine policy, of those without mendix-mesh, c={clients}"
        found.append(limited(what, {clients: ratios[clients]}, least=least))
    ours = results.pss[servers.OURS]
    found.append(Target("PSS after the load", "≤ 45 MiB", f"{ours:.0f} MiB", ours <= 45))
    largest = scale.read()[-1]
    for name, mib in (("audit", largest.audit_mib), ("dashboard", largest.dashboard_mib)):
        what = f"peak memory of the {name} at {largest.pods:,} pods"
        found.append(Target(what, "≤ 120 MiB", f"{mib:.0f} MiB", mib <= 120))
    page_ms = next(size.first_page_ms for size in scale.read() if size.pods == 20_000)
    what = "the dashboard's first page at 20,000 pods"
    found.append(Target(what, "≤ 0.3 s", f"{page_ms / 1000:.2f} s", page_ms <= 300))
    ready = statistics.median(results.ready_ms)
    found.append(Target("ready after", "< 1 s", f"{ready / 1000:.2f} s", ready < 1000))
    floor = _by_clients(_growth(results, servers.NGINX))
    for key, name in _OURS.items():
        what = f"CPU of {name}: a pod of 1 MiB, of a typical one"
        one = limited(what, _growth(results, key), most=12)
        found.append(one._replace(measured=f"{one.measured} (nginx: {floor})"))
    return found


def _pairs(
    results: Results, row: str, other: str, body: str
) -> dict[int, list[tuple[Sample, Sample]]]:
    """Return for each number of connections the samples of two rows, round by round."""
    return {
        cell.clients: [*zip(cell.samples, theirs.samples, strict=True)]
        for cell in results.cells
        if (cell.row, cell.body) == (row, body)
        and (theirs := results.cell(other, body, cell.clients))
    }


def _ratios(results: Results, row: str, other: str, body: str, figure: str) -> dict[int, float]:
    return {
        clients: statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)
        for clients, pairs in _pairs(results, row, other, body).items()
    }


def _growth(results: Results, row: str) -> dict[int, float]:
    """Return how much more CPU a pod of 1 MiB costs than a typical one."""
    cpu = {
        (cell.body, cell.clients): statistics.median(sample.cpu_us for sample in cell.samples)
        for cell in results.cells
        if cell.row == row
    }
    return {c: cpu["large", c] / us for (body, c), us in cpu.items() if body == "typical"}


def limited(what: str, ratios: dict[int, float], *, most: float = 0, least: float = 0) -> Target:
    """Return the target that no ratio, by number of connections, exceeds a limit."""
    met = all(ratio >= least if least else ratio <= most for ratio in ratios.values())
    limit = f"≥ {least:g}" if least else f"≤ {most:g}"
    return Target(what, limit, _by_clients(ratios), met)


def _by_clients(ratios: dict[int, float]) -> str:
    shown = [
        f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
        for ratio in ratios.values()
    ]
    return f"{' · '.join(shown)} at c={' · '.join(map(str, ratios))}"


def _spread(values: Sequence[float]) -> str:
    """Return the median, and the minimum and maximum if they differ from it."""
    middle, low, high = (_number(of(values)) for of in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    """Return a figure with the digits that it is worth."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
