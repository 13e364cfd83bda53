"""Judges whether a running pod is in its mesh, by policy on the stored pod and by live evidence."""

import datetime
from functools import cache
from typing import Literal, NamedTuple

import msgspec

from webhook.cluster.judge import live
from webhook.cluster.kinds.inventory import LivePod
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.policy import checks, mendix, meshes
from webhook.policy.checks import Violation
from webhook.policy.checks.accepts_plaintext import CHECK as ACCEPTS_PLAINTEXT
from webhook.policy.mesh import Mesh, Occurrence
from webhook.policy.meshes.ambient import REDIRECTION
from webhook.policy.pod.objects import UndecodableError
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, pod_of
from webhook.policy.settings import Settings
from webhook.policy.validate import Exempted, Verdict, validate

#: meshed: the proxy is in the pod, works, and gets all traffic. partly: the proxy is in the pod,
#: but some traffic bypasses it. unmeshed: there is no evidence of a proxy. unknown: the state can't
#: be determined now. exempt: the pod breaks a rule that an admin's exemption covers.
State = Literal["meshed", "partly", "unmeshed", "unknown", "exempt"]
STATES: tuple[State, ...] = ("meshed", "partly", "unmeshed", "unknown", "exempt")
#: The states, worst first.
WORST_FIRST: tuple[State, ...] = ("unmeshed", "partly", "unknown", "exempt", "meshed")

#: How a pod outside the mesh was created: before its namespace was enrolled; admitted because the
#: mode denies nothing; or despite mode enforce. Empty if unknown, or if it does not apply.
Origin = Literal["", "before-enrollment", "admitted", "escaped"]
ORIGINS: dict[Origin, str] = {
    "before-enrollment": "created before the namespace was enrolled",
    "admitted": "admitted because the namespace's mode is warn or audit; fix the pod, then set "
    "mode enforce",
    "escaped": "mode enforce denies such a pod now: it was created under other settings, or past "
    "the webhook; check that the webhook runs and that its failurePolicy is Fail",
}


class Judged(NamedTuple):
    """The judgment of one pod."""

    state: State
    violations: tuple[Violation, ...] = ()
    #: The violations that the webhook denies in mode enforce.
    denied: tuple[Violation, ...] = ()
    exempted: tuple[Exempted, ...] = ()
    origin: Origin = ""
    #: Its role in Mendix, like `app leader`; empty for other pods.
    role: str = ""
    #: The pod as policy sees it.
    pod: Pod | None = None


class Judge:
    """Judges running pods by the webhook's settings."""

    def __init__(self, settings: Settings, *, today: datetime.date | None = None) -> None:
        self.settings = settings
        self.meshes = meshes.load(settings)
        self._today = today

    def mesh(self, name: str) -> Mesh:
        """Return the mesh of that name; for an unknown name the mesh `unknown`."""
        return self.meshes.get(name, self.meshes["unknown"])

    def judge(self, pod: LivePod, enrolled: Enrolled, *, closed: bool = False) -> Judged:
        """Judge a pod by the mesh and mode of its namespace.

        `closed`: the mesh's policy is known to close the pod to plaintext, so the check
        of the pod alone is ignored. A pod with more items than are read has state unknown.
        """
        try:
            return self._judge(pod, enrolled, closed=closed)
        except UndecodableError as error:
            return Judged("unknown", (live.UNREADABLE.violation(Occurrence("", (str(error),))),))

    def runs_outside(self, pod: LivePod, mesh: str) -> bool:
        """Return whether a pod is in no mesh that uses mutual TLS with pods of this mesh.

        Sidecars and ztunnel use mutual TLS with each other.
        """
        if mesh not in ("istio", "ambient"):
            return self._is_out_of(pod, mesh)
        if (pod.metadata.annotations or {}).get(REDIRECTION) == "enabled":
            return False
        return self._is_out_of(pod, "istio") and self._is_out_of(pod, "ambient")

    def _is_out_of(self, pod: LivePod, mesh: str) -> bool:
        judged = self.judge(pod, Enrolled(mesh, "enforce", ingress=True, since=None))
        return is_outside(judged, self.mesh(mesh))

    def _judge(self, pod: LivePod, enrolled: Enrolled, *, closed: bool) -> Judged:
        mesh = self.mesh(enrolled.mesh)
        request = Request(
            namespace=pod.namespace, object=pod, ingress=enrolled.ingress, stored=True
        )
        mode = enrolled.mode or "enforce"
        verdict = validate(request, mesh, mode, self.settings, today=self._today)
        if closed:
            verdict = _without(verdict, ACCEPTS_PLAINTEXT.id)
        seen = pod_of(pod, mesh, request, final=True)
        assert seen is not None  # noqa: S101 - a pod has a pod
        broken = {violation.check for violation in verdict.violations}
        broken |= {done.violation.check for done in verdict.exempted}
        known = mesh.name != "unknown"
        proxied = known and _has_proxy(seen, mesh) and not broken & _absent()
        shown = tuple(live.live(pod, mesh.proxy_of(seen), proxied=proxied))
        violations = verdict.violations + shown
        exempt = verdict.outcome == "exempt"
        state = _state(proxied, violations, exempt=exempt) if known else "unknown"
        return Judged(
            state,
            violations,
            tuple(one for one in verdict.violations if one.level == "deny"),
            verdict.exempted,
            _origin(pod, enrolled) if state in ("unmeshed", "partly") else "",
            mendix.role(seen),
            seen,
        )


def is_outside(judged: Judged, mesh: Mesh) -> bool:
    """Return whether a pod has no proxy, also if it is exempt."""
    if judged.state != "exempt":
        return judged.state == "unmeshed"
    return bool(mesh.proxy_name) and judged.pod is not None and judged.pod.proxy is None


def _without(verdict: Verdict, check: str) -> Verdict:
    kept = tuple(one for one in verdict.violations if one.check != check)
    return msgspec.structs.replace(verdict, violations=kept)


def _has_proxy(pod: Pod, mesh: Mesh) -> bool:
    """Return whether the pod has a proxy; in a mesh without sidecars, whether it asks to join."""
    return pod.proxy is not None or not mesh.proxy_name or mesh.is_infrastructure(pod)


@cache
def _absent() -> frozenset[str]:
    """Return the checks that put a pod outside the mesh, and not only partly.

    Without foreign-mesh: traces of another mesh do not remove the right proxy.
    """
    explaining = {
        entry.check.id for entry in checks.all_checks().values() if entry.check.explains_absence
    }
    return frozenset(explaining - {"foreign-mesh"} | {"proxy-missing"})


def _state(proxied: bool, violations: tuple[Violation, ...], *, exempt: bool) -> State:
    ids = {violation.check for violation in violations}
    if live.NOT_REDIRECTED.id in ids:
        return "unmeshed"
    if exempt:
        return "exempt"
    if not proxied:
        return "unmeshed"
    if any(violation.level == "deny" for violation in violations):
        return "partly"
    if ids & {live.PROXY_NOT_READY.id, live.REDIRECTION_PENDING.id}:
        return "unknown"
    return "meshed"


def _origin(pod: LivePod, enrolled: Enrolled) -> Origin:
    created = pod.metadata.creation_timestamp
    if enrolled.since is None or created is None:
        return ""
    # Both are whole seconds. In the same second the pod counts as older.
    if created <= enrolled.since:
        return "before-enrollment"
    if not enrolled.mode:
        return ""
    return "escaped" if enrolled.mode == "enforce" else "admitted"
