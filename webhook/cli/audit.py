"""`mendix-mesh audit`: which running pods are in the mesh, which are not, and why.

With `--watch` it goes on for ever: that is the auditor (webhook.cli._watching).
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from webhook.cli import _ci, _traffic
from webhook.cli._cluster import (
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
    told_in_one_line,
)
from webhook.cli._errors import warn
from webhook.cli._output import FORMATS, Printer, Styled, percent, tally
from webhook.cli._progress import bar
from webhook.cli._watch_options import server_options, watch_options
from webhook.cluster.api.connection import Cluster
from webhook.cluster.audit import Audited, AuditFinding, Auditor, Report, Row, reports, traffic
from webhook.cluster.judge import ORIGINS, STATES, Judge, State
from webhook.cluster.judge.live import PROXY_NOT_READY, REDIRECTION_PENDING
from webhook.cluster.judge.outdated import Currency
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.enrollment import Enrollment
from webhook.cluster.namespaces.scope import Scope
from webhook.cluster.plaintext.acceptance import told
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy.labels import MESHES
from webhook.policy.plaintext import CLIENT_PLAINTEXT, Accepts
from webhook.policy.words import counted, listed


@click.command(
    "audit",
    epilog="""Examples:

    mendix-mesh audit

    mendix-mesh audit -n mendix-apps -o sarif > mesh.sarif

    mendix-mesh audit --prometheus http://localhost:9090

    mendix-mesh audit --watch --interval 60

    Exit codes: 0 all are in the mesh, or exempt; 1 some are not, or could not be read;
    2 no connection, or nothing to audit.""",
)
@namespaces_option
@click.option("-A", "--all-namespaces", "everything", is_flag=True, help="Every namespace.")
@click.option("--mendix", is_flag=True, help="Mendix's namespaces, as discover finds them.")
@click.option(
    "-l", "--selector", "labels", metavar="LABELS", default="", help="Pods with these labels alone."
)
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="What namespaces that are not enrolled are judged by; else their own marks, else linkerd.",
)  # fmt: skip
@settings_options
@click.option(
    "--write-reports", "write", is_flag=True,
    help="Write a PolicyReport (or OpenReports' Report) in each namespace.",
)  # fmt: skip
@_traffic.prometheus_options
@watch_options
@cluster_options
@click.option(
    "-o", "--output", type=click.Choice((*FORMATS, "sarif", "junit")), default="table",
    show_default=True,
)  # fmt: skip
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
    """Judge every running pod by evidence: whether the mesh's proxy is in it, and works.

    Without -n, -A or --mendix: the pods of the namespaces that are enrolled. With --watch it is
    the auditor: it goes on until it is told to stop, and serves metrics.
    """
    if sum((bool(namespaces), everything, mendix)) > 1:
        raise click.UsageError("give one of -n, -A and --mendix")
    if write and labels:
        raise click.UsageError("--write-reports is for all pods of a namespace, without -l")
    metrics = _traffic.reach(prometheus, token_file, ca_file, patience)
    server = server_options(watching)
    if server and (labels or output != "table"):
        raise click.UsageError("--watch has no -l and no -o")
    cluster = connect(kubeconfig, context)
    with told_in_one_line():
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
            inventory, Judge(read), Currency(cluster, read), PolicyObjects(cluster, read)
        )
        with bar("auditing", len(targets)) as told:
            number = itertools.count(1)
            report = auditor.audit(
                targets,
                labels=labels,
                total=scope.total,
                progress=lambda name: told(next(number), f"audited {name}"),
            )
        report.notes += enrollment.notes
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
    warn(*(f"no report was written: {error}" for error in written.errors))
    click.echo(f"{written.written} reports written, {written.pruned} removed", err=True)


def _print(form: str, report: Report) -> None:
    if form == "sarif":
        Printer("json").data(_ci.sarif(report))
    elif form == "junit":
        click.echo(_ci.junit(report))
    elif form == "table":
        _show(Printer(form), report)
    else:
        Printer(form).data(report)


#: What leaves a pod's state unknown.
_REASONS = frozenset({PROXY_NOT_READY.id, REDIRECTION_PENDING.id})
#: From so many namespaces on they are not named, but all that are enrolled are meant.
_MOST_NAMED = 5
_MARKS = {"meshed": "✔", "partly": "!", "unmeshed": "✘", "unknown": "?", "exempt": "○"}
_STYLES: dict[State, str] = {
    "meshed": "green", "partly": "yellow", "unmeshed": "bold red", "unknown": "yellow",
    "exempt": "dim",
}  # fmt: skip


def _show(printer: Printer, report: Report) -> None:
    """A row a namespace; below, each workload that is not wholly in the mesh, and why."""
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
        printer.parts(("advice, and for how many pods: ", "bold"), (advice, ""))
        printer.parts(
            ("      -o json says for which; docs/checks.md and docs/day-2.md what they mean", "dim")
        )
    counts = tally(report.pods)
    pods = sum(report.pods.values())
    joined = f"{percent(report.coverage)} of {counted(pods, 'pod')} in the mesh"
    whole = joined if pods else "no pods"
    printer.parts()
    printer.parts((whole, "bold"), (f" ({counts})" if counts else "", ""))
    if mend := _mend([one for one in report.namespaces if one.fix]):
        printer.parts(("to bring in what was there before the enrollment: ", ""), (mend, "bold"))


def _mend(namespaces: Sequence[Audited]) -> str:
    """One command for all namespaces in which a restart helps; empty where there are none."""
    if len(namespaces) == 1:
        return namespaces[0].fix
    if len(namespaces) > _MOST_NAMED:
        return "mendix-mesh restart --enrolled"
    names = " ".join(f"-n {one.name}" for one in namespaces)
    return f"mendix-mesh restart {names}" if names else ""


def _is_detail(finding: AuditFinding) -> bool:
    """Whether a finding is a reason for its workload's state; others are advice."""
    return finding.level != "advise" or finding.check in _REASONS


def _advice(report: Report) -> str:
    """What else is found, as `shared-identity 12`."""
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
    mode = one.mode or "not enrolled"
    total = str(sum(one.pods.values()))
    return [Styled(one.name, "bold"), one.mesh, mode, Styled(percent(one.coverage), style),
            *wire, total, *numbers, _accepts(one)]  # fmt: skip


_OPEN: dict[Accepts, str] = {"no": "green", "partly": "yellow", "yes": "yellow", "unknown": "dim"}


def _accepts(one: Audited) -> Styled:
    """Whether plaintext gets in."""
    if one.strictness is None:
        return Styled("-", "dim")
    accepts = one.strictness.accepts
    return Styled(accepts, "bold red" if one.strictness.level == "deny" else _OPEN[accepts])


def _plaintext(printer: Printer, one: Audited) -> None:
    """Each way in for plaintext, and its mend; and what makes clients speak it."""
    found = one.strictness
    if found is None:
        return
    if found.accepts != "no":
        refused = found.level == "deny"
        words = {"yes": "gets into", "partly": "gets into part of", "unknown": "may get into"}
        exempt = " (exempt)" if found.level == "exempt" else ""
        printer.parts()
        printer.parts(
            (f"{'✘' if refused else '!'} plaintext", "bold red" if refused else "yellow"),
            (f" {words[found.accepts]} {one.name}{exempt}", "bold"),
        )
    for gap in found.gaps:
        printer.parts((f"    {told(gap)}", ""))
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
        color = {"deny": "red", "advise": "yellow", "exempt": "dim"}[finding.level]
        printer.parts(
            (f"    {finding.check}", color), (f"  {finding.field}", "cyan"),
            (f"  {finding.reason}", ""),
            (f"  [{listed(finding.examples, of=finding.pods)}]", "dim"),
        )  # fmt: skip
        fix = f"exempt: {finding.fix}" if finding.level == "exempt" else finding.fix
        since = f" ({ORIGINS[finding.origin]})" if finding.origin else ""
        printer.parts((f"      {fix}{since}", "dim"))
