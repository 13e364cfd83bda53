"""The pods of a workload, with the facts that show whether each one is in the mesh."""

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from webhook.cluster.dashboard import fixes
from webhook.cluster.dashboard.live import Pods
from webhook.cluster.judge import (
    ORIGINS,
    WORST_FIRST,
    Judge,
    Judged,
    Origin,
    State,
    live,
    restarting,
)
from webhook.cluster.kinds.inventory import BadPod, LivePod, Workload
from webhook.policy import checks, mendix
from webhook.policy.checks import Violation
from webhook.policy.mesh import Mesh, Occurrence
from webhook.policy.meshes.ambient import REDIRECTION
from webhook.policy.pod.workload import Pod


class Fact(NamedTuple):
    """A fact about a pod, and whether it indicates that the pod is in the mesh."""

    name: str
    value: str
    #: meshed: it indicates so. unmeshed: it indicates the opposite. unknown: it indicates neither.
    state: State


class Trouble(NamedTuple):
    """A violation in a pod."""

    violation: Violation
    #: The level as in `audit`: deny, warning or exempt.
    level: str
    fix: str
    command: str


class View(NamedTuple):
    """A pod."""

    name: str
    state: State
    phase: str
    is_ready: bool
    created: datetime.datetime | None
    #: How the pod came to be outside the mesh; empty if it is in the mesh.
    origin: str
    facts: list[Fact]
    troubles: list[Trouble]
    #: The number of checks that it passes, and of those that apply to it.
    passed: int
    applied: int


def views(found: Pods, workload: Workload, judge: Judge) -> list[View]:
    """Return the pods to show. Pods outside the mesh come first."""
    mesh = judge.mesh(found.enrolled.mesh)
    made = [
        _unreadable(pod) if isinstance(pod, BadPod) or judged is None
        else _view(pod, judged, workload, mesh, is_enrolled=found.is_enrolled)
        for pod, judged in found.pods
    ]  # fmt: skip
    return sorted(made, key=lambda one: (WORST_FIRST.index(one.state), one.name))


def _unreadable(pod: BadPod | LivePod) -> View:
    why = pod.why if isinstance(pod, BadPod) else ""
    violation = live.UNREADABLE.violation(Occurrence("", (why,)))
    trouble = Trouble(violation, violation.level, violation.fix, "")
    return View(pod.name, "unknown", "", False, None, "", [], [trouble], 0, 0)


def _view(
    pod: LivePod, judged: Judged, workload: Workload, mesh: Mesh, *, is_enrolled: bool
) -> View:
    seen = judged.pod
    subject = fixes.Subject(
        workload.namespace, mesh.name, workload.kind, workload.name, judged.role, pod.name,
        is_enrolled,
    )  # fmt: skip
    troubles = [_trouble(subject, judged, workload, violation) for violation in judged.violations]
    troubles += [
        Trouble(done.violation, "exempt", done.exemption.reason, "") for done in judged.exempted
    ]
    applied = {entry.check.id for entry in checks.for_mesh(mesh.name)}
    broken = {one.violation.check for one in troubles}
    return View(
        name=pod.name,
        state=judged.state,
        phase=pod.status.phase,
        is_ready=pod.is_ready,
        created=pod.metadata.creation_timestamp,
        origin=ORIGINS.get(judged.origin, ""),
        facts=list(_facts(pod, seen, mesh)) if seen else [],
        troubles=sorted(troubles, key=lambda one: (one.level != "deny", one.violation.check)),
        passed=len(applied - broken),
        applied=len(applied),
    )


def _trouble(
    subject: fixes.Subject, judged: Judged, workload: Workload, violation: Violation
) -> Trouble:
    origin: Origin = judged.origin if violation in judged.denied else ""
    fix = violation.fix
    if origin == "before-enrollment" and violation.check == "proxy-missing":
        task = judged.pod is not None and mendix.is_task(judged.pod)
        fix = restarting.advice(workload, judged.role, is_task=task)
    command = fixes.command(subject, violation.check, violation.level, origin)
    return Trouble(violation, violation.level, fix, command)


def _facts(pod: LivePod, seen: Pod, mesh: Mesh) -> Iterator[Fact]:
    """Yield the facts that a person would check: opt-in, proxy, its image, and whether it works."""
    if mesh.name == "unknown":
        return
    wants = [f"{want.key}: {want.value}" for want in mesh.opt_in(seen, task=mendix.is_task(seen))]
    if out := [occurrence.field for occurrence in mesh.opt_outs(seen)]:
        yield Fact("Opt-in", f"asks to stay outside the mesh: {', '.join(out)}", "unmeshed")
    elif wants:
        yield Fact("Opt-in", f"missing: {', '.join(wants)}", "unmeshed")
    else:
        yield Fact("Opt-in", "asks to join the mesh", "meshed")
    name = mesh.proxy_of(seen)
    if not name:
        redirection = seen.annotations.get(REDIRECTION, "")
        state: State = "meshed" if redirection == "enabled" else "unmeshed"
        yield Fact("Redirection", redirection or "not set by the node's agent", state)
        return
    # In an ambient gateway the proxy is the only container, and the pod does not name it as proxy.
    proxy = seen.proxy or next((one for one in seen.containers if one.name == name), None)
    if proxy is None:
        yield Fact("Proxy", f"no container {name}", "unmeshed")
        return
    kind = "native sidecar" if proxy.kind == "initContainers" else "container"
    yield Fact("Proxy", f"{name}, {kind}", "meshed")
    yield Fact("Image", proxy.container.image or "none", "unknown")
    status = pod.container(name)
    ready = status is not None and status.ready
    yield Fact("Proxy ready", "yes" if ready else "no", "meshed" if ready else "unmeshed")
