"""The cluster's tests on other releases: `make test-cluster`, with K8S=1.30 or ISTIO=1.30.

`make matrix` runs all. Only the modules that depend on the API server run, or those that depend on
Istio, each by itself. The output of each is kept in build/compatibility/. An interrupted
`make matrix` continues: with --continue, a module that has passed there is not run again.
`make clean` deletes it. A release whose modules have all run gets its line in compatibility.json,
from which docs/compatibility.md is made.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from tests.cluster import build, older

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("compatibility.json")
OUTPUT = ROOT / "build" / "compatibility"


class Product(NamedTuple):
    """What has several releases."""

    name: str
    #: The variable that chooses the release.
    variable: str
    #: The modules of tests in which another release shows what is different.
    modules: tuple[str, ...]


KUBERNETES = Product(
    "Kubernetes",
    "MENDIX_MESH_KUBERNETES",
    ("smoke", "chart", "conditions", "engine", "engine_opt_in", "engine_outage", "engine_upgrade",
     "joins", "denials", "fixtures", "updates", "namespaces", "doctor", "restart", "audit"),
)  # fmt: skip
ISTIO = Product(
    "Istio",
    "MENDIX_MESH_ISTIO",
    ("istio_table", "istio_joins", "istio_denials", "istio_inputs", "istio_values",
     "istio_gateways", "istio_openshift", "audit_istio", "plaintext_istio", "settings",
     "engine_outage", "migration", "aws", "wire"),
)  # fmt: skip


class Tally(Counter[str]):
    """The number of tests that passed, failed, and were left out for each reason."""

    def read(self, output: str) -> None:
        """Add the numbers that pytest prints."""
        *_, last = output.rstrip().splitlines() or [""]
        for count, word in re.findall(r"(\d+) (passed|failed|error)", last):
            self["passed" if word == "passed" else "failed"] += int(count)
        for count, reason in re.findall(r"^left out: (\d+) need (.+)$", output, re.MULTILINE):
            self[reason] += int(count)

    def left_out(self) -> dict[str, int]:
        """Return the reasons and their numbers."""
        return {why: count for why, count in self.items() if why not in ("passed", "failed")}


def run(
    product: Product,
    release: str,
    modules: Sequence[str],
    console: Console,
    *,
    continued: bool = False,
) -> Tally:
    """Run modules of tests on a release. Show what fails, and a line for each module."""
    tally = Tally()
    title = f"{product.name} {release}"
    folder = OUTPUT / title
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, product.variable: release}
    for module in modules:
        kept = folder / f"{module}.txt"
        one = Tally()
        one.read(kept.read_text() if continued and kept.exists() else "")
        if one["failed"] or not one:
            started = time.monotonic()
            tests = "tests/wire" if module == "wire" else f"tests/cluster/test_{module}.py"
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", tests], cwd=ROOT, env=environment, text=True,
                check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            one = Tally()
            one.read(done.stdout)
            # 5: all tests were left out.
            if done.returncode not in (0, 5):
                one["failed"] = one["failed"] or 1
                console.file.write(done.stdout)
            kept.write_text(done.stdout if not one["failed"] else f"{done.stdout}\n1 failed\n")
            took = f", {time.monotonic() - started:.0f} s"
        else:
            took = ", as before"
        tally.update(one)
        said = ", ".join(f"{count} {what}" for what, count in one.items())
        console.print(f"{title}, {module}: {said}{took}", highlight=False, soft_wrap=True)
    return tally


def versions(product: Product = KUBERNETES) -> dict[str, str]:
    """Return the version of each release that is tested, the oldest first.

    Istio's are dates, because its Go modules have only commits.
    """
    found = {
        name: pin.version for name, pin in older.pins(build.TOOLS / product.name.lower()).items()
    }
    pinned = _pinned(product)
    newest = build.NEWEST_ISTIO if product == ISTIO else pinned.rpartition(".")[0]
    found[newest] = pinned
    return {name: _day(version) or version for name, version in found.items()}


def _pinned(product: Product) -> str:
    module = "istio.io/istio" if product == ISTIO else "k8s.io/kubernetes"
    text = (build.TOOLS / product.name.lower() / "go.mod").read_text()
    (version,) = re.findall(rf"\b{re.escape(module)} v(\S+)", text)
    return str(version)


def _day(version: str) -> str:
    """Return the day of a commit, like 2026-08-26; empty if the version is not a commit's."""
    found = re.search(r"-(\d{4})(\d\d)(\d\d)\d{6}-", version)
    return "-".join(found.groups()) if found else ""


def record(product: Product, release: str, tally: Tally) -> None:
    """Write a release's result into compatibility.json."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    of_product = found.setdefault(product.name, {})
    of_product[release] = {
        "version": versions(product)[release],
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "passed": tally["passed"],
        "failed": tally["failed"],
        "left out": tally.left_out(),
    }
    ordered = sorted(of_product, key=lambda one: [int(part) for part in one.split(".")])
    found[product.name] = {one: of_product[one] for one in ordered}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--istio", "istio", is_flag=True, help="The releases are Istio's.")
@click.option("--all", "every", is_flag=True, help="Run all supported releases of both.")
@click.option("--continue", "continued", is_flag=True, help="Leave out what has passed before.")
@click.option(
    "--modules", help="Run only these modules, for example chart,doctor; nothing is recorded."
)
def main(
    names: tuple[str, ...], istio: bool, every: bool, continued: bool, modules: str | None
) -> None:
    """Run the tests that depend on the API server on other releases of Kubernetes, or of Istio.

    Example: python -m tests.cluster.compatibility 1.30 1.33
    """
    console = Console()
    chosen = ISTIO if istio else KUBERNETES
    known = list(versions(chosen))
    if unknown := [name for name in names if name not in known]:
        raise click.ClickException(f"unknown release {unknown[0]}; allowed: {', '.join(known)}")
    wanted = [(chosen, name) for name in names or known[-1:]]
    if every:
        wanted = [(product, name) for product in (KUBERNETES, ISTIO) for name in versions(product)]
    table = Table("Release", "passed", "failed", "left out")
    failed = 0
    for product, name in wanted:
        asked = modules.split(",") if modules else product.modules
        tally = run(product, name, asked, console, continued=continued)
        if not modules:
            record(product, name, tally)
        failed += tally["failed"]
        left_out = "\n".join(f"{count}: {why}" for why, count in tally.left_out().items())
        title = f"{product.name} {name}"
        table.add_row(title, str(tally["passed"]), str(tally["failed"]), left_out)
    console.print(table)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
