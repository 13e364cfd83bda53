"""Plans which workloads to restart so that they join the mesh, how, and in which order.

Restarted are workloads that audit shows as unmeshed or partly, those with an outdated inbound
policy, and if the user asks for it those with an outdated proxy. To find out whether a restart
would help, the pod that the workload would get is created in a dry run on the API server.
"""

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge import Judge, Judged
from webhook.cluster.judge.outdated import CurrentProxies, outdated_policy, proxy_of, wanted_policy
from webhook.cluster.kinds import controllers, inventory
from webhook.cluster.kinds.controllers import Budgets, Controller
from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod, Workload
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.cluster.namespaces.scope import Target
from webhook.policy import checks, mendix
from webhook.policy.checks import Violation
from webhook.policy.meshes.linkerd import INBOUND_POLICY

#: restart: the template gets the annotation of kubectl rollout restart. evict: the pods are evicted
#: and its controller recreates them. delete: the same, but there may be no controller. leave: the
#: workload is only listed. skip: a restart would not help. block: a PodDisruptionBudget allows no
#: eviction.
How = Literal["restart", "evict", "delete", "leave", "skip", "block"]
#: Why a workload needs a restart, the most important first.
Reason = Literal["outside the mesh", "inbound policy outdated", "proxy outdated"]
REASONS: tuple[Reason, ...] = ("outside the mesh", "inbound policy outdated", "proxy outdated")
#: A workload as the user names it: kind in lower case, and name.
Name = tuple[str, str]

_BARE = (
    "a pod without a controller: you must recreate it yourself; to delete it give --include-bare"
)
_FAILED = (
    "a failed task: it is not retried until its pod is deleted; to delete it give --include-bare"
)
_TASK = "a running task: it ends by itself, and the next task pod joins the mesh"
_STATIC = "a static pod, defined in a file on its node: change or move that file to restart it"
#: Pods that have succeeded need no restart.
_NOT_DONE = "status.phase!=Succeeded"
_RANKS = {"operator": 0, "agent": 1}


@dataclass(frozen=True, kw_only=True)
class RestartStep:
    """A workload with pods outside the mesh, and how to restart it."""

    workload: Workload
    enrolled: Enrolled
    #: Its role in Mendix, like `app leader`; empty for other workloads.
    role: str
    how: How
    reason: Reason
    #: The names of its pods that must be replaced.
    pods: tuple[str, ...]
    #: Why it is left or skipped, each with a fix.
    why: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Draft:
    """A workload while the pods of its namespace are being read."""

    how: How | None
    role: str
    why: tuple[str, ...] = ()
    reason: Reason = REASONS[0]
    pods: list[str] = field(default_factory=list)
    live: list[LivePod] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)


def is_outside(judged: Judged) -> bool:
    """Return whether a pod must be replaced: it is outside the mesh, or only partly in it."""
    return judged.state in ("unmeshed", "partly")


def reasons(violations: Sequence[Violation]) -> tuple[str, ...]:
    """Return what keeps pods outside the mesh, a line each: check, field, reason and fix."""
    denying = [one for one in violations if one.level == "deny"]
    lines = (f"{one.check}: {one.field} {one.reason}; {one.fix}" for one in denying)
    return tuple(dict.fromkeys(lines))


def _is_by_itself(pod: LivePod) -> bool:
    """Return whether no controller recreates a pod: a bare, a Mendix task, or a static pod."""
    owner = pod.metadata.controller
    return owner is None or mendix.owns(owner) or owner.kind == "Node"


class Planner:
    """Makes the plan. Raises `ClusterError`, also if a right to read is missing."""

    def __init__(self, cluster: Cluster, inventory: Inventory, judge: Judge) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._judge = judge
        #: What could not be determined, and why.
        self.notes: list[str] = []
        #: The workloads that were given by name and have pods.
        self.found: set[Name] = set()
        #: All names by which the user can select a workload that was read.
        self.names: set[Name] = set()
        #: Number of pods that were read.
        self.read = 0
        self._may_try = True
        self._current: CurrentProxies | None = None

    def plan(
        self,
        targets: Sequence[Target],
        *,
        labels: str = "",
        only: Collection[Name] = (),
        include_bare: bool = False,
        outdated: bool = False,
    ) -> list[RestartStep]:
        """Return the steps for these namespaces in order: operator, agent, others, ingress.

        With `only`, all other workloads are ignored. With `outdated`, workloads with an outdated
        proxy or outdated roots are restarted, too.
        """
        if outdated:
            self._current = CurrentProxies(self._cluster, self._judge.settings)
        steps = [
            step
            for one in targets
            for step in self._steps(one, self._pods(one, labels, only), include_bare=include_bare)
        ]
        if self._current:
            self.notes += self._current.notes
        return sorted(steps, key=_order)

    def _pods(
        self, target: Target, labels: str, only: Collection[Name]
    ) -> Iterator[LivePod | BadPod]:
        for pod in self._inventory.pods(target.name, labels=labels, fields=_NOT_DONE):
            self.read += 1
            names = self._names(pod)
            self.names |= names
            # A kind like Redis ends in s itself, so the user's plural is not made singular.
            named = set(only) & {*names, *((f"{kind}s", name) for kind, name in names)}
            self.found |= named
            if named or not only:
                yield pod

    def _names(self, pod: LivePod | BadPod) -> set[Name]:
        """Return the names by which the user can select a pod."""
        if isinstance(pod, BadPod):
            return {("pod", pod.name)}
        owner = self._inventory.workload(pod)
        names = {(owner.kind.lower(), owner.name)}
        return names | {("pod", pod.name)} if _is_by_itself(pod) else names

    def _steps(
        self, target: Target, pods: Iterable[LivePod | BadPod], *, include_bare: bool
    ) -> Iterator[RestartStep]:
        drafts: dict[Workload, _Draft] = {}
        wanted = wanted_policy(self._judge.settings, target.judged.mesh, target.annotations)
        for pod, judged in self._judged(pods, target.judged):
            if isinstance(pod, BadPod):
                workload = Workload(pod.namespace, "v1", "Pod", pod.name)
                drafts[workload] = _Draft(how="skip", role="", why=(pod.why,), pods=[pod.name])
            elif judged:
                self._note(drafts, pod, judged, wanted, include_bare=include_bare)
        budgets = Budgets.read(self._cluster, target.name) if drafts else Budgets([])
        for workload, draft in drafts.items():
            how, why = draft.how, draft.why
            if how is None:
                decided = self._decided(workload, draft, target.judged, budgets, wanted)
                if decided is None:
                    continue
                how, why = decided
            if how in ("evict", "delete"):
                blocked = _blocked(draft, budgets)
                how, why = ("block", blocked) if blocked else (how, why)
            yield RestartStep(
                workload=workload,
                enrolled=target.judged,
                role=draft.role,
                how=how,
                reason=draft.reason,
                pods=tuple(draft.pods),
                why=why,
            )

    def _judged(
        self, pods: Iterable[LivePod | BadPod], enrolled: Enrolled
    ) -> Iterator[tuple[LivePod | BadPod, Judged | None]]:
        """Yield each pod that is not being deleted, with its judgment; None for a `BadPod`."""
        found = (
            (pod, None if isinstance(pod, BadPod) else self._judge.judge(pod, enrolled))
            for pod in pods
            if isinstance(pod, BadPod) or not pod.is_leaving
        )
        if self._current is None:
            yield from found
            return
        # Which proxy is the current one may be known only after all pods.
        every = list(found)
        for pod, judged in every:
            proxy = proxy_of(judged.pod) if judged and judged.pod else None
            if proxy and isinstance(pod, LivePod):
                self._current.saw(pod, proxy)
        yield from every

    def _reason(self, judged: Judged, wanted: str) -> Reason | None:
        """Return why a pod must be replaced; None if it need not be."""
        if is_outside(judged):
            return "outside the mesh"
        if any(outdated_policy(judged.pod, wanted)):
            return "inbound policy outdated"
        proxy = proxy_of(judged.pod) if judged.pod else None
        if self._current and proxy and any(self._current.stale(proxy)):
            return "proxy outdated"
        return None

    def _note(
        self,
        drafts: dict[Workload, _Draft],
        pod: LivePod,
        judged: Judged,
        wanted: str,
        *,
        include_bare: bool,
    ) -> None:
        """Add a pod to its workload's draft, if it must be replaced."""
        reason = self._reason(judged, wanted)
        if judged.pod is None or reason is None:
            return
        owner, is_task = pod.metadata.controller, mendix.is_task(judged.pod)
        itself = _is_by_itself(pod)
        if reason != "outside the mesh" and (pod.has_ended or is_task):
            return
        how: How | None = None
        why = ""
        if pod.has_ended:
            # Other failed pods have been replaced by their controllers, or do not matter.
            if not (itself and pod.name.endswith(mendix.TASK_SUFFIXES)):
                return
            how, why = ("delete", "") if include_bare else ("leave", _FAILED)
        elif owner is not None and owner.kind == "Node":
            how, why = "leave", _STATIC
        elif is_task:
            how, why = "leave", _TASK
        elif owner is None:
            how, why = ("delete", "") if include_bare else ("leave", _BARE)
        workload = (
            Workload(pod.namespace, "v1", "Pod", pod.name)
            if itself and how
            else self._inventory.workload(pod)
        )
        draft = drafts.setdefault(
            workload, _Draft(how=how, role=judged.role, why=(why,) if why else (), reason=reason)
        )
        draft.reason = min(draft.reason, reason, key=REASONS.index)
        draft.pods.append(pod.name)
        draft.live.append(pod)
        draft.violations += judged.violations

    def _decided(
        self, workload: Workload, draft: _Draft, enrolled: Enrolled, budgets: Budgets, wanted: str
    ) -> tuple[How, tuple[str, ...]] | None:
        """Return how a workload is restarted, or why it is not; None if it is gone."""
        found = controllers.find(self._cluster, workload)
        if found is None:
            return None if controllers.place(workload) else ("evict", ())
        why = self._tried(found, draft, enrolled, wanted)
        if why:
            return "skip", why
        by_template = found.rolls and not found.is_owned and budgets.allow_rollout(found)
        return "restart" if by_template else "evict", ()

    def _tried(
        self, found: Controller, draft: _Draft, enrolled: Enrolled, wanted: str
    ) -> tuple[str, ...]:
        """Return why a new pod would be the same as the running ones; empty if it would not."""
        if not self._may_try:
            return _reasons(draft.violations)
        namespace = draft.live[0].namespace
        like = self._cluster.find(path("v1", "pods", namespace, draft.pods[0]))
        if like is None:
            return ()
        where = path("v1", "pods", namespace)
        try:
            made, _ = self._cluster.create(where, found.pod(namespace, like), dry_run=True)
        except StatusError as error:
            if 'cannot create resource "pods"' in str(error):
                self._may_try = False
                self.notes.append(
                    "whether a restart helps is judged only by the running pods, because a dry run "
                    f"is forbidden: {error}"
                )
                return _reasons(draft.violations)
            # The quota has no room for another pod, or the pod differs from what its controller
            # creates. Neither shows whether the next pod would join.
            if error.code == 422 or "exceeded quota" in str(error):
                return ()
            return (str(error),)
        judged = self._judge.judge(inventory.decode(msgspec.json.encode(made)), enrolled)
        if is_outside(judged):
            return reasons(judged.violations)
        if draft.reason == "inbound policy outdated" and any(outdated_policy(judged.pod, wanted)):
            return (
                f"a new pod would have the same inbound policy: its template sets {INBOUND_POLICY};"
                " remove it there",
            )
        return ()


def _blocked(draft: _Draft, budgets: Budgets) -> tuple[str, ...]:
    """Return why none of the pods can be evicted, and how to fix that; empty if one can be."""
    whys = [budgets.why_not(pod) for pod in draft.live]
    if not whys or not all(whys):
        return ()
    pod = draft.live[0]
    where = f"kubectl -n {shlex.quote(pod.namespace)}"
    labels = pod.metadata.labels or {}
    env = labels.get(f"{mendix.GROUP}/app") or labels.get("app", "")
    more = "run it with more replicas"
    if draft.role.startswith("app") and env:
        # An app that is connected to the Mendix Portal is scaled there (Mendix on Kubernetes).
        more = (
            f"run the app with two replicas ({where} scale mendixapps.{mendix.GROUP}/{env} "
            "--replicas=2, or in the Mendix Portal if it is connected)"
        )
    return (
        f"{whys[0]}; {more}, then run this command again; or, if a short outage is acceptable, "
        f"delete the pod, which ignores the budget: {where} delete pod {shlex.quote(pod.name)}",
    )


def _reasons(violations: Sequence[Violation]) -> tuple[str, ...]:
    """Return the reasons in the manifests of running pods, which new pods would have as well."""
    known = checks.all_checks()
    return reasons(
        [
            one
            for one in violations
            if one.check in known and known[one.check].check.explains_absence
        ]
    )


def _order(step: RestartStep) -> tuple[int, Workload]:
    """Return the sort key: the operator first, because it creates the others; ingress last."""
    rank = 3 if step.enrolled.ingress else _RANKS.get(step.role, 2)
    return rank, step.workload
