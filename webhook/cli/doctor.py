"""`mendix-mesh doctor`: would a pod that is created now be meshed, and if not, why."""

from collections.abc import Sequence
from pathlib import Path

import click

from webhook.cli._cluster import (
    ask,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
    told_in_one_line,
)
from webhook.cli._errors import warn
from webhook.cli._output import FORMATS, Printer
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor import Diagnosis, Examined, apply, examine, fixes
from webhook.cluster.doctor.facts import Facts, places
from webhook.cluster.doctor.findings import Fix
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.policy.words import counted, listed


@click.command(
    "doctor",
    epilog="""Examples:

    mendix-mesh doctor

    mendix-mesh doctor -n mendix-apps -o json

    mendix-mesh doctor --fix --dry-run

    Exit codes: 0 nothing keeps pods out of the mesh; 1 something does; 2 no connection, or no
    namespace to look at.""",
)
@namespaces_option
@settings_options
@click.option("--fix", is_flag=True, help="Mend what is safe and ours, then look again.")
@click.option("--dry-run", is_flag=True, help="With --fix: ask the API server, change nothing.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: do not ask.")
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
    """Tell what keeps pods that are created now out of the mesh; each with evidence and a mend.

    Without -n: in every namespace that is enrolled. The final proof is a pod that the API server is
    asked for by a dry run. Nothing is changed but by --fix; what you may not look at is told.
    """
    if not fix and (dry_run or yes):
        raise click.UsageError("--dry-run and --yes belong to --fix")
    cluster = connect(kubeconfig, context)
    with told_in_one_line():
        read = cluster_settings(cluster, release_namespace, settings)
        enrollment = Enrollment.read(cluster)
        warn(*enrollment.notes)
        inventory = Inventory(cluster)
        found = places(inventory, enrollment, read, namespaces)
        mended: list[str] = []
        if fix:
            mended = _mend(cluster, fixes(Facts(cluster, read), found), yes=yes, dry_run=dry_run)
        if mended:
            # What was seen before holds no more.
            found = places(inventory, enrollment, read, namespaces)
        diagnosis = examine(Facts(cluster, read), found)
        diagnosis.mended = mended
    printer = Printer(output)
    if printer.is_table:
        _show(printer, diagnosis)
    else:
        printer.data(diagnosis)
    if not diagnosis.is_good:
        raise click.exceptions.Exit(1)


def _mend(cluster: Cluster, found: Sequence[Fix], *, yes: bool, dry_run: bool) -> list[str]:
    """Show the fixes, ask, and apply them; gives those that were. One that fails stops no other."""
    if not found:
        click.echo("there is nothing that --fix can mend", err=True)
    for fix in found:
        click.echo(f"{fix.id}: {fix.what}", err=True)
    if found and not yes and not dry_run:
        ask("Mend them?" if len(found) > 1 else "Mend it?")
    done = []
    for fix in found:
        try:
            warnings = apply(cluster, fix, dry_run=dry_run)
        except RefusedError as error:
            click.echo(f"not mended: {fix.what}: {error}", err=True)
            continue
        warn(*warnings)
        click.echo(f"{'would be mended' if dry_run else 'mended'}: {fix.what}", err=True)
        if not dry_run:
            done.append(fix.what)
    return done


_WOULD = {
    "yes": ("✔", "green", "a pod that is created now is meshed"),
    "no": ("✘", "bold red", "a pod that is created now is not meshed"),
    "unknown": ("?", "yellow", "whether a pod would be meshed could not be tried"),
}
_STYLES = {"error": ("✘", "bold red"), "warning": ("!", "yellow")}


def _show(printer: Printer, diagnosis: Diagnosis) -> None:
    """A line a namespace; then every finding with its evidence, meaning and mend."""
    width = max(len(one.name) for one in diagnosis.namespaces)
    for one in diagnosis.namespaces:
        _verdict(printer, one, width)
    for finding in diagnosis.findings:
        mark, style = _STYLES[finding.severity]
        printer.parts()
        printer.parts((f"{mark} {finding.id}", style), (f"  {listed(finding.namespaces)}", "dim"))
        printer.parts((f"    {finding.evidence}", ""))
        printer.parts((f"    {finding.means}", "dim"))
        printer.parts(("    mend: ", "green"), (finding.mend, ""))
    for unseen in diagnosis.unseen:
        printer.parts()
        printer.parts((f"? {unseen.id}", "yellow"), (f"  {listed(unseen.namespaces)}", "dim"))
        printer.parts((f"    could not look: {unseen.why}", ""))
    severities = [finding.severity for finding in diagnosis.findings]
    counts = [
        _count(severities.count("error"), "error"),
        _count(severities.count("warning"), "warning"),
    ]
    if diagnosis.unseen:
        counts.append(f"{len(diagnosis.unseen)} could not be looked for")
    printer.parts()
    printer.parts((", ".join(counts), "bold"))


def _count(number: int, what: str) -> str:
    return counted(number, what) if number else f"no {what}s"


def _verdict(printer: Printer, one: Examined, width: int) -> None:
    mark, style, text = _WOULD[one.meshed]
    enrolled = f"{one.mesh}, {one.mode}" if one.mesh else "not enrolled"
    printer.parts((f"{mark} ", style), (f"{one.name:<{width}}", "bold"),
                  (f"  {text}", style), (f"  ({enrolled})", "dim"))  # fmt: skip
