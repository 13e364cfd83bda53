"""The cluster's tests on other versions: `make test-cluster K8S=1.30`, and `make matrix` for all.

Only the modules that depend on the API server run, each by itself. The output of each is kept in
build/compatibility/. An interrupted `make matrix` continues: with --continue, a module that has
passed there is not run again. `make clean` deletes it. A version whose modules have all run gets
its line in compatibility.json, from which docs/compatibility.md is made.
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

import click
from rich.console import Console
from rich.table import Table

from tests.cluster import build, older

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("compatibility.json")
OUTPUT = ROOT / "build" / "compatibility"
#: What is different in another API server shows in one of these.
MODULES = (
    "smoke", "chart", "conditions", "engine", "engine_opt_in", "engine_outage", "engine_upgrade",
    "joins", "denials", "fixtures", "updates", "namespaces", "doctor", "restart", "audit",
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
    kubernetes: str, modules: Sequence[str], console: Console, *, continued: bool = False
) -> Tally:
    """Run modules of tests on a version. Show what fails, and a line for each module."""
    tally = Tally()
    folder = OUTPUT / kubernetes
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "MENDIX_MESH_KUBERNETES": kubernetes}
    for module in modules:
        kept = folder / f"{module}.txt"
        one = Tally()
        one.read(kept.read_text() if continued and kept.exists() else "")
        if one["failed"] or not one:
            started = time.monotonic()
            command = [sys.executable, "-m", "pytest", "-q", f"tests/cluster/test_{module}.py"]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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
        console.print(
            f"Kubernetes {kubernetes}, {module}: {said}{took}", highlight=False, soft_wrap=True
        )
    return tally


def versions() -> dict[str, str]:
    """Return the supported versions of Kubernetes, by their short names, the oldest first."""
    newest = build.TOOLS / "kubernetes" / "go.mod"
    (pinned,) = re.findall(r"k8s\.io/kubernetes v(\S+)", newest.read_text())
    found = {name: version for name, (version, _) in older.pins().items()}
    return {**found, pinned.rpartition(".")[0]: pinned}


def record(version: str, tally: Tally) -> None:
    """Write a version's result into compatibility.json."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[version] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "passed": tally["passed"],
        "failed": tally["failed"],
        "left out": tally.left_out(),
    }
    ordered = sorted(found, key=lambda one: [int(part) for part in one.split(".")])
    RESULTS.write_text(json.dumps({one: found[one] for one in ordered}, indent=1) + "\n")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Run all supported versions.")
@click.option("--continue", "continued", is_flag=True, help="Leave out what has passed before.")
@click.option(
    "--modules", help="Run only these modules, for example chart,doctor; nothing is recorded."
)
def main(names: tuple[str, ...], every: bool, continued: bool, modules: str | None) -> None:
    """Run the tests that depend on the API server on other versions of Kubernetes.

    Example: python -m tests.cluster.compatibility 1.30 1.33
    """
    console = Console()
    known = versions()
    wanted = list(known) if every else list(names) or [list(known)[-1]]
    if unknown := [name for name in wanted if name not in known]:
        raise click.ClickException(f"unknown version {unknown[0]}; allowed: {', '.join(known)}")
    table = Table("Kubernetes", "passed", "failed", "left out")
    failed = 0
    for name in wanted:
        asked = modules.split(",") if modules else MODULES
        tally = run(name, asked, console, continued=continued)
        if not modules:
            record(known[name], tally)
        failed += tally["failed"]
        left_out = "\n".join(f"{count}: {why}" for why, count in tally.left_out().items())
        table.add_row(known[name], str(tally["passed"]), str(tally["failed"]), left_out)
    console.print(table)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
