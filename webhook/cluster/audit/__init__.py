"""Audits the running pods of namespaces, grouped by the workload that owns them.

Pods are streamed and not kept. The result has a row for each workload, with a finding for each
different problem and the number of pods that have it.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Literal

import msgspec

from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge import STATES, Judge, Judged, Origin, State, live, restarting
from webhook.cluster.judge.live import INBOUND_POLICY_OUTDATED
from webhook.cluster.judge.outdated import (
    CurrentProxies,
    Proxy,
    outdated_policy,
    proxy_of,
    wanted_policy,
)
from webhook.cluster.judge.restarting import RESTART
from webhook.cluster.kinds.inventory import RUNNING, BadPod, Inventory, LivePod, Workload
from webhook.cluster.namespaces.scope import Target
from webhook.cluster.plaintext.acceptance import Assessment, PlaintextPolicy, assess
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.cluster.traffic import Traffic
from webhook.policy import mendix
from webhook.policy.checks import Violation
from webhook.policy.occurrences import Occurrence

#: Number of pods that a finding names.
_EXAMPLES = 3
#: With more namespaces than this, and more than half of all, the pods of the whole cluster are
#: listed at once.
_MANY = 20

#: How to fix pods without a proxy in a namespace that is not enrolled, and can't be.
_EXCLUDED = "the webhook excludes this namespace"

Level = Literal["deny", "warning", "exempt"]


class AuditFinding(msgspec.Struct, kw_only=True):
    """One problem of a workload's pods."""

    check: str
    level: Level
    field: str
    reason: str
    #: How to fix it; for an exemption its reason.
    fix: str
    origin: Origin
    #: The number of pods that have it, and some names; no names if it is about the workload.
    pods: int
    examples: list[str]


class Row(msgspec.Struct, kw_only=True):
    """A workload."""

    kind: str
    name: str
    api_version: str = msgspec.field(name="apiVersion")
    #: Its role in Mendix, like `app leader`; empty for other workloads.
    role: str
    state: State
    #: The number of its pods in each state.
    pods: dict[State, int]
    findings: list[AuditFinding]


class Audited(msgspec.Struct, kw_only=True):
    """A namespace."""

    name: str
    #: The mesh by which its pods are judged, the mode, and whether it is enrolled.
    mesh: str
    mode: str
    enrolled: bool
    #: Whether its pods are expected in a mesh. If not, they are not judged, and the mesh is empty.
    expected: bool = True
    since: datetime.datetime | None
    #: Percentage of meshed pods, without exempt ones, rounded down; None if there are no pods.
    coverage: int | None
    pods: dict[State, int]
    workloads: list[Row]
    #: The command that restarts the pods from before the enrollment, and those with an outdated
    #: inbound policy; empty if there are none, or a restart would not help.
    fix: str = ""
    #: Why its pods could not be read; else empty.
    error: str = ""
    #: Whether it accepts plaintext; None if it has no pods, is not enrolled, or was not assessed.
    plaintext: PlaintextPolicy | None = None


class Report(msgspec.Struct, kw_only=True):
    """The audit of a cluster."""

    namespaces: list[Audited]
    coverage: int | None
    pods: dict[State, int]
    #: Number of pods by check.
    checks: dict[str, int]
    #: What could not be read, and what that means.
    notes: list[str]
    #: Traffic from the meshes' metrics, if a Prometheus was queried.
    traffic: Traffic | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_good(self) -> bool:
        """Return whether every pod was read, and none breaks a rule that mode enforce denies."""
        return not any(
            one.error or (one.plaintext and one.plaintext.level == "deny")
            for one in self.namespaces
        ) and not any(
            row.state in ("unmeshed", "partly")
            or any(finding.level == "deny" for finding in row.findings)
            for one in self.namespaces
            for row in one.workloads
        )


class Auditor:
    """Audits namespaces. Raises `ClusterError`, but not if reading a namespace is forbidden."""

    def __init__(
        self,
        inventory: Inventory,
        judge: Judge,
        current: CurrentProxies,
        policies: PolicyObjects | None = None,
    ) -> None:
        """Without `policies`, plaintext is not assessed."""
        self._inventory = inventory
        self._judge = judge
        self._current = current
        self._policies = policies

    def audit(
        self,
        targets: Sequence[Target],
        *,
        labels: str = "",
        total: int = 0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Report:
        """Audit namespaces; `total` is the number of namespaces in the cluster.

        `progress` is called with the name of each finished namespace.
        """
        known = {one.name: one for one in targets}
        drafts: dict[str, _Namespace] = {}
        readable = [one.name for one in targets if one.expected and not one.error]
        for name, pods in self._by_namespace(readable, total, labels):
            draft = drafts[name] = _Namespace(known[name], self._assess(known[name]))
            try:
                for pod in pods:
                    self._add(draft, pod)
            except StatusError as error:
                if not error.is_forbidden:
                    raise
                draft.target.error = str(error)
                if draft.assessment:
                    draft.assessment.miss(str(error))
            progress(name)
        for one in targets:
            if not one.expected:
                progress(one.name)
        audited = [
            (drafts.get(one.name) or _Namespace(one)).finished(self._current) for one in targets
        ]
        return summed(audited, self._current.notes)

    def _assess(self, one: Target) -> Assessment | None:
        if self._policies is None or not one.enrolled:
            return None
        return assess(
            self._policies,
            one.name,
            one.judged.mesh,
            annotations=one.annotations,
            enrolled=True,
        )

    def _add(self, draft: "_Namespace", pod: LivePod | BadPod) -> None:
        if isinstance(pod, BadPod):
            workload = Workload(pod.namespace, "v1", "Pod", pod.name)
            violation = live.UNREADABLE.violation(Occurrence("", (pod.why,)))
            draft.add(workload, pod.name, Judged("unknown", (violation,)), None)
            if draft.assessment:
                draft.assessment.miss(f"pod {pod.name} can't be read: {pod.why}")
        elif pod.runs:
            enrolled = draft.target.judged
            judged = (
                draft.assessment.judged(self._judge, pod, enrolled)
                if draft.assessment
                else self._judge.judge(pod, enrolled)
            )
            proxy = proxy_of(judged.pod) if judged.pod else None
            if proxy:
                self._current.saw(pod, proxy)
            if draft.target.enrolled:
                wanted = wanted_policy(
                    self._judge.settings, enrolled.mesh, draft.target.annotations
                )
                outdated = tuple(outdated_policy(judged.pod, wanted))
                judged = judged._replace(violations=judged.violations + outdated)
            draft.add(self._inventory.workload(pod), pod.name, judged, proxy)

    def _by_namespace(
        self, names: Collection[str], total: int, labels: str
    ) -> Iterator[tuple[str, Iterable[LivePod | BadPod]]]:
        """Yield the pods of each namespace. Consume each iterable before the next one.

        Most of the cluster is read in one list, if that is allowed, else each namespace in its own.
        """
        if len(names) > _MANY and 2 * len(names) > total:
            every = self._inventory.pods(labels=labels, fields=RUNNING)
            try:
                first = next(every, None)
            except StatusError as error:
                if not error.is_forbidden:
                    raise
            else:
                yield from _grouped(chain([first] if first else (), every), names)
                return
        for name in names:
            yield name, self._inventory.pods(name, labels=labels, fields=RUNNING)


def _grouped(
    pods: Iterable[LivePod | BadPod], names: Collection[str]
) -> Iterator[tuple[str, Iterable[LivePod | BadPod]]]:
    """Yield the pods of these namespaces, from a list that is sorted by namespace."""
    left = dict.fromkeys(names)
    for name, group in groupby(pods, lambda pod: pod.namespace):
        if name in left:
            del left[name]
            yield name, group
    for name in left:
        yield name, ()


class _Namespace:
    """A namespace while its pods are being read."""

    def __init__(self, target: Target, assessment: Assessment | None = None) -> None:
        self.target = target
        self.assessment = assessment
        self._rows: dict[Workload, _Workload] = {}

    def add(self, workload: Workload, name: str, judged: Judged, proxy: Proxy | None) -> None:
        row = self._rows.get(workload)
        if row is None:
            row = self._rows[workload] = _Workload(workload, judged.role, self.target)
        row.add(name, judged, proxy)

    def finished(self, current: CurrentProxies) -> Audited:
        """Return the audit of the namespace, after all pods were added."""
        rows = [row.finished(current) for _, row in sorted(self._rows.items())]
        pods: Counter[State] = Counter()
        for row in rows:
            pods.update(row.pods)
        judged = self.target.judged
        helps = any(
            one.fix.startswith(RESTART)
            and (one.origin == "before-enrollment" or one.check == INBOUND_POLICY_OUTDATED.id)
            for row in rows
            for one in row.findings
        )
        return Audited(
            name=self.target.name,
            mesh=judged.mesh if self.target.expected else "",
            mode=judged.mode if self.target.enrolled else "",
            enrolled=self.target.enrolled,
            expected=self.target.expected,
            since=judged.since,
            coverage=coverage(pods),
            pods=_counts(pods),
            workloads=rows,
            fix=restarting.command(self.target.name) if helps else "",
            error=self.target.error,
            plaintext=self._plaintext(),
        )

    def _plaintext(self) -> PlaintextPolicy | None:
        """Return whether it accepts plaintext; None if there are no pods that could."""
        if self.assessment is None or not (self._rows or self.target.error):
            return None
        return self.assessment.finished()


class _Workload:
    """A workload while its pods are being read."""

    def __init__(self, workload: Workload, role: str, target: Target) -> None:
        self._workload = workload
        self._role = role
        self._target = target
        self._states: Counter[State] = Counter()
        self._findings: dict[tuple[Violation, Level, Origin], list[str]] = {}
        self._numbers: Counter[tuple[Violation, Level, Origin]] = Counter()
        self._proxies: dict[Proxy, list[str]] = {}
        self._proxied: Counter[Proxy] = Counter()

    def add(self, name: str, judged: Judged, proxy: Proxy | None) -> None:
        self._states[judged.state] += 1
        for violation in judged.violations:
            origin = judged.origin if violation in judged.denied else ""
            if violation.check == "proxy-missing" and (
                origin == "before-enrollment" or not self._target.enrolled
            ):
                # The pod is not misconfigured: the webhook did not apply when it was created.
                fix = RESTART
                if not self._target.enrolled:
                    fix = self._target.enroll or _EXCLUDED
                violation = msgspec.structs.replace(violation, fix=fix)  # noqa: PLW2901
            violation = self._with_advice(violation, judged)  # noqa: PLW2901
            self._note((violation, violation.level, origin), name)
        for done in judged.exempted:
            excused = msgspec.structs.replace(done.violation, fix=done.exemption.reason)
            self._note((excused, "exempt", ""), name)
        if proxy:
            self._proxied[proxy] += 1
            _keep(self._proxies.setdefault(proxy, []), name)

    def _with_advice(
        self, violation: Violation, judged: Judged | None = None, *, outdated: bool = False
    ) -> Violation:
        """Return a violation whose fix says how to restart this workload, if that fixes it."""
        if RESTART not in violation.fix:
            return violation
        advice = restarting.advice(
            self._workload,
            self._role,
            is_task=judged is not None and judged.pod is not None and mendix.is_task(judged.pod),
            is_enrolled=self._target.enrolled,
            outdated=outdated,
        )
        return msgspec.structs.replace(violation, fix=violation.fix.replace(RESTART, advice))

    def _note(self, key: tuple[Violation, Level, Origin], name: str) -> None:
        self._numbers[key] += 1
        _keep(self._findings.setdefault(key, []), name)

    def finished(self, current: CurrentProxies) -> Row:
        workload = self._workload
        findings = [
            _finding(violation, level, origin, self._numbers[violation, level, origin], names)
            for (violation, level, origin), names in self._findings.items()
        ]
        findings += [
            _finding(
                self._with_advice(violation, outdated=True),
                violation.level, "", self._proxied[proxy], names,
            )
            for proxy, names in self._proxies.items()
            for violation in current.stale(proxy)
        ]  # fmt: skip
        order = {"deny": 0, "warning": 1, "exempt": 2}
        findings.sort(key=lambda one: (order[one.level], one.check, one.field))
        return Row(
            kind=workload.kind,
            name=workload.name,
            api_version=workload.api_version,
            role=self._role,
            state=together(self._states),
            pods=_counts(self._states),
            findings=findings,
        )


def _keep(names: list[str], name: str) -> None:
    if len(names) < _EXAMPLES:
        names.append(name)


def _finding(
    violation: Violation, level: Level, origin: Origin, pods: int, names: list[str]
) -> AuditFinding:
    return AuditFinding(
        check=violation.check,
        level=level,
        field=violation.field,
        reason=violation.reason,
        fix=violation.fix,
        origin=origin,
        pods=pods,
        examples=names,
    )


def together(states: Collection[State]) -> State:
    """Return the state of a workload from those of its pods: the worst, or partly if mixed.

    Exempt pods count only if there are no others.
    """
    found = set(states) - {"exempt"}
    if not found:
        return "exempt"
    if "partly" in found or {"meshed", "unmeshed"} <= found:
        return "partly"
    for state in ("unmeshed", "unknown"):
        if state in found:
            return state
    return "meshed"


def coverage(pods: "Counter[State]") -> int | None:
    """Return the percentage of meshed pods without exempt ones, rounded down; None if no pods."""
    counted = pods.total() - pods["exempt"]
    return 100 * pods["meshed"] // counted if counted else None


def _counts(pods: "Counter[State]") -> dict[State, int]:
    return {state: pods[state] for state in STATES}


def summed(namespaces: list[Audited], notes: list[str]) -> Report:
    """Return the report of these namespaces."""
    pods: Counter[State] = Counter()
    found: Counter[str] = Counter()
    for one in namespaces:
        pods.update(one.pods)
        for row in one.workloads:
            for finding in row.findings:
                if finding.level != "exempt":
                    found[finding.check] += finding.pods
    return Report(
        namespaces=namespaces,
        coverage=coverage(pods),
        pods=_counts(pods),
        checks=dict(sorted(found.items())),
        notes=list(dict.fromkeys(notes)),
    )
