"""`mendix-mesh doctor`: report whether new pods would be in the mesh, and if not, why."""

from collections.abc import Sequence
from pathlib import Path

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
from webhook.cluster.doctor import Diagnosis, Examined, apply, examine, repairs
from webhook.cluster.doctor.facts import Facts, places
from webhook.cluster.doctor.findings import Repair
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.policy.words import counted, listed


@click.command(
    "doctor",
    epilog="""Examples:

    mendix-mesh doctor

    mendix-mesh doctor -n mendix-apps -o json

    mendix-mesh doctor --fix --dry-run

    Exit codes: 0 no errors found, warnings are possible; 1 an error keeps pods out of the mesh;
    2 the cluster can't be reached, or no namespace is enrolled or selected.""",
)
@namespaces_option
@settings_options
@click.option("--fix", is_flag=True, help="Apply the safe fixes, then examine again.")
@click.option("--dry-run", is_flag=True, help="With --fix: only validate on the API server.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: do not ask for confirmation.")
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    settings: Path | None,
    release_namespace: str,
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
    cluster = connect(kubeconfig, context)
    with cluster_errors():
        read = cluster_settings(cluster, release_namespace, settings)
        enrollment = Enrollment.read(cluster)
        warn(*enrollment.notes)
        inventory = Inventory(cluster)
        found = places(inventory, enrollment, read, namespaces)
        fixed: list[str] = []
        if fix:
            planned = repairs(Facts(cluster, read), found)
            fixed = _fix(cluster, planned, yes=yes, dry_run=dry_run)
        if fixed:
            # Read the namespaces again, because they have changed.
            found = places(inventory, enrollment, read, namespaces)
        diagnosis = examine(Facts(cluster, read), found)
        diagnosis.fixed = fixed
    printer = Printer(output)
    if printer.is_table:
        _show(printer, diagnosis)
    else:
        printer.data(diagnosis)
    if not diagnosis.is_good:
        raise click.exceptions.Exit(1)


def _fix(cluster: Cluster, found: Sequence[Repair], *, yes: bool, dry_run: bool) -> list[str]:
    """Show the repairs, ask for confirmation, apply them, and return what was changed.

    If one repair fails, the others are still applied.
    """
    if not found:
        click.echo("--fix has nothing to change", err=True)
    for repair in found:
        click.echo(f"{repair.id}: {repair.what}", err=True)
    if found and not yes and not dry_run:
        ask(f"Apply {counted(len(found), 'change')}?")
    done = []
    for repair in found:
        try:
            warnings = apply(cluster, repair, dry_run=dry_run)
        except StatusError as error:
            click.echo(f"not fixed: {repair.what}: {error}", err=True)
            continue
        warn(*warnings)
        click.echo(f"{'would be fixed' if dry_run else 'fixed'}: {repair.what}", err=True)
        if not dry_run:
            done.append(repair.what)
    return done


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
    for finding in diagnosis.findings:
        mark, style = _STYLES[finding.severity]
        printer.parts()
        printer.parts((f"{mark} {finding.id}", style), (f"  {listed(finding.namespaces)}", "dim"))
        printer.parts((f"    {finding.evidence}", ""))
        printer.parts((f"    {finding.means}", "dim"))
        printer.parts(("    fix: ", "green"), (finding.fix, ""))
    for unchecked in diagnosis.unchecked:
        printer.parts()
        printer.parts((f"? {unchecked.id}", "yellow"), (f"  {listed(unchecked.namespaces)}", "dim"))
        printer.parts((f"    could not check: {unchecked.why}", ""))
    severities = [finding.severity for finding in diagnosis.findings]
    counts = [
        _count(severities.count("error"), "error"),
        _count(severities.count("warning"), "warning"),
    ]
    if diagnosis.unchecked:
        counts.append(f"{counted(len(diagnosis.unchecked), 'finding')} could not be checked")
    printer.parts()
    printer.parts((", ".join(counts), "bold"))


def _count(number: int, what: str) -> str:
    return counted(number, what) if number else f"no {what}s"


def _verdict(printer: Printer, one: Examined, width: int) -> None:
    mark, style, text = _WOULD[one.meshed]
    enrolled = f"{one.mesh}, {one.mode}" if one.mesh else "not enrolled"
    printer.parts((f"{mark} ", style), (f"{one.name:<{width}}", "bold"),
                  (f"  {text}", style), (f"  ({enrolled})", "dim"))  # fmt: skip
