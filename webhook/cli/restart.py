"""`mendix-mesh restart`: restart the workloads whose pods are outside the mesh, one at a time."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import msgspec

from webhook.cli import _complete
from webhook.cli._cluster import (
    ask,
    cluster_errors,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._names import workload_names
from webhook.cli._output import FORMATS, Printer, Styled, tally
from webhook.cli._progress import bar
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Target, existing, target
from webhook.cluster.restart import BlockedError, Restarter, RestartError
from webhook.cluster.restart.plan import How, Name, Planner, Reason, RestartStep
from webhook.policy.labels import MESH_LABEL, MESHES
from webhook.policy.settings.mistakes import nearest
from webhook.policy.words import counted, listed

State = Literal[
    "planned", "done", "deleted", "failed", "blocked", "interrupted", "not-done", "skipped", "left"
]
#: The steps that change something, in words. All others are only listed.
_ACTIONS: dict[How, str] = {
    "restart": "restart",
    "evict": "evict its pods",
    "delete": "delete",
}


class Restarted(msgspec.Struct, kw_only=True):
    """A workload, and the result of its restart."""

    state: State
    how: How
    namespace: str
    kind: str
    name: str
    api_version: str = msgspec.field(name="apiVersion")
    #: Its role in Mendix, like `app leader`; empty for other workloads.
    role: str
    reason: Reason
    #: How many of its pods must be replaced.
    pods: int
    #: Why it failed, or was blocked, skipped or left, each with a fix.
    why: list[str]


class RestartReport(msgspec.Struct, kw_only=True):
    """The results of all workloads, in the order of the plan."""

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

    Exit codes: 0 all restarted workloads are in the mesh; 1 a workload failed, was blocked by a
    PodDisruptionBudget, or was skipped because a restart would not help; 2 the cluster can't be
    reached, a right is missing, or no pod has the labels of -l; 130 Ctrl-C.""",
)
@click.argument(
    "workloads", nargs=-1, metavar="[KIND/NAME]...", callback=workload_names,
    shell_complete=_complete.workloads,
)  # fmt: skip
@namespaces_option
@click.option("--enrolled", is_flag=True, help="All enrolled namespaces.")
@click.option(
    "-l", "--selector", "labels", metavar="LABELS", default="", help="Only pods with these labels."
)
@click.option(
    "--include-bare", is_flag=True,
    help="Also delete pods without a controller that recreates them, and failed task pods. "
    "Default: only list them.",
)  # fmt: skip
@click.option(
    "--outdated", is_flag=True,
    help="Also restart workloads in the mesh whose proxy or trust roots are outdated.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True,
    metavar="SECONDS",
    help="Give up on a workload if no further pod joins the mesh within this time.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@settings_options
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    workloads: frozenset[Name],
    namespaces: tuple[str, ...],
    enrolled: bool,
    labels: str,
    include_bare: bool,
    outdated: bool,
    timeout: float,
    dry_run: bool,
    yes: bool,
    settings: Path | None,
    release_namespace: str,
    kubeconfig: str | None,
    context: str | None,
    output: str,
) -> None:
    """Restart the workloads whose pods are outside the mesh, or only partly in it.

    Also restart those whose inbound policy is outdated, as after discover --enroll --strict. With
    names, like deployment/shop, restart only these of them.

    The Mendix operator is first, then its agent, then apps, then ingress controllers. Each
    workload must be ready and in the mesh before the next one starts. The command stops at the
    first failure; run it again to continue. What a PodDisruptionBudget blocks is left out.
    """
    if bool(namespaces) == enrolled:
        raise click.UsageError("give either -n, or --enrolled for all enrolled namespaces")
    cluster = connect(kubeconfig, context)
    with cluster_errors():
        read = cluster_settings(cluster, release_namespace, settings)
        inventory, judge = Inventory(cluster), Judge(read)
        targets = _targets(inventory, Enrollment.read(cluster), namespaces)
        planner = Planner(cluster, inventory, judge)
        steps = planner.plan(
            targets, labels=labels, only=workloads, include_bare=include_bare, outdated=outdated
        )
        warn(*planner.notes)
    if labels and not planner.read:
        raise BadInputError(f"no pod in namespace {_all(targets)} has the labels {labels}")
    if missing := sorted("/".join(name) for name in workloads - planner.found):
        near = nearest(missing[0], ["/".join(name) for name in planner.names])
        hint = f"; did you mean {near}?" if near else ""
        raise BadInputError(f"no pod of {', '.join(missing)} in namespace {_all(targets)}{hint}")
    run = _Run(steps)
    if not dry_run and run.due:
        _ask(run.due, yes=yes)
        run.carry_out(Restarter(cluster, inventory, judge, timeout=timeout))
    report = run.report(dry_run=dry_run)
    _print(Printer(output), report)
    if report.interrupted:
        raise click.exceptions.Exit(130)
    if report.summary.keys() & {"failed", "blocked", "skipped"}:
        raise click.exceptions.Exit(1)


def _targets(inventory: Inventory, enrollment: Enrollment, named: Sequence[str]) -> list[Target]:
    """Return the namespaces to restart in.

    A namespace that is not enrolled ends the command with exit code 2: its pods would not join.
    """
    warn(*enrollment.notes)
    found = [target(existing(inventory, name), enrollment, "unknown") for name in named]
    if not named:
        every = (target(one, enrollment, "unknown") for one in inventory.namespaces())
        found = [one for one in every if one.enrolled]
    missing = _all([one for one in found if not one.enrolled])
    if missing or not found:
        what = f"not enrolled: {missing}" if missing else "no namespace is enrolled"
        raise BadInputError(
            f"{what}. Pods would not join a mesh after a restart; enroll first with mendix-mesh "
            "discover --enroll"
        )
    for one in found:
        if one.judged.mesh == "unknown":
            raise BadInputError(
                f"namespace {one.name}: the value of its label {MESH_LABEL} is not a mesh, so "
                f"pods would not join one; set it to one of: {', '.join(MESHES)}"
            )
    return found


def _all(targets: Sequence[Target]) -> str:
    return ", ".join(one.name for one in targets)


def _ask(due: Sequence[RestartStep], *, yes: bool) -> None:
    """Show the plan and ask for confirmation, unless `yes` is given."""
    if yes:
        return
    for step in due:
        one = step.workload
        count = counted(len(step.pods), "pod")
        click.echo(
            f"{one.namespace}/{one.name}: {_ACTIONS[step.how]} ({count}: {step.reason})", err=True
        )
    ask(f"Restart {counted(len(due), 'workload')}?")


class _Run:
    """The steps of a plan, with their results so far."""

    def __init__(self, steps: Sequence[RestartStep]) -> None:
        self._steps = steps
        self.due = [step for step in steps if step.how in _ACTIONS]
        self._state: dict[RestartStep, State] = {}
        self._why: dict[RestartStep, str] = {}
        self._interrupted = False

    def carry_out(self, restarter: Restarter) -> None:
        """Carry out the steps in order, up to the first failure or Ctrl-C."""
        self._state = dict.fromkeys(self.due, "not-done")
        done = 0
        with bar("restarting", sum(len(step.pods) for step in self.due)) as advance:
            for step in self.due:
                words = f"{step.workload.namespace}/{step.workload.name}"
                try:
                    restarter.restart(step, lambda n: advance(done + n, words))  # noqa: B023
                except BlockedError as error:
                    self._state[step] = "blocked"
                    self._why[step] = str(error)
                    continue
                except RestartError as error:
                    self._state[step] = "failed"
                    self._why[step] = str(error)
                    return
                except KeyboardInterrupt:
                    self._state[step] = "interrupted"
                    self._why[step] = (
                        "interrupted: Kubernetes continues what was started; to continue with the "
                        "rest, run the command again"
                    )
                    self._interrupted = True
                    return
                self._state[step] = "deleted" if step.how == "delete" else "done"
                done += len(step.pods)
                advance(done, words)

    def report(self, *, dry_run: bool) -> RestartReport:
        """Return the results of all steps."""
        workloads = [self._restarted(step) for step in self._steps]
        return RestartReport(
            workloads=workloads,
            summary=dict(Counter(one.state for one in workloads)),
            dry_run=dry_run,
            interrupted=self._interrupted,
        )

    def _restarted(self, step: RestartStep) -> Restarted:
        only_listed: dict[How, State] = {"skip": "skipped", "leave": "left", "block": "blocked"}
        why = [*step.why, self._why[step]] if step in self._why else list(step.why)
        workload = step.workload
        return Restarted(
            state=only_listed.get(step.how) or self._state.get(step, "planned"),
            how=step.how,
            namespace=workload.namespace,
            kind=workload.kind,
            name=workload.name,
            api_version=workload.api_version,
            role=step.role,
            reason=step.reason,
            pods=len(step.pods),
            why=why,
        )


_STYLES: dict[State, str] = {
    "planned": "", "done": "green", "deleted": "green", "failed": "bold red", "blocked": "red",
    "interrupted": "yellow",
    "not-done": "yellow", "skipped": "red", "left": "dim",
}  # fmt: skip


def _print(printer: Printer, report: RestartReport) -> None:
    if not printer.is_table:
        printer.data(report)
        return
    if not report.workloads:
        click.echo("nothing to do: no pod needs a restart", err=True)
        return
    printer.table(
        ("STATE", "NAMESPACE", "KIND", "NAME", "ROLE", "HOW", "PODS", "REASON"),
        [
            (
                Styled(one.state, _STYLES[one.state]), one.namespace, one.kind,
                Styled(one.name, "bold"), one.role or "-", one.how, str(one.pods),
                one.reason,
            )
            for one in report.workloads
        ],
    )  # fmt: skip
    explained: dict[tuple[State, str], list[str]] = {}
    for one in report.workloads:
        for why in one.why:
            name = f"{one.kind} {one.namespace}/{one.name}"
            explained.setdefault((one.state, why), []).append(name)
    for (state, why), names in explained.items():
        printer.parts()
        printer.parts((state, _STYLES[state]), (f"  {listed(names)}", "bold"))
        printer.parts((f"    {why}", ""))
    total = counted(len(report.workloads), "workload")
    printer.parts()
    printer.parts((f"{total}: {tally(report.summary)}", "bold"))
    if report.interrupted:
        click.echo(
            "interrupted: workloads in state not-done are unchanged; to continue, run the command "
            "again",
            err=True,
        )
