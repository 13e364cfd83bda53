"""`mendix-mesh restart`: restarts what is outside its mesh, one workload at a time."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import msgspec

from webhook.cli import _complete
from webhook.cli._cluster import (
    ask,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
    told_in_one_line,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._names import workload_names
from webhook.cli._output import FORMATS, Printer, Styled, tally
from webhook.cli._progress import bar
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Target, existing, target
from webhook.cluster.restart import Restarter, RestartError
from webhook.cluster.restart.plan import How, Name, Planner, RestartStep
from webhook.policy.words import counted

State = Literal["planned", "done", "failed", "interrupted", "not-done", "skipped", "left"]
#: What is to be done about a step; all others are only told of.
_DOES: dict[How, str] = {
    "restart": "restart",
    "evict": "evict its pods",
    "delete": "delete",
}


class Restarted(msgspec.Struct, kw_only=True):
    """A workload, and what became of it."""

    state: State
    how: How
    namespace: str
    kind: str
    name: str
    api_version: str = msgspec.field(name="apiVersion")
    #: What it is to Mendix, as `app leader`; empty where it is not Mendix's.
    role: str
    #: How many of its pods were outside the mesh.
    pods: int
    #: Why it failed, or was skipped or left; each with the way out.
    why: list[str]


class RestartReport(msgspec.Struct, kw_only=True):
    """All of them, in the order of the plan."""

    workloads: list[Restarted]
    summary: dict[State, int]
    dry_run: bool = msgspec.field(name="dryRun")
    interrupted: bool


@click.command(
    "restart",
    epilog="""Examples:

    mendix-mesh restart -n mendix-apps --dry-run

    mendix-mesh restart -n mendix-apps deployment/reports

    mendix-mesh restart --enrolled --yes --timeout 900

    Exit codes: 0 all that can be restarted is in the mesh; 1 a workload failed, or was skipped
    because a restart would not help; 2 no connection, or a right is missing; 130 Ctrl-C.""",
)
@click.argument(
    "workloads", nargs=-1, metavar="[KIND/NAME]...", callback=workload_names,
    shell_complete=_complete.workloads,
)  # fmt: skip
@namespaces_option
@click.option("--enrolled", is_flag=True, help="Every namespace that is enrolled.")
@click.option(
    "-l", "--selector", "labels", metavar="LABELS", default="", help="Pods with these labels alone."
)
@click.option(
    "--include-bare", is_flag=True,
    help="Delete pods that nobody makes anew, and failed task pods; else they are only listed.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True,
    metavar="SECONDS", help="Give a workload up when for so long no pod more got into the mesh.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the plan, change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@settings_options
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    workloads: frozenset[Name],
    namespaces: tuple[str, ...],
    enrolled: bool,
    labels: str,
    include_bare: bool,
    timeout: float,
    dry_run: bool,
    yes: bool,
    settings: Path | None,
    release_namespace: str,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Restart the workloads whose pods are not in the mesh, one at a time, and no others.

    With names, as deployment/shop, of these only those that are named.

    The operator first, then its agent, the apps, and ingress last; each must be ready and in the
    mesh before the next. It stops at the first that fails; run it again to go on.
    """
    if bool(namespaces) == enrolled:
        raise click.UsageError("give -n, or --enrolled for every namespace that is enrolled")
    cluster = connect(kubeconfig, context)
    with told_in_one_line():
        read = cluster_settings(cluster, release_namespace, settings)
        inventory, judge = Inventory(cluster), Judge(read)
        targets = _targets(inventory, Enrollment.read(cluster), namespaces)
        planner = Planner(cluster, inventory, judge)
        steps = planner.plan(targets, labels=labels, only=workloads, include_bare=include_bare)
        warn(*planner.notes)
    if missing := sorted("/".join(name) for name in workloads - planner.found):
        raise BadInputError(f"there is no pod of {', '.join(missing)} in {_all(targets)}")
    run = _Run(steps)
    if not dry_run and run.due:
        _ask(run.due, yes=yes)
        run.carry_out(Restarter(cluster, inventory, judge, timeout=timeout))
    report = run.report(dry_run=dry_run)
    _print(Printer(output), report)
    if report.interrupted:
        raise click.exceptions.Exit(130)
    if report.summary.keys() & {"failed", "skipped"}:
        raise click.exceptions.Exit(1)


def _targets(inventory: Inventory, enrollment: Enrollment, named: Sequence[str]) -> list[Target]:
    """The namespaces; one that is not enrolled ends the command, for no pod would join there."""
    warn(*enrollment.notes)
    found = [target(existing(inventory, name), enrollment, "unknown") for name in named]
    if not named:
        every = (target(one, enrollment, "unknown") for one in inventory.namespaces())
        found = [one for one in every if one.enrolled]
    missing = _all([one for one in found if not one.enrolled])
    if missing or not found:
        raise BadInputError(
            f"{missing or 'no namespace'} is not enrolled: a restart would bring no pod into a "
            "mesh; see mendix-mesh discover --enroll"
        )
    for one in found:
        if one.judged.mesh == "unknown":
            raise BadInputError(
                f"{one.name} is enrolled in a mesh that there is not; see mendix-mesh discover"
            )
    return found


def _all(targets: Sequence[Target]) -> str:
    return ", ".join(one.name for one in targets)


def _ask(due: Sequence[RestartStep], *, yes: bool) -> None:
    """Show what is to be done, and ask; with `yes` nothing."""
    if yes:
        return
    for step in due:
        one = step.workload
        count = f" ({len(step.pods)} pods outside)" if len(step.pods) > 1 else ""
        click.echo(f"{one.namespace}/{one.name}: {_DOES[step.how]}{count}", err=True)
    ask(f"Restart {counted(len(due), 'workload')}?")


class _Run:
    """The steps, and what has become of each so far."""

    def __init__(self, steps: Sequence[RestartStep]) -> None:
        self._steps = steps
        self.due = [step for step in steps if step.how in _DOES]
        self._state: dict[RestartStep, State] = {}
        self._why: dict[RestartStep, str] = {}
        self._interrupted = False

    def carry_out(self, restarter: Restarter) -> None:
        """Do them one after the other, up to the first that fails, or Ctrl-C."""
        self._state = dict.fromkeys(self.due, "not-done")
        done = 0
        with bar("restarting", sum(len(step.pods) for step in self.due)) as told:
            for step in self.due:
                words = f"{step.workload.namespace}/{step.workload.name}"
                try:
                    restarter.restart(step, lambda n: told(done + n, words))  # noqa: B023
                except RestartError as error:
                    self._state[step] = "failed"
                    self._why[step] = str(error)
                    return
                except KeyboardInterrupt:
                    self._state[step] = "interrupted"
                    self._why[step] = "what was begun goes on by itself; run it again to go on"
                    self._interrupted = True
                    return
                self._state[step] = "done"
                done += len(step.pods)
                told(done, words)

    def report(self, *, dry_run: bool) -> RestartReport:
        """What became of all of them."""
        workloads = [self._restarted(step) for step in self._steps]
        return RestartReport(
            workloads=workloads,
            summary=dict(Counter(one.state for one in workloads)),
            dry_run=dry_run,
            interrupted=self._interrupted,
        )

    def _restarted(self, step: RestartStep) -> Restarted:
        only_told: dict[How, State] = {"skip": "skipped", "leave": "left"}
        why = [*step.why, self._why[step]] if step in self._why else list(step.why)
        workload = step.workload
        return Restarted(
            state=only_told.get(step.how) or self._state.get(step, "planned"),
            how=step.how,
            namespace=workload.namespace,
            kind=workload.kind,
            name=workload.name,
            api_version=workload.api_version,
            role=step.role,
            pods=len(step.pods),
            why=why,
        )


_STYLES: dict[State, str] = {
    "planned": "", "done": "green", "failed": "bold red", "interrupted": "yellow",
    "not-done": "yellow", "skipped": "red", "left": "dim",
}  # fmt: skip


def _print(printer: Printer, report: RestartReport) -> None:
    if not printer.is_table:
        printer.data(report)
        return
    if not report.workloads:
        click.echo("nothing to do: no pod is outside its mesh", err=True)
        return
    printer.table(
        ("STATE", "NAMESPACE", "KIND", "NAME", "ROLE", "HOW", "PODS"),
        [
            (
                Styled(one.state, _STYLES[one.state]), one.namespace, one.kind,
                Styled(one.name, "bold"), one.role or "-", one.how, str(one.pods),
            )
            for one in report.workloads
        ],
    )  # fmt: skip
    for one in report.workloads:
        for why in one.why:
            printer.parts()
            printer.parts(
                (one.state, _STYLES[one.state]),
                (f"  {one.kind} {one.namespace}/{one.name}", "bold"),
            )
            printer.parts((f"    {why}", ""))
    total = counted(len(report.workloads), "workload")
    printer.parts()
    printer.parts((f"{total}: {tally(report.summary)}", "bold"))
    if report.interrupted:
        click.echo("interrupted: what is not done is untouched; run it again to go on", err=True)
