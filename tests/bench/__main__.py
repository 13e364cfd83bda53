"""`make bench`: mendix-mesh beside the Go webhooks of the field, nginx, and Flask as in textbooks.

All servers run at once on this machine, each as it is shipped, and are asked in turn by h2load over
kept-alive TLS, as the API server calls webhooks. Compare inside one run only. docs/performance.md
says how to read it.
"""

import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.bench import load, report, results, run, tables
from tests.cluster import build, netns
from tests.cluster.plane import ControlPlane
from tests.cluster.process import ProcessError


@click.command()
@click.option("--quick", is_flag=True, help="A smoke test of about two minutes; keeps nothing.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where raw results are kept; by default {results.FILE.name}, from which the page is.",
)
def main(quick: bool, output: Path | None) -> None:
    """Measure, keep the raw results, write docs/performance.md, and show the tables and targets.

    Takes about 13 minutes on two cores; nothing else should run meanwhile.
    """
    console = Console(stderr=True)
    if missing := load.missing():
        console.print("make bench needs programs that are not here:", *missing, sep="\n  ")
        raise SystemExit(2)
    try:
        binaries = build.ensure([*build.CORE, build.ISTIOD, build.POD_SECURITY], console)
        netns.enter()
    except (build.BuildError, netns.NetworkError) as error:
        console.print(str(error), markup=False)
        raise SystemExit(2) from None
    with tempfile.TemporaryDirectory(prefix="mendix-mesh-bench-") as folder:
        home = Path(folder)
        try:
            with ControlPlane(home / "plane", binaries) as plane:
                found = run.measure(run.QUICK if quick else run.FULL, plane, home, console)
        except (load.LoadError, ProcessError, TimeoutError) as error:
            console.print(str(error), markup=False)
            raise SystemExit(1) from None
    if output or not quick:
        results.write(found, output or results.FILE)
    if not (output or quick):
        report.main()
    terminal = Console()
    # Figures that are cut are of no use in a log.
    terminal.width = max(terminal.width, 130)
    for table in tables.everything(found).values():
        table.show(terminal)


if __name__ == "__main__":
    main()
