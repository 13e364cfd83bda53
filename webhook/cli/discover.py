"""`mendix-mesh discover`: find and enroll Mendix namespaces, and print settings for the mesh."""

from collections.abc import Iterator, Sequence

import click

from webhook.cli._cluster import (
    ask,
    cluster_errors,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._output import FORMATS, Printer, Styled
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import mesh_reading, mesh_settings
from webhook.cluster.judge import Judge, restarting
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces import discovery
from webhook.cluster.namespaces.discovery import Discovery, Found, LabelChange
from webhook.cluster.namespaces.scope import check_exist
from webhook.cluster.plaintext import closing
from webhook.cluster.plaintext.closing import ClosingStep
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.settings import Settings
from webhook.policy.validate import MODES
from webhook.policy.words import counted, listed

#: The most namespaces that a command in a message names.
_MOST_NAMED = 5


@click.command(
    "discover",
    epilog="""Examples:

    mendix-mesh discover

    mendix-mesh discover --enroll --mesh linkerd -n mendix-apps --dry-run

    mendix-mesh discover --enroll --strict -n mendix-apps

    mendix-mesh discover --settings > mesh-settings.yaml

    Exit codes: 0 done; 1 with --strict: a caller would be cut off, or a namespace can't be closed
    to plaintext; with --settings: a part of the mesh's configuration could not be read; 2 the
    cluster can't be reached, a right is missing, --settings finds no mesh, or -n with --enroll
    names a namespace without Mendix.""",
)
@namespaces_option
@click.option(
    "--settings", "settings_only", is_flag=True,
    help="Print chart values with the settings that match the installed mesh.",
)  # fmt: skip
@click.option(
    "--enroll", is_flag=True, help="Label the namespaces, so that their pods join the mesh."
)
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="With --enroll: the mesh. Default: the mesh named by the namespace's labels and "
    "annotations.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(MODES),
    help="With --enroll: the mode. Default for a new namespace: warn.",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True,
    help="With --enroll: also close the namespaces to plaintext, if no caller would be cut off.",
)  # fmt: skip
@click.option(
    "--cut-off-anyway", is_flag=True,
    help="With --strict: close them even if known callers are cut off.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="With --enroll: only validate on the API server.")
@click.option("-y", "--yes", is_flag=True, help="With --enroll: do not ask for confirmation.")
@click.option(
    "--release-namespace", default="mendix-mesh", show_default=True, metavar="NAME",
    help="With --enroll: namespace in which mendix-mesh is installed, to read its settings.",
)  # fmt: skip
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    settings_only: bool,
    enroll: bool,
    mesh: str | None,
    mode: str | None,
    strict: bool,
    cut_off_anyway: bool,
    dry_run: bool,
    yes: bool,
    release_namespace: str,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Find Mendix namespaces by their custom resources, and show which are enrolled.

    With -n, only these namespaces are read. With --enroll, namespaces that are not enrolled are
    labelled. With --strict, they are also closed to plaintext, after a search for callers that
    would be cut off.

    With --settings, print the chart's `settings:` for the installed mesh, read from the mesh's own
    configuration. Settings whose default is correct are left out.
    """
    if settings_only and (enroll or namespaces):
        raise click.UsageError("--settings covers the whole cluster; remove --enroll and -n")
    if not enroll and (mesh or mode or strict or dry_run or yes):
        raise click.UsageError("--mesh, --mode, --strict, --dry-run and --yes need --enroll")
    if cut_off_anyway and not strict:
        raise click.UsageError("--cut-off-anyway needs --strict")
    cluster = connect(kubeconfig, context)
    if settings_only:
        _print_settings(cluster, output)
        return
    with cluster_errors():
        check_exist(Inventory(cluster), namespaces)
        found = discovery.discover(cluster, namespaces)
        warn(*found.notes)
        others = sorted(set(namespaces) - {one.name for one in found.namespaces})
        if others and enroll:
            raise BadInputError(_without_mendix(others))
        warn(*(f"namespace {name} has no Mendix custom resource" for name in others))
        if not enroll:
            _show(Printer(output), found)
            return
        changes, unclear = discovery.plan(cluster, found.namespaces, mesh, mode)
        if unclear:
            raise BadInputError("; ".join(unclear))
        settings = cluster_settings(cluster, release_namespace, options="--release-namespace")
        meshes = _meshes(found.namespaces, changes)
        warn(*_compared(cluster, settings, set(meshes.values())))
        steps = _steps(cluster, settings, meshes) if strict else []
        _announce(changes, steps)
        if not cut_off_anyway and not all(step.is_safe for step in steps):
            click.echo(
                "nothing was changed, because callers would be cut off: bring them into the mesh "
                "first, or give --cut-off-anyway",
                err=True,
            )
            raise click.exceptions.Exit(1)
        _confirm(changes, steps, yes=yes, dry_run=dry_run)
        if changes or not steps:
            _enroll(cluster, changes, installed=found.installed, dry_run=dry_run)
        _close(cluster, steps, dry_run=dry_run)
        if output != "table":
            data = {"changes": changes, "dryRun": dry_run} | ({"strict": steps} if strict else {})
            Printer(output).data(data)
    if any(step.blocked for step in steps):
        raise click.exceptions.Exit(1)


def _without_mendix(names: list[str]) -> str:
    are = "namespace" if len(names) == 1 else "namespaces"
    have = "has" if len(names) == 1 else "have"
    return (
        f"nothing was changed: {are} {', '.join(names)} {have} no Mendix custom resource; correct "
        f"the name, or enroll with kubectl label namespace {' '.join(names)} "
        f"{MESH_LABEL}=linkerd {MODE_LABEL}=warn (meshes: {', '.join(MESHES)})"
    )


def _show(printer: Printer, found: Discovery) -> None:
    if not printer.is_table:
        printer.data(found)
        return
    if not found.namespaces:
        click.echo("no Mendix custom resource found in the cluster or these namespaces", err=True)
        return
    printer.table(
        ("NAMESPACE", "MESH", "MODE", "OPERATOR", "APPS", "MISSING"),
        [row for one in found.namespaces for row in _rows(one)],
    )


def _rows(found: Found) -> list[Sequence[str | Styled]]:
    """Return the rows of a namespace: one, and another for each further missing thing."""
    mesh = Styled(found.mesh or "-", "green" if found.mesh in MESHES else "red")
    apps = str(found.resources.get("mendixapps", 0))
    first, *others = found.missing or ["-"]
    style = "yellow" if found.missing else ""
    return [
        (Styled(found.name, "bold"), mesh, found.mode or "-", found.operator, apps,
         Styled(first, style)),
        *[("", "", "", "", "", Styled(other, style)) for other in others],
    ]  # fmt: skip


def _print_settings(cluster: Cluster, output: str) -> None:
    """Print the settings for the installed meshes, and on stderr what could not be read."""
    with cluster_errors():
        readings = mesh_reading.everything(cluster, Settings(), ("linkerd", "istio"))
    unread = [one for reading in readings for one in reading.unread]
    installed = [reading.installed for reading in readings if reading.installed]
    found, disagreements = mesh_settings.beside_defaults(installed)
    warn(*map(str, unread))
    if not installed:
        raise BadInputError(
            "no configuration of Linkerd or Istio found in this cluster; install the mesh first"
        )
    warn(*(note for one in installed for note in one.notes), *disagreements)
    if output == "json":
        sources = {one.setting: one.source for one in found}
        meshes = [{"name": one.mesh, "version": one.version, "read": one.read} for one in installed]
        document = mesh_settings.document(found)
        Printer(output).data({"settings": document, "sources": sources, "meshes": meshes,
                              "unread": [str(one) for one in unread]})  # fmt: skip
    else:
        click.echo(mesh_settings.yaml_text(installed).encode(), nl=False)
    if unread:
        raise click.exceptions.Exit(1)


def _compared(cluster: Cluster, settings: Settings, meshes: set[str]) -> Iterator[str]:
    """Yield a line for each mesh that is not as the settings say, or that could not be compared."""
    known = sorted(meshes & mesh_reading.CONFIGURED_BY.keys())
    readings = mesh_reading.everything(
        cluster, settings, {mesh_reading.CONFIGURED_BY[mesh] for mesh in known}
    )
    by_mesh = {one.installed.mesh: one for one in readings if one.installed}
    for mesh in known:
        reading = by_mesh.get(mesh_reading.CONFIGURED_BY[mesh])
        found = mesh_reading.differing(reading, mesh, settings) if reading else ()
        if names := [one.text for one in found if one.severity == "error"]:
            yield (
                f"{mesh} pods may be denied, because the settings do not match the mesh: "
                f"{'; '.join(names)}. To print the right settings: mendix-mesh discover --settings"
            )
    unread = [str(one) for reading in readings for one in reading.unread if one.error]
    if unread:
        yield f"the settings were compared with only a part of the mesh: {'; '.join(unread)}"


def _meshes(found: Sequence[Found], changes: Sequence[LabelChange]) -> dict[str, str]:
    """Return the mesh that each namespace has, or gets by these changes."""
    meshes = {one.name: one.mesh for one in found}
    return meshes | {
        one.name: one.labels[MESH_LABEL] for one in changes if MESH_LABEL in one.labels
    }


def _steps(cluster: Cluster, settings: Settings, meshes: dict[str, str]) -> list[ClosingStep]:
    """Return the steps that close the namespaces to plaintext."""
    return closing.plan(
        cluster, Judge(settings), PolicyObjects(cluster, settings), list(meshes.items())
    )


def _announce(changes: Sequence[LabelChange], steps: Sequence[ClosingStep]) -> None:
    """Show the planned changes, and the callers that would be cut off."""
    for change in changes:
        wanted = ", ".join(f"{key}={value}" for key, value in change.labels.items())
        before = ", ".join(f"{key}={value}" for key, value in change.before.items())
        click.echo(f"{change.name}: {wanted}" + (f" (now {before})" if before else ""), err=True)
    for step in steps:
        if step.blocked:
            click.echo(f"{step.name}: can't be closed to plaintext: {step.blocked}", err=True)
        elif step.writes:
            click.echo(f"{step.name}: {step.writes}", err=True)
        else:
            refuses = "its policy already refuses" if step.left else "is already closed to"
            click.echo(f"{step.name}: {refuses} plaintext", err=True)
        for line in step.left:
            click.echo(f"  stays open: {line}", err=True)
        for caller in step.cut_off.callers:
            click.echo(f"  cut off: {caller.who}: {caller.why}; {caller.fix}", err=True)
        for line in step.cut_off.unknown:
            click.echo(f"  could not check {line}", err=True)


def _confirm(
    changes: Sequence[LabelChange], steps: Sequence[ClosingStep], *, yes: bool, dry_run: bool
) -> None:
    """Ask for confirmation if there is something to change and no option forbids it."""
    written = [step for step in steps if step.writes]
    if dry_run or yes or not (changes or written):
        return
    actions = [f"label {counted(len(changes), 'namespace')}"] if changes else []
    actions += [f"close {counted(len(written), 'namespace')} to plaintext"] if written else []
    ask(f"{' and '.join(actions).capitalize()}?")


def _enroll(
    cluster: Cluster, changes: Sequence[LabelChange], *, installed: bool, dry_run: bool
) -> None:
    """Label the namespaces, up to the first error."""
    if not changes:
        click.echo("nothing to do: all namespaces are already enrolled like this", err=True)
        return
    for number, change in enumerate(changes):
        try:
            warnings = discovery.enroll(cluster, change, dry_run=dry_run)
        except StatusError as error:
            done = ", ".join(one.name for one in changes[:number]) or "none"
            raise BadInputError(
                f"namespace {change.name} was not labelled: {error}; labelled so far: {done}"
            ) from None
        warn(*warnings)
        click.echo(f"{change.name} {'would be' if dry_run else 'is'} labelled", err=True)
    for line in () if dry_run else _advice(changes, installed=installed):
        click.echo(line, err=True)


#: What each mode does with new pods outside the mesh.
_NOW = {
    "enforce": "new pods outside the mesh are now denied",
    "warn": "new pods outside the mesh are now admitted with a warning",
    "audit": "new pods outside the mesh are now admitted and only recorded",
}


def _advice(changes: Sequence[LabelChange], *, installed: bool) -> Iterator[str]:
    """Yield what the changed labels do, and the command that shows the running pods."""
    if changes and not installed:
        yield (
            "mendix-mesh is not installed, so the labels have no effect yet; mendix-mesh explain "
            "install shows how to install it"
        )
        return
    joined = [
        one.name for one in changes
        if one.labels.get(MESH_LABEL, one.before.get(MESH_LABEL)) != one.before.get(MESH_LABEL)
    ]  # fmt: skip
    if joined:
        yield (
            f"new pods of {listed(joined)} join the mesh; to find running pods outside the mesh: "
            f"mendix-mesh audit{_selected(joined)}"
        )
    for mode, words in _NOW.items():
        names = [
            one.name for one in changes
            if one.name not in joined and one.labels.get(MODE_LABEL) == mode
        ]  # fmt: skip
        if names:
            yield f"{words} in {listed(names)}; running pods: mendix-mesh audit{_selected(names)}"


def _selected(names: Sequence[str]) -> str:
    """Return the options that select namespaces; for many, none: these are all enrolled ones."""
    return "".join(f" -n {name}" for name in names) if len(names) <= _MOST_NAMED else ""


def _close(cluster: Cluster, steps: Sequence[ClosingStep], *, dry_run: bool) -> None:
    """Close the namespaces to plaintext, up to the first error."""
    for step in steps:
        if not step.writes:
            continue
        try:
            warnings = closing.write(cluster, step, dry_run=dry_run)
        except StatusError as error:
            raise BadInputError(
                f"namespace {step.name} was not closed to plaintext: {error}"
            ) from None
        warn(*warnings)
        done = "would be" if dry_run else "is"
        late = ""
        if step.mesh == "linkerd":
            late = f"; running pods after their restart: {restarting.command(step.name)}"
        click.echo(f"{step.name} {done} closed to plaintext{late}", err=True)
