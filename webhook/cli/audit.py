"""`mendix-mesh audit`: report which running pods are in the mesh, which are not, and why.

With `--watch` it runs until it is stopped, as the auditor (webhook.cli._watching).
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from webhook.cli import _traffic
from webhook.cli._cluster import (
    cluster_errors,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._output import FORMATS, Printer, Styled, percent, tally
from webhook.cli._progress import bar
from webhook.cli._watch_options import server_options, watch_options
from webhook.cluster.api.connection import Cluster
from webhook.cluster.audit import Audited, AuditFinding, Auditor, Report, Row, reports, traffic
from webhook.cluster.judge import ORIGINS, STATES, Judge, State
from webhook.cluster.judge.live import PROXY_NOT_READY, REDIRECTION_PENDING
from webhook.cluster.judge.outdated import CurrentProxies
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Scope
from webhook.cluster.plaintext.acceptance import describe
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy.labels import MESHES
from webhook.policy.plaintext import CLIENT_PLAINTEXT, Accepts
from webhook.policy.words import counted, listed


@click.command(
    "audit",
    epilog="""Examples:

    mendix-mesh audit

    mendix-mesh audit -n mendix-apps -o json

    mendix-mesh audit --prometheus http://localhost:9090

    mendix-mesh audit --watch --interval 60

    Exit codes: 0 all pods are in the mesh or exempt; 1 some are not, or could not be read;
    2 the cluster can't be reached, or there is no namespace, or with -l no pod, to audit.""",
)
@namespaces_option
@click.option(
    "-A", "--all-namespaces", "everything", is_flag=True,
    help="All namespaces. Only pods of enrolled and of Mendix namespaces are judged; other "
    "namespaces are listed.",
)  # fmt: skip
@click.option("--mendix", is_flag=True, help="All Mendix namespaces, as discover finds them.")
@click.option(
    "-l", "--selector", "labels", metavar="LABELS", default="", help="Only pods with these labels."
)
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="Mesh to judge namespaces by that are not enrolled. Default: the mesh named by their "
    "labels and annotations, else linkerd.",
)  # fmt: skip
@settings_options
@click.option(
    "--write-reports", "write", is_flag=True,
    help="Write a PolicyReport, or a Report of OpenReports, to each namespace.",
)  # fmt: skip
@_traffic.prometheus_options
@watch_options
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    everything: bool,
    mendix: bool,
    labels: str,
    mesh: str | None,
    settings: Path | None,
    release_namespace: str,
    write: bool,
    prometheus: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    patience: float,
    window: int,
    kubeconfig: str | None,
    context: str | None,
    output: str,
    **watching: Any,
) -> None:
    """Report for every running pod whether the mesh's proxy is in it and works, and if not, why.

    Without -n, -A or --mendix, all enrolled namespaces are audited. With --watch it runs as the
    auditor: it audits until it is stopped, and serves metrics.
    """
    if sum((bool(namespaces), everything, mendix)) > 1:
        raise click.UsageError("give only one of -n, -A and --mendix")
    if write and labels:
        raise click.UsageError("--write-reports needs all pods of a namespace; remove -l")
    metrics = _traffic.connect_prometheus(prometheus, token_file, ca_file, patience)
    server = server_options(watching)
    if server and (labels or output != "table"):
        raise click.UsageError("-l and -o can't be used with --watch")
    if server and server.auto_enroll and namespaces:
        raise click.UsageError("--auto-enroll covers the whole cluster; remove -n")
    cluster = connect(kubeconfig, context)
    with cluster_errors():
        read = cluster_settings(cluster, release_namespace, settings)
        if server:
            # A server costs as much time to load as an audit takes.
            from webhook.cli._watching import watch  # noqa: PLC0415
            from webhook.cluster.auditor.scan import ScanOptions  # noqa: PLC0415

            what = ScanOptions(
                server.interval, namespaces, everything, mendix, mesh, reports=write,
                prometheus=metrics, window=window,
            )  # fmt: skip
            watch(cluster, read, what, server)
            return
        enrollment = Enrollment.read(cluster)
        inventory = Inventory(cluster)
        scope = Scope(cluster, inventory, enrollment, mesh)
        targets = scope.targets(namespaces, everything=everything, mendix=mendix)
        auditor = Auditor(
            inventory, Judge(read), CurrentProxies(cluster, read), PolicyObjects(cluster, read)
        )
        with bar("auditing", len(targets)) as advance:
            number = itertools.count(1)
            report = auditor.audit(
                targets,
                labels=labels,
                total=scope.total,
                progress=lambda name: advance(next(number), f"audited {name}"),
            )
        report.notes += [*enrollment.notes, *scope.notes, *inventory.notes]
        if labels and not sum(report.pods.values()) and not any(t.error for t in targets):
            raise BadInputError(f"no running pod of these namespaces has the labels {labels}")
        if metrics:
            traffic.see(report, metrics, window=window)
        warn(*report.notes)
        _print(output, report)
        if write:
            _write(cluster, report, enrollment.uid, prune=not namespaces and not mendix)
    if not report.is_good:
        raise click.exceptions.Exit(1)


def _write(cluster: Cluster, report: Report, owner: str, *, prune: bool) -> None:
    written = reports.write(cluster, report, owner, prune=prune)
    warn(*(f"report not written: {error}" for error in written.errors))
    click.echo(f"{written.written} reports written, {written.pruned} removed", err=True)


def _print(form: str, report: Report) -> None:
    if form == "table":
        _show(Printer(form), report)
    else:
        Printer(form).data(report)


#: Checks that make a pod's state unknown.
_REASONS = frozenset({PROXY_NOT_READY.id, REDIRECTION_PENDING.id})
#: Most namespaces that a restart command names; for more, it selects all enrolled ones.
_MOST_NAMED = 5
_MARKS = {"meshed": "✔", "partly": "!", "unmeshed": "✘", "unknown": "?", "exempt": "○"}
_STYLES: dict[State, str] = {
    "meshed": "green", "partly": "yellow", "unmeshed": "bold red", "unknown": "yellow",
    "exempt": "dim",
}  # fmt: skip


def _show(printer: Printer, report: Report) -> None:
    """Print a row for each namespace, then each workload that is not in the mesh, and why."""
    seen = report.traffic or None
    printer.table(
        ("NAMESPACE", "MESH", "MODE", "COVERAGE", *(["MTLS"] if seen else []), "PODS",
         *map(str.upper, STATES), "PLAINTEXT"),
        [_row(one, [_traffic.cell(seen, one.name)] if seen else []) for one in report.namespaces],
    )  # fmt: skip
    for one in report.namespaces:
        if one.error:
            printer.parts()
            printer.parts((f"✘ {one.name} could not be read: ", "bold red"), (one.error, ""))
        for row in one.workloads:
            if row.state != "meshed":
                _details(printer, one, row)
    if seen:
        _traffic.show(printer, seen)
    for one in report.namespaces:
        _plaintext(printer, one)
    if advice := _advice(report):
        printer.parts()
        printer.parts(("advice, with the number of pods: ", "bold"), (advice, ""))
        printer.parts(
            ("      -o json shows the pods; mendix-mesh explain ID shows the meaning and the fix",
             "dim")
        )  # fmt: skip
    # Exempt pods do not count.
    others = {state: number for state, number in report.pods.items() if state != "exempt"}
    exempt = f"{report.pods['exempt']} exempt" if report.pods["exempt"] else ""
    pods, counts = sum(others.values()), tally(others)
    joined = f"{percent(report.coverage)} of {counted(pods, 'pod')} in the mesh"
    whole = joined if pods else exempt or "no pods"
    more = f" ({counts})" + (f", and {exempt}" if exempt else "")
    printer.parts()
    printer.parts((whole, "bold"), (more if pods else "", ""))
    if fix := _fix([one for one in report.namespaces if one.fix]):
        printer.parts(("to restart the workloads that need it: ", ""), (fix, "bold"))


def _fix(namespaces: Sequence[Audited]) -> str:
    """Return one command for all namespaces in which a restart helps; empty if there are none."""
    if len(namespaces) == 1:
        return namespaces[0].fix
    if len(namespaces) > _MOST_NAMED:
        return "mendix-mesh restart --enrolled"
    names = " ".join(f"-n {one.name}" for one in namespaces)
    return f"mendix-mesh restart {names}" if names else ""


def _is_detail(finding: AuditFinding) -> bool:
    """Return whether a finding explains its workload's state. All others are advice."""
    return finding.level != "warning" or finding.check in _REASONS


def _advice(report: Report) -> str:
    """Return the checks that are advice with the number of pods, like `shared-identity 12`."""
    found: Counter[str] = Counter()
    for one in report.namespaces:
        for row in one.workloads:
            for finding in row.findings:
                if not _is_detail(finding):
                    found[finding.check] += finding.pods
    return ", ".join(f"{check} {pods}" for check, pods in found.most_common())


def _row(one: Audited, wire: Sequence[Styled]) -> list[str | Styled]:
    style = "green" if one.coverage == 100 else "red" if one.coverage is not None else ""
    numbers = [
        Styled(str(one.pods[state]), _STYLES[state] if one.pods[state] else "dim")
        for state in STATES
    ]
    mode = one.mode or ("-" if one.enrolled or one.error else "not enrolled")
    mesh, covered, total = one.mesh or "-", percent(one.coverage), str(sum(one.pods.values()))
    if one.error or not one.expected:
        # Its pods were not read, so their numbers are not zero but unknown.
        mesh = mesh if one.enrolled else "-"
        covered, style = ("not readable", "bold red") if one.error else ("-", "")
        total, numbers = "-", [Styled("-", "dim") for _ in STATES]
    return [Styled(one.name, "bold"), mesh, mode, Styled(covered, style),
            *wire, total, *numbers, _accepts(one)]  # fmt: skip


_OPEN: dict[Accepts, str] = {"no": "green", "partly": "yellow", "yes": "yellow", "unknown": "dim"}


def _accepts(one: Audited) -> Styled:
    """Return the cell that says whether the namespace accepts plaintext."""
    if one.plaintext is None:
        return Styled("-", "dim")
    accepts = one.plaintext.accepts
    return Styled(accepts, "bold red" if one.plaintext.level == "deny" else _OPEN[accepts])


def _plaintext(printer: Printer, one: Audited) -> None:
    """Print each gap for plaintext with its fix, and each rule that makes clients send it."""
    found = one.plaintext
    if found is None:
        return
    if found.accepts != "no":
        denied = found.level == "deny"
        words = {"yes": "accepted by", "partly": "accepted by parts of",
                 "unknown": "possibly accepted by"}  # fmt: skip
        exempt = " (exempt)" if found.level == "exempt" else ""
        printer.parts()
        printer.parts(
            (f"{'✘' if denied else '!'} plaintext", "bold red" if denied else "yellow"),
            (f" {words[found.accepts]} {one.name}{exempt}", "bold"),
        )
    for gap in found.gaps:
        printer.parts((f"    {describe(gap)}", ""))
        printer.parts((f"      {gap.fix}", "dim"))
    if found.accepts == "unknown":
        for line in found.because:
            printer.parts((f"    {line}", ""))
    for rule in found.downgrades or ():
        printer.parts()
        printer.parts(("! client-plaintext", "yellow"), (f"  DestinationRule {rule.rule}", "bold"))
        printer.parts((f"    {rule.field} is {rule.mode} for {rule.host}", ""))
        printer.parts((f"      {CLIENT_PLAINTEXT.fix}", "dim"))


def _details(printer: Printer, one: Audited, row: Row) -> None:
    pods = counted(sum(row.pods.values()), "pod")
    counts = tally(row.pods)
    printer.parts()
    printer.parts(
        (f"{_MARKS[row.state]} {row.state:<8}", _STYLES[row.state]),
        (f"  {row.kind} {one.name}/{row.name}", "bold"),
        (f"  {f'Mendix {row.role}, ' if row.role else ''}{pods}: {counts}", "dim"),
    )
    for finding in filter(_is_detail, row.findings):
        color = {"deny": "red", "warning": "yellow", "exempt": "dim"}[finding.level]
        printer.parts(
            (f"    {finding.check}", color), (f"  {finding.field}", "cyan"),
            (f"  {finding.reason}", ""),
            (f"  [{listed(finding.examples, of=finding.pods)}]", "dim"),
        )  # fmt: skip
        fix = f"exempt: {finding.fix}" if finding.level == "exempt" else finding.fix
        since = f" ({ORIGINS[finding.origin]})" if finding.origin else ""
        printer.parts((f"      {fix}{since}", "dim"))
