"""Whether a live pod is in its mesh: policy's verdict on the stored pod, and live evidence."""

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
from webhook.policy.mesh import Mesh, Spot
from webhook.policy.pod.objects import UndecodableError
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, pod_of
from webhook.policy.settings import Settings
from webhook.policy.validate import Exempted, Verdict, validate

#: meshed: the proxy is in it, works, and all traffic passes it. partly: the proxy is in it, and
#: something goes past it. unmeshed: nothing shows that it joined. unknown: it can't be told (now).
#: exempt: an admin's exemption alone lets it be so.
State = Literal["meshed", "partly", "unmeshed", "unknown", "exempt"]
STATES: tuple[State, ...] = ("meshed", "partly", "unmeshed", "unknown", "exempt")
#: The same as whoever looks for what is wrong wants them.
WORST_FIRST: tuple[State, ...] = ("unmeshed", "partly", "unknown", "exempt", "meshed")

#: How a pod that is not meshed came to be: before its namespace was enrolled; let in, for the mode
#: refuses nothing; or in spite of enforce. Empty where that is not known, or does not apply.
Origin = Literal["", "before-enrollment", "let-in", "escaped"]
ORIGINS: dict[Origin, str] = {
    "before-enrollment": "created before the namespace was enrolled",
    "let-in": "let in, for the namespace's mode refuses nothing: once it is mended, set enforce",
    "escaped": "created while enforce should have refused it: see that the webhook runs, and "
    "whether it fails open; then restart it",
}


class Judged(NamedTuple):
    """What was found out about one pod."""

    state: State
    violations: tuple[Violation, ...] = ()
    #: Those of them that the webhook refuses in enforce.
    refused: tuple[Violation, ...] = ()
    exempted: tuple[Exempted, ...] = ()
    origin: Origin = ""
    #: What it is to Mendix, as `app leader`; empty where it is not Mendix's.
    role: str = ""
    #: The pod as policy sees it.
    pod: Pod | None = None


class Judge:
    """Judges live pods, by the settings of the webhook."""

    def __init__(self, settings: Settings, *, today: datetime.date | None = None) -> None:
        self.settings = settings
        self.meshes = meshes.load(settings)
        self._today = today

    def mesh(self, name: str) -> Mesh:
        """The mesh of that name; another name is the mesh `unknown`'s, in which nothing is."""
        return self.meshes.get(name, self.meshes["unknown"])

    def judge(self, pod: LivePod, enrolled: Enrolled, *, refuses_plaintext: bool = False) -> Judged:
        """Judge a pod by the mesh and mode of its namespace.

        Where the mesh's policy is known to refuse plaintext to it, what the pod alone suggests of
        that does not count. Of a pod that has more of something than is read, nothing is known.
        """
        try:
            return self._judge(pod, enrolled, refuses_plaintext=refuses_plaintext)
        except UndecodableError as error:
            return Judged("unknown", (live.UNREADABLE.violation(Spot("", (str(error),))),))

    def _judge(self, pod: LivePod, enrolled: Enrolled, *, refuses_plaintext: bool) -> Judged:
        mesh = self.mesh(enrolled.mesh)
        request = Request(
            namespace=pod.namespace, object=pod, ingress=enrolled.ingress, stored=True
        )
        verdict = validate(request, mesh, enrolled.mode, self.settings, today=self._today)
        if refuses_plaintext:
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
    """Whether no mesh stands before a pod: it did not join, or is let off joining."""
    if judged.state != "exempt":
        return judged.state == "unmeshed"
    return bool(mesh.proxy_name) and judged.pod is not None and judged.pod.proxy is None


def _without(verdict: Verdict, check: str) -> Verdict:
    kept = tuple(one for one in verdict.violations if one.check != check)
    return msgspec.structs.replace(verdict, violations=kept)


def _has_proxy(pod: Pod, mesh: Mesh) -> bool:
    """Whether a proxy is in the pod, or for a mesh without sidecars that it asks to be captured."""
    return pod.proxy is not None or not mesh.proxy_name or mesh.is_infrastructure(pod)


@cache
def _absent() -> frozenset[str]:
    """The checks that say of a pod that it did not join at all, and not only in part.

    What another mesh left in a pod does not take the right one's proxy out of it.
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
    born = pod.metadata.creation_timestamp
    if enrolled.since is None or born is None:
        return ""
    # Both are whole seconds: of the same second the pod is given the benefit of the doubt.
    if born <= enrolled.since:
        return "before-enrollment"
    return "escaped" if enrolled.mode == "enforce" else "let-in"
