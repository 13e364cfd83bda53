"""`make bench`: mendix-mesh compared with Go webhooks, nginx, and Flask as in textbooks.

All servers run at once on this machine, each as it is shipped. h2load sends reviews to them in turn
over kept-alive TLS, as the API server does. docs/performance.md says how to read the results.
"""

import os
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.bench import load, page, results, run
from tests.cluster import build, netns
from tests.cluster.plane import ControlPlane
from tests.cluster.process import ProcessError

_PROGRAMS = {"h2load": "nghttp2-client", "nginx": "nginx-light"}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke test of two minutes. It stores no results.")
@click.option("--page", "only_page", is_flag=True, help="Write only the page, from the results.")
def main(quick: bool, only_page: bool) -> None:
    """Measure, store the raw results, write docs/performance.md, and print its tables.

    This takes about 15 minutes on two cores. Nothing else should run at the same time.
    """
    console = Console(stderr=True)
    if not only_page:
        found = _measure(run.QUICK if quick else run.FULL, console)
        if quick:
            print(*(f"{name}\n\n{table}\n" for name, table in page.tables(found).items()), sep="\n")
            return
        results.write(found, results.FILE)
    page.write(results.read())
    print(page.PAGE)


def _measure(plan: run.Plan, console: Console) -> results.Results:
    # The PATH of an ordinary user does not have the folder of nginx.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    if missing := [package for name, package in _PROGRAMS.items() if not shutil.which(name)]:
        raise click.UsageError(f"make bench needs apt-get install {' '.join(missing)}")
    try:
        binaries = build.ensure([*build.CORE, build.ISTIOD, build.POD_SECURITY], console)
        netns.enter()
        with tempfile.TemporaryDirectory(prefix="mendix-mesh-bench-") as folder:
            home = Path(folder)
            with ControlPlane(home / "plane", binaries) as plane:
                return run.measure(plan, plane, home, console)
    except (
        build.BuildError, netns.NetworkError, load.LoadError, ProcessError, TimeoutError,
    ) as error:  # fmt: skip
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
