"""`mendix-mesh discover`: which namespaces are Mendix's, and what keeps them out of the mesh."""

from collections.abc import Sequence

import click

from webhook.cli._cluster import (
    cluster_options,
    connect,
    interactive,
    namespaces_option,
    told_in_one_line,
)
from webhook.cli._errors import BadInputError
from webhook.cli._output import FORMATS, Printer, Styled
from webhook.cluster import discover
from webhook.cluster.connection import Cluster, RefusedError
from webhook.cluster.discover import Change, Discovery, Found
from webhook.policy.labels import MESHES
from webhook.policy.validate import MODES


@click.command(
    "discover",
    epilog="""Examples:

    mendix-mesh discover

    mendix-mesh discover --enrol --mesh linkerd -n mendix-apps --dry-run

    Exit codes: 0 done, 2 no connection, or a right is missing.""",
)
@namespaces_option
@click.option("--enrol", is_flag=True, help="Label the namespaces, so that their pods join.")
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="With --enrol: which mesh; else the one that the namespace's marks name.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(MODES),
    help="With --enrol: how strict; else warn where a namespace is new.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="With --enrol: ask the API server, change nothing.")
@click.option("-y", "--yes", is_flag=True, help="With --enrol: do not ask.")
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    enrol: bool,
    mesh: str | None,
    mode: str | None,
    dry_run: bool,
    yes: bool,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Find Mendix's namespaces by their custom resources, and tell which are in the mesh.

    With -n only those namespaces are looked at. With --enrol those that lack it are labelled.
    """
    if not enrol and (mesh or mode or dry_run or yes):
        raise click.UsageError("--mesh, --mode, --dry-run and --yes belong to --enrol")
    cluster = connect(kubeconfig, context)
    with told_in_one_line():
        found = discover.discover(cluster, namespaces)
        for note in found.notes:
            click.echo(f"Warning: {note}", err=True)
        for name in sorted(set(namespaces) - {one.name for one in found.namespaces}):
            click.echo(f"Warning: {name} has no Mendix custom resource", err=True)
        if not enrol:
            _show(Printer(output), found)
            return
        changes, unclear = discover.plan(cluster, found.namespaces, mesh, mode)
        if unclear:
            raise BadInputError("; ".join(unclear))
        _enrol(cluster, changes, yes=yes, dry_run=dry_run)
        if output != "table":
            Printer(output).data({"changes": changes, "dryRun": dry_run})


def _show(printer: Printer, found: Discovery) -> None:
    if not printer.is_table:
        printer.data(found)
        return
    if not found.namespaces:
        click.echo("no Mendix custom resource is in this cluster, or in these namespaces", err=True)
        return
    printer.table(
        ("NAMESPACE", "MESH", "MODE", "OPERATOR", "APPS", "MISSING"),
        [row for one in found.namespaces for row in _rows(one)],
    )


def _rows(found: Found) -> list[Sequence[str | Styled]]:
    """A row a namespace; what else is missing goes below."""
    mesh = Styled(found.mesh or "-", "green" if found.mesh in MESHES else "red")
    apps = str(found.resources.get("mendixapps", 0))
    first, *others = found.missing or ["-"]
    style = "yellow" if found.missing else ""
    return [
        (Styled(found.name, "bold"), mesh, found.mode or "-", found.operator, apps,
         Styled(first, style)),
        *[("", "", "", "", "", Styled(other, style)) for other in others],
    ]  # fmt: skip


def _enrol(cluster: Cluster, changes: Sequence[Change], *, yes: bool, dry_run: bool) -> None:
    """Show what is to be written, ask, and write it; stops at the first refusal."""
    if not changes:
        click.echo("nothing to do: every namespace is enrolled as asked", err=True)
        return
    for change in changes:
        wanted = ", ".join(f"{key}={value}" for key, value in change.labels.items())
        before = ", ".join(f"{key}={value}" for key, value in change.before.items())
        click.echo(f"{change.name}: {wanted}" + (f" (now {before})" if before else ""), err=True)
    if not dry_run and not yes:
        if not interactive():
            raise BadInputError("nobody is there to be asked: give --yes, or --dry-run")
        click.confirm(f"Label {len(changes)} namespaces?", abort=True, err=True)
    for number, change in enumerate(changes):
        try:
            warnings = discover.enrol(cluster, change, dry_run=dry_run)
        except RefusedError as error:
            done = ", ".join(one.name for one in changes[:number]) or "none"
            raise BadInputError(f"{change.name}: {error}; labelled so far: {done}") from None
        for warning in warnings:
            click.echo(f"Warning: {warning}", err=True)
        click.echo(f"{change.name} {'would be' if dry_run else 'is'} labelled", err=True)
    if not dry_run:
        click.echo("pods join when they are next created; see mendix-mesh audit", err=True)
