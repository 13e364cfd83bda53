"""`mendix-mesh doctor`: report whether new pods would be in the mesh, and if not, why."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from webhook.cli._cluster import (
    ask,
    cluster_errors,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
)
from webhook.cli._errors import warn
from webhook.cli._output import FORMATS, Printer
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import Diagnosis, Examined, apply, by_object, examine, repairs
from webhook.cluster.doctor.facts import Facts, Place, places
from webhook.cluster.doctor.findings import Repair
from webhook.cluster.doctor.preflight import Preflight, Result, is_good, preflight
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.policy.words import counted, listed


@click.command(
    "doctor",
    epilog="""Examples:

    mendix-mesh doctor

    mendix-mesh doctor -n mendix-apps -o json

    mendix-mesh doctor --fix --dry-run

    mendix-mesh doctor --pre

    mendix-mesh doctor --wait 300

    Exit codes: 0 no errors found, warnings are possible; 1 an error keeps pods out of the mesh, or
    with --pre, prevents an install; 2 the cluster can't be reached, or no namespace is enrolled or
    selected.""",
)
@namespaces_option
@settings_options
@click.option(
    "--pre", is_flag=True,
    help="Check the cluster before an install: versions, mesh, cert-manager, rights, order of "
    "webhooks.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0, metavar="SECONDS",
    help="Repeat until there are no errors, at most for this time.",
)  # fmt: skip
@click.option(
    "--fix", is_flag=True,
    help="Apply the safe fixes until none is left, then examine again.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="With --fix: only validate on the API server.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: do not ask for confirmation.")
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    settings: Path | None,
    release_namespace: str,
    pre: bool,
    wait: float,
    fix: bool,
    dry_run: bool,
    yes: bool,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Report what keeps new pods out of the mesh, with evidence and a fix for each finding.

    Without -n, every enrolled namespace is examined. The last test creates a pod in a dry run on
    the API server, so nothing is stored. Only --fix changes the cluster. Findings that you have no
    right to check are listed.
    """
    if not fix and (dry_run or yes):
        raise click.UsageError("--dry-run and --yes belong to --fix")
    if pre and (fix or namespaces or settings):
        raise click.UsageError("--pre covers the whole cluster; remove --fix, -n and --settings")
    cluster = connect(kubeconfig, context)
    printer = Printer(output)
    if pre:
        with cluster_errors():
            checked = _repeated(lambda: preflight(cluster, release_namespace), is_good, wait)
        _show_preflight(printer, checked)
        raise click.exceptions.Exit(0 if is_good(checked) else 1)
    with cluster_errors():
        read = cluster_settings(cluster, release_namespace, settings)
        enrollment = Enrollment.read(cluster)
        warn(*enrollment.notes)
        inventory = Inventory(cluster)

        def found() -> list[Place]:
            # Read again each time, because a fix changes namespaces.
            return places(inventory, enrollment, read, namespaces)

        fixed: list[str] = []
        if fix:
            fixed = _fix(
                cluster, lambda: repairs(Facts(cluster, read), found()), yes=yes, dry_run=dry_run
            )
        diagnosis = _repeated(
            lambda: examine(Facts(cluster, read), found()), lambda one: one.is_good, wait
        )
        diagnosis.fixed = fixed
    if printer.is_table:
        _show(printer, diagnosis)
    else:
        printer.data(diagnosis)
    if not diagnosis.is_good:
        raise click.exceptions.Exit(1)


#: Seconds between two examinations with --wait.
_PAUSE = 2.0
_T = TypeVar("_T")


def _repeated(examine: Callable[[], _T], is_good: Callable[[_T], bool], wait: float) -> _T:
    """Return the first good result, or the last one within this number of seconds."""
    end = time.monotonic() + wait
    while True:
        found = examine()
        left = end - time.monotonic()
        if is_good(found) or left <= 0:
            return found
        time.sleep(min(_PAUSE, left))


def _fix(
    cluster: Cluster, planned: Callable[[], list[Repair]], *, yes: bool, dry_run: bool
) -> list[str]:
    """Apply repairs until none is left, asking for each round, and return what was changed.

    A repair can uncover another one. If one fails, the others are still applied.
    """
    done: list[str] = []
    failed: set[str] = set()
    while True:
        found = [one for one in planned() if one.what not in {*done, *failed}]
        if not found and not done and not failed:
            click.echo("--fix has nothing to change", err=True)
        for repair in found:
            click.echo(f"{repair.id}: {repair.what}", err=True)
        if found and not yes and not dry_run:
            ask(f"Apply {counted(len(found), 'change')}?")
        for group in by_object(found):
            applied = _applied(cluster, group, dry_run=dry_run)
            (done.extend if applied else failed.update)(one.what for one in group)
        if dry_run:
            return []
        if not found:
            return done


def _applied(cluster: Cluster, group: Sequence[Repair], *, dry_run: bool) -> bool:
    """Apply the repairs of one object, and return whether that succeeded."""
    try:
        warnings = apply(cluster, group, dry_run=dry_run)
    except StatusError as error:
        for repair in group:
            click.echo(f"not fixed: {repair.what}: {error}", err=True)
        return False
    warn(*warnings)
    for repair in group:
        click.echo(f"{'would be fixed' if dry_run else 'fixed'}: {repair.what}", err=True)
    return True


_RESULTS: dict[Result, tuple[str, str]] = {
    "ok": ("✔", "green"), "warning": ("!", "yellow"), "error": ("✘", "bold red"),
    "unknown": ("?", "yellow"),
}  # fmt: skip


def _show_preflight(printer: Printer, checked: Sequence[Preflight]) -> None:
    if not printer.is_table:
        printer.data({"checks": checked})
        return
    for one in checked:
        mark, style = _RESULTS[one.result]
        text = f"could not check: {one.text}" if one.result == "unknown" else one.text
        printer.parts((f"{mark} {one.id:<12}", style), (f"  {text}", ""))
        if one.fix:
            printer.parts(("    fix: ", "green"), (one.fix, ""))


_WOULD = {
    "yes": ("✔", "green", "new pods join the mesh"),
    "no": ("✘", "bold red", "new pods do not join the mesh"),
    "unknown": ("?", "yellow", "could not test whether new pods join the mesh"),
}
_STYLES = {"error": ("✘", "bold red"), "warning": ("!", "yellow")}


def _show(printer: Printer, diagnosis: Diagnosis) -> None:
    """Print a line for each namespace, then each finding with its evidence, meaning and fix."""
    width = max(len(one.name) for one in diagnosis.namespaces)
    for one in diagnosis.namespaces:
        _verdict(printer, one, width)
    for finding in diagnosis.roots:
        mark, style = _STYLES[finding.severity]
        names = finding.namespaces
        printer.parts()
        printer.parts((f"{mark} {finding.id}", style), (f"  {listed(names)}", "dim"))
        printer.parts((f"    {finding.evidence}", ""))
        printer.parts((f"    {finding.means}", "dim"))
        if finding.repairs:
            command = " ".join(["mendix-mesh doctor --fix", *(f"-n {name}" for name in names)])
            printer.parts(("    fix: ", "green"), (f"{command} ({'; '.join(finding.repairs)})", ""))
        else:
            printer.parts(("    fix: ", "green"), (finding.fix, ""))
        for caused in diagnosis.consequences(finding):
            mark, style = _STYLES[caused.severity]
            printer.parts(
                ("    consequence: ", "dim"),
                (f"{mark} {caused.id}", style),
                (f"  {caused.evidence}", ""),
            )
    for unchecked in diagnosis.unchecked:
        printer.parts()
        printer.parts((f"? {unchecked.id}", "yellow"), (f"  {listed(unchecked.namespaces)}", "dim"))
        printer.parts((f"    could not check: {unchecked.why}", ""))
    severities = [finding.severity for finding in diagnosis.roots]
    counts = [
        _count(severities.count("error"), "error"),
        _count(severities.count("warning"), "warning"),
    ]
    if consequences := len(diagnosis.findings) - len(diagnosis.roots):
        counts.append(counted(consequences, "consequence"))
    if diagnosis.unchecked:
        counts.append(f"{counted(len(diagnosis.unchecked), 'finding')} could not be checked")
    printer.parts()
    printer.parts((", ".join(counts), "bold"))


def _count(number: int, what: str) -> str:
    return counted(number, what) if number else f"no {what}s"


def _verdict(printer: Printer, one: Examined, width: int) -> None:
    mark, style, text = _WOULD[one.meshed]
    enrolled = ", ".join(filter(None, (one.mesh, one.mode))) or "not enrolled"
    printer.parts((f"{mark} ", style), (f"{one.name:<{width}}", "bold"),
                  (f"  {text}", style), (f"  ({enrolled})", "dim"))  # fmt: skip
