"""Plans which workloads to restart so that they join the mesh, how, and in which order.

Only workloads that audit shows as unmeshed or partly are restarted. To find out whether a restart
would help, the pod that the workload would get is created in a dry run on the API server.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge import Judge, Judged
from webhook.cluster.kinds import controllers, inventory
from webhook.cluster.kinds.controllers import Budgets, Controller
from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod, Workload
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.cluster.namespaces.scope import Target
from webhook.policy import checks, mendix
from webhook.policy.checks import Violation

#: restart: the template gets the annotation of kubectl rollout restart. evict: the pods are evicted
#: and its controller recreates them. delete: the same, but there may be no controller. leave: the
#: workload is only listed. skip: a restart would not help.
How = Literal["restart", "evict", "delete", "leave", "skip"]
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
    #: The names of its pods that are outside the mesh.
    pods: tuple[str, ...]
    #: Why it is left or skipped, each with a fix.
    why: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Draft:
    """A workload while the pods of its namespace are being read."""

    how: How | None
    role: str
    why: tuple[str, ...] = ()
    pods: list[str] = field(default_factory=list)
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
        self._may_try = True

    def plan(
        self,
        targets: Sequence[Target],
        *,
        labels: str = "",
        only: Collection[Name] = (),
        include_bare: bool = False,
    ) -> list[RestartStep]:
        """Return the steps for these namespaces in order: operator, agent, others, ingress.

        With `only`, all other workloads are ignored.
        """
        steps = [
            step
            for one in targets
            for step in self._steps(one, self._pods(one, labels, only), include_bare=include_bare)
        ]
        return sorted(steps, key=_order)

    def _pods(
        self, target: Target, labels: str, only: Collection[Name]
    ) -> Iterator[LivePod | BadPod]:
        for pod in self._inventory.pods(target.name, labels=labels, fields=_NOT_DONE):
            named = self._names(pod) & set(only)
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
        for pod in pods:
            if isinstance(pod, BadPod):
                workload = Workload(pod.namespace, "v1", "Pod", pod.name)
                drafts[workload] = _Draft(how="skip", role="", why=(pod.why,), pods=[pod.name])
            elif not pod.is_leaving:
                self._note(drafts, pod, self._judge.judge(pod, target.judged), include_bare)
        budgets = Budgets.read(self._cluster, target.name) if drafts else Budgets([])
        for workload, draft in drafts.items():
            how, why = draft.how, draft.why
            if how is None:
                decided = self._decided(workload, draft, target.judged, budgets)
                if decided is None:
                    continue
                how, why = decided
            yield RestartStep(
                workload=workload,
                enrolled=target.judged,
                role=draft.role,
                how=how,
                pods=tuple(draft.pods),
                why=why,
            )

    def _note(
        self, drafts: dict[Workload, _Draft], pod: LivePod, judged: Judged, include_bare: bool
    ) -> None:
        """Add a pod to its workload's draft, if it is outside and that is of any consequence."""
        if judged.pod is None or not is_outside(judged):
            return
        owner, is_task = pod.metadata.controller, mendix.is_task(judged.pod)
        itself = _is_by_itself(pod)
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
            workload, _Draft(how=how, role=judged.role, why=(why,) if why else ())
        )
        draft.pods.append(pod.name)
        draft.violations += judged.violations

    def _decided(
        self, workload: Workload, draft: _Draft, enrolled: Enrolled, budgets: Budgets
    ) -> tuple[How, tuple[str, ...]] | None:
        """Return how a workload is restarted, or why it is not; None if it is gone."""
        found = controllers.find(self._cluster, workload)
        if found is None:
            return None if controllers.place(workload) else ("evict", ())
        why = self._tried(found, draft, enrolled, workload.namespace)
        if why:
            return "skip", why
        by_template = found.rolls and not found.is_owned and budgets.allow_rollout(found)
        return "restart" if by_template else "evict", ()

    def _tried(
        self, found: Controller, draft: _Draft, enrolled: Enrolled, namespace: str
    ) -> tuple[str, ...]:
        """Return why a new pod would not join either; empty if it would."""
        if not self._may_try:
            return _reasons(draft.violations)
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
        return reasons(judged.violations) if is_outside(judged) else ()


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
