"""Write the raw results into docs/performance.md and docs/performance.svg.

`python -m tests.bench.report`; the text around the tables is written by hand, and kept.
"""

import re
from pathlib import Path

from tests.bench import plot, results, tables
from tests.bench.results import Results

_DOCS = Path(__file__).parents[2] / "docs"
PAGE = _DOCS / "performance.md"
PLOT = _DOCS / "performance.svg"

_PLACE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str, found: Results) -> str:
    """The page with its tables written again. Raises KeyError on a table that there is not."""
    made = {name: table.markdown() for name, table in tables.everything(found).items()}
    made["run"] = _run(found)
    return _PLACE.sub(lambda place: f"{place[1]}{made[place[2]]}\n{place[3]}", text)


def _run(found: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in found.versions.items())
    return (
        f"Measured on {found.date}: {machine}. {found.rounds} rounds of {found.seconds:g} s for "
        f"each cell of the typical pod.\n\nVersions: {versions}."
    )


def main() -> None:
    """Write both."""
    found = results.read()
    PAGE.write_text(page(PAGE.read_text(), found))
    PLOT.write_text(plot.svg(found))


if __name__ == "__main__":
    main()
