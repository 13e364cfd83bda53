"""Carries out a plan of restarts, one workload at a time, with as few missing pods as possible.

A workload is done when all its desired pods are ready and in the mesh. The API server denies an
eviction that would break a PodDisruptionBudget; it is then retried.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.judge import Judge, Judged
from webhook.cluster.kinds import controllers
from webhook.cluster.kinds.controllers import Controller
from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod
from webhook.cluster.restart.plan import RestartStep, is_outside, reasons

#: Seconds between two reads of a workload that is being restarted.
_POLL = 0.5


class RestartError(Exception):
    """A workload did not join the mesh; the text says why, and where to look."""


class BlockedError(RestartError):
    """A PodDisruptionBudget allowed no eviction within the timeout. Other workloads can go on."""


class _Member(NamedTuple):
    """A current pod of a workload."""

    pod: LivePod
    judged: Judged

    @property
    def is_in(self) -> bool:
        """Return whether it is ready, and in the mesh or exempt."""
        return self.pod.is_ready and self.judged.state in ("meshed", "exempt")


class _Current(NamedTuple):
    """The current state of a workload, without terminating pods."""

    members: list[_Member]
    #: None if its kind is not supported.
    controller: Controller | None
    wanted: int

    @property
    def is_whole(self) -> bool:
        """Return whether all desired pods exist, are ready and are in the mesh."""
        return len(self.members) >= self.wanted and all(one.is_in for one in self.members)


class Restarter:
    """Restarts workloads. `timeout` is the number of seconds in which a further pod must join."""

    def __init__(
        self,
        cluster: Cluster,
        inventory: Inventory,
        judge: Judge,
        *,
        timeout: float,
        every: float = _POLL,
    ) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._judge = judge
        self._timeout = timeout
        self._every = every

    def restart(self, step: RestartStep, progress: Callable[[int], None] = lambda _: None) -> None:
        """Carry out a step. `progress` is called with the number of replaced pods.

        Raises `RestartError` if the workload does not join the mesh.
        """
        run = _Run(self._cluster, step, self._timeout, self._every)
        try:
            if step.how == "delete":
                for number, name in enumerate(step.pods, 1):
                    run.evict(name)
                    progress(number)
            else:
                self._roll(step, run, progress)
        except ClusterError as error:
            raise RestartError(str(error)) from None

    def _roll(self, step: RestartStep, run: "_Run", progress: Callable[[int], None]) -> None:
        members = self._look(step, 0).members
        old = {one.pod.metadata.uid for one in members}
        due = {one.pod.metadata.uid for one in members if one.pod.name in step.pods}
        # A rollout replaces all pods, also those that need no restart.
        replaced = old if step.how == "restart" else due
        if step.how == "restart":
            controllers.roll_out(self._cluster, step.workload)
        while True:
            seen = self._look(step, len(members))
            left = [
                one for one in seen.members if one.pod.metadata.uid in due or is_outside(one.judged)
            ]
            progress(max(0, len(step.pods) - len(left)))
            self._reject_new(step, left, old)
            if seen.is_whole and not left and _is_rolled_out(step, seen):
                return
            # Pods that will be replaced do not count: they can be ready and in the mesh already.
            run.check(
                seen,
                sum(one.is_in and one.pod.metadata.uid not in replaced for one in seen.members),
            )
            if step.how == "evict":
                next_one = _next(seen, [one for one in left if one.pod.metadata.uid in old])
                if next_one and run.evict_once(next_one.pod.name, next_one.pod.metadata.uid):
                    continue
            time.sleep(self._every)

    def _reject_new(self, step: RestartStep, left: list[_Member], old: set[str]) -> None:
        """Raise if a recreated pod is outside the mesh again: more restarts would not help."""
        for one in left:
            # In ambient mode the spec shows nothing: the node may redirect the pod a moment later.
            is_known = step.enrolled.mesh != "ambient" or one.pod.is_ready
            if is_known and one.pod.metadata.uid not in old:
                why = " ".join(reasons(one.judged.violations))
                raise RestartError(
                    f"pod {one.pod.name} was recreated and is outside the mesh again: {why}"
                )

    def _look(self, step: RestartStep, before: int) -> _Current:
        """Return the current state. `before` is the number of pods at the start of the step.

        It is the desired number for controllers whose kind is not supported.
        """
        workload = step.workload
        found = controllers.find(self._cluster, workload)
        if found is None and controllers.place(workload):
            raise RestartError("it was deleted during the restart")
        members = [
            _Member(pod, self._judge.judge(pod, step.enrolled))
            for pod in self._inventory.pods(
                workload.namespace, labels=found.labels if found else ""
            )
            if not isinstance(pod, BadPod)
            and pod.runs
            and self._inventory.workload(pod) == workload
        ]
        return _Current(members, found, found.wanted if found else before)


class _Run:
    """The restart of one workload, with its timeout."""

    def __init__(self, cluster: Cluster, step: RestartStep, timeout: float, every: float) -> None:
        self._cluster = cluster
        self._step = step
        self._timeout = timeout
        self._every = every
        self._until = time.monotonic() + timeout
        self._most = -1
        #: The API server's message if it denied the last eviction.
        self._held = ""

    def evict(self, name: str) -> None:
        """Evict a pod, waiting for its budget. Raises `RestartError` after the timeout."""
        while not self.evict_once(name, ""):
            if time.monotonic() > self._until:
                raise BlockedError(f"pod {name} could not be evicted: {self._held}")
            time.sleep(self._every)

    def evict_once(self, name: str, uid: str) -> bool:
        """Evict a pod, if given with this uid. Return False if its budget forbids it.

        A pod that is already gone counts as evicted.
        """
        namespace = self._step.workload.namespace
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}} if uid else {},
        }
        try:
            self._cluster.create(path("v1", "pods", namespace, name, "eviction"), body)
        except StatusError as error:
            if error.is_budget:
                self._held = str(error)
                return False
            # 409: another pod has this name now.
            if error.code not in (404, 409):
                raise
        self._held = ""
        return True

    def check(self, seen: _Current, joined: int) -> None:
        """Raise `RestartError` if no further pod has joined within the timeout."""
        if joined > self._most:
            self._most = joined
            self._until = time.monotonic() + self._timeout
        elif time.monotonic() > self._until:
            kind = BlockedError if self._held else RestartError
            raise kind(
                f"no further pod became ready and joined the mesh within {self._timeout:g} s "
                f"({joined} of {seen.wanted} did); " + self._why(seen)
            )

    def _why(self, seen: _Current) -> str:
        if self._held:
            return self._held
        if seen.controller and seen.controller.trouble:
            return seen.controller.trouble
        others = [one for one in seen.members if not one.is_in]
        if not others:
            one = self._step.workload
            is_short = len(seen.members) < seen.wanted
            return (
                f"{'pods are missing' if is_short else 'the restart is not finished'}; "
                "for the reason see the events of "
                f"kubectl -n {one.namespace} describe {one.kind.lower()} {one.name}"
            )
        worst = next((one for one in others if not is_outside(one.judged)), others[0])
        phase = worst.pod.status.phase or "Pending"
        what = "ready" if not worst.pod.is_ready else "in the mesh"
        return (
            f"pod {worst.pod.name} ({phase}) is not {what}; for the reason see "
            f"kubectl -n {worst.pod.namespace} describe pod {worst.pod.name}"
        )


def _is_rolled_out(step: RestartStep, seen: _Current) -> bool:
    return step.how != "restart" or seen.controller is None or seen.controller.is_rolled_out


def _next(seen: _Current, left: list[_Member]) -> _Member | None:
    """Return the pod to evict next; None until earlier ones are replaced.

    Pods that are not ready come first, because they serve no requests.
    """
    for one in left:
        if not one.pod.is_ready:
            return one
    back = len(seen.members) >= seen.wanted and all(
        one.is_in for one in seen.members if one not in left
    )
    return left[0] if left and back else None
