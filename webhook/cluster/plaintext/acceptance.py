"""Assesses whether a namespace accepts plaintext, from the meshes' policy objects and its pods.

If something can't be read, the result is unknown, with the reason.
"""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from webhook.cluster.judge import Judge, Judged, is_outside, restarting
from webhook.cluster.kinds.inventory import LivePod
from webhook.cluster.namespaces.enrollment import Enrolled
from webhook.cluster.plaintext.policies import Downgrade, PolicyObjects, Unread
from webhook.policy.meshes.linkerd import CLOSED_POLICIES, INBOUND_POLICY
from webhook.policy.plaintext import (
    CLOSE,
    PLAINTEXT_ACCEPTED,
    Accepts,
    Opening,
    Reading,
    istio,
    linkerd,
    together,
)
from webhook.policy.settings import Settings
from webhook.policy.words import listed

#: Pods of a gap that are named.
_EXAMPLES = 3
NEW_PODS = "pods that are created now"


class Gap(msgspec.Struct, kw_only=True):
    """Ports that accept plaintext, and why."""

    #: `all ports`, or for example `port 8080`.
    ports: str
    because: str
    #: How to close it.
    fix: str
    #: The number of running pods that have it, and some names; 0 for pods that are created now.
    pods: int
    examples: list[str] = []


class PlaintextPolicy(msgspec.Struct, kw_only=True):
    """Whether a namespace accepts plaintext."""

    accepts: Accepts
    #: Why, a line each: what opens it, else what closes it, else what could not be read.
    because: list[str]
    gaps: list[Gap]
    #: None if DestinationRules could not be read.
    downgrades: list[Downgrade] | None
    #: What could not be read, and why.
    unread: list[str] = []
    #: The level of the check by the settings; empty if plaintext is not accepted.
    level: Literal["", "deny", "warning", "exempt"] = ""
    #: Number of running pods that were assessed.
    pods: int = 0


class _ByLinkerd:
    """Reads pods by Linkerd's rules."""

    def __init__(
        self,
        policies: linkerd.LinkerdPolicies,
        default: str | Unread,
        name: str,
        namespace: Mapping[str, str],
        demanded: str | None,
    ) -> None:
        self._name = name
        self._unread = default if isinstance(default, Unread) else None
        known = linkerd.DEFAULT if isinstance(default, Unread) else default
        self._inbound = linkerd.Inbound(policies, known)
        self._namespace = namespace
        self._demanded = demanded

    def pod(self, pod: LivePod) -> Reading:
        """Return the reading of a running pod. Raises `Unread`."""
        annotations = pod.metadata.annotations or {}
        if self._unread and annotations.get(INBOUND_POLICY) not in linkerd.POLICIES:
            raise self._unread
        named: dict[str, list[int]] = defaultdict(list)
        for some in (pod.spec.init_containers, pod.spec.containers) if pod.spec else ():
            for container in some or ():
                for port in container.ports or ():
                    if port.name and port.protocol in (None, "TCP"):
                        named[port.name].append(port.container_port)
        found = self._inbound.of(linkerd.PodMarks(pod.metadata.labels or {}, annotations, named))
        wanted = self._demanded or self._namespace.get(INBOUND_POLICY)
        if found.default is None or wanted not in CLOSED_POLICIES:
            return found
        # The namespace is already closed, but a policy reaches only new pods.
        fix = f"restart the pods: {restarting.command(self._name)}"
        if pod.metadata.controller is None:
            fix = restarting.RECREATE
        if INBOUND_POLICY in annotations:
            fix = f"if the pod template sets {INBOUND_POLICY}, remove it there; then {fix}"
        return found._replace(default=found.default._replace(fix=fix))

    def new_pods(self) -> Reading:
        """Return the reading of a new pod without annotations of its own. Raises `Unread`."""
        marked = self._demanded or self._namespace.get(INBOUND_POLICY)
        if self._unread and marked not in linkerd.POLICIES:
            raise self._unread
        return self._inbound.new_pods(self._namespace, self._demanded)

    def routes(self) -> Iterable[Opening]:
        """Return what opens routes to plaintext."""
        return self._inbound.routes()


class _ByIstio:
    """Reads pods by Istio's rules."""

    def __init__(self, peers: istio.Peers, namespace: str, *, ambient: bool) -> None:
        self._peers = peers
        self._namespace = namespace
        self._ambient = ambient

    def pod(self, pod: LivePod) -> Reading:
        """Return the reading of a running pod."""
        meta = pod.metadata
        return self._peers.pod(
            self._namespace, meta.labels or {}, meta.annotations or {}, ambient=self._ambient
        )

    def new_pods(self) -> Reading:
        """Return the reading of a pod that no policy selects by labels."""
        return self._peers.of(self._namespace, {}, ambient=self._ambient)

    def routes(self) -> Iterable[Opening]:
        """Return nothing, because Istio's routes do not restrict their clients."""
        return ()


_OUTSIDE = Opening("the pod is outside the mesh, so it accepts plaintext", "bring it into the mesh")


class Assessment:
    """A namespace while its pods are being read."""

    def __init__(self, namespace: str, settings: Settings) -> None:
        self.judge: _ByLinkerd | _ByIstio | None = None
        self.downgrades: list[Downgrade] | None = []
        self.unread: list[str] = []
        self.unread_rules: list[str] = []
        self._namespace = namespace
        self._settings = settings
        self._accepts: list[Accepts] = []
        self._closed: dict[str, None] = {}
        self._pods: dict[tuple[str, Opening], int] = {}
        self._names: dict[tuple[str, Opening], list[str]] = {}
        self._number = 0

    def judged(self, judge: Judge, pod: LivePod, enrolled: Enrolled) -> Judged:
        """Judge a running pod, and add it with what the mesh does with plaintext to it."""
        reading = self.read(pod)
        closed = reading is not None and reading.accepts == "no"
        judged = judge.judge(pod, enrolled, closed=closed)
        self.add(pod.name, reading, outside=is_outside(judged, judge.mesh(enrolled.mesh)))
        return judged

    def read(self, pod: LivePod) -> Reading | None:
        """Return what the mesh does with plaintext to a pod; None if that is unknown."""
        try:
            return self.judge.pod(pod) if self.judge else None
        except Unread as unread:
            self.miss(str(unread))
            return None

    def miss(self, why: str) -> None:
        """Record that something could not be read, which makes the result at best unknown."""
        self._accepts.append("unknown")
        if why not in self.unread:
            self.unread.append(why)

    def add(self, name: str, reading: Reading | None, *, outside: bool) -> None:
        """Add a running pod with its reading. A pod outside the mesh accepts plaintext."""
        self._number += 1
        self._add(Reading(_OUTSIDE, {}) if outside else reading, name)

    def _add(self, reading: Reading | None, name: str) -> None:
        if reading is None:
            self._accepts.append("unknown")
            return
        self._accepts.append(reading.accepts)
        if reading.closed:
            self._closed.setdefault(reading.closed)
        for key in reading.openings():
            self._pods[key] = self._pods.get(key, 0) + (1 if name else 0)
            names = self._names.setdefault(key, [])
            if name and len(names) < _EXAMPLES:
                names.append(name)

    def finished(self) -> PlaintextPolicy:
        """Return the result, after all pods have been added."""
        self._new_pods()
        gaps = [
            Gap(ports=ports, because=one.because, pods=number,
                fix=one.fix.replace(CLOSE, f"{CLOSE} -n {self._namespace}"),
                examples=self._names[ports, one])
            for (ports, one), number in self._pods.items()
        ]  # fmt: skip
        for one in self.judge.routes() if self.judge else ():
            gaps.append(Gap(ports="a route", because=one.because, fix=one.fix, pods=0))
            self._accepts.append("partly")
        accepts = together(self._accepts)
        because = [describe(gap) for gap in gaps] or list(self._closed) or list(self.unread)
        if accepts == "unknown":
            because = list(self.unread) or because
        return PlaintextPolicy(
            accepts=accepts,
            because=because,
            gaps=gaps,
            downgrades=self.downgrades,
            unread=self.unread + self.unread_rules,
            level=self._level() if accepts in ("yes", "partly") else "",
            pods=self._number,
        )

    def _new_pods(self) -> None:
        if self.judge is None:
            self._accepts.append("unknown")
            return
        try:
            reading = self.judge.new_pods()
        except Unread as unread:
            self.miss(str(unread))
            return
        self._add(reading, "")

    def _level(self) -> Literal["deny", "warning", "exempt"]:
        settings, check = self._settings, PLAINTEXT_ACCEPTED
        today = datetime.date.today()
        if settings.exemption(check.id, self._namespace, {}, today):
            return "exempt"
        level = settings.level_of(check.id, check.level, self._namespace, {})
        return "deny" if level == "deny" else "warning"


def assess(
    policies: PolicyObjects,
    namespace: str,
    mesh: str,
    *,
    annotations: Mapping[str, str],
    enrolled: bool,
) -> Assessment:
    """Return the assessment of a namespace, to which its pods are then added."""
    assessment = Assessment(namespace, policies.settings)
    demanded = policies.settings.linkerd.inbound_policy if enrolled else None
    try:
        if mesh == "linkerd":
            known = policies.authorizations(namespace)
            assessment.judge = _ByLinkerd(
                known, policies.default_inbound(), namespace, annotations, demanded
            )
        elif mesh in ("istio", "ambient"):
            peers = policies.peers(namespace)
            assessment.judge = _ByIstio(peers, namespace, ambient=mesh == "ambient")
        else:
            raise Unread(f"unknown mesh {mesh}")
    except Unread as unread:
        assessment.miss(str(unread))
    if mesh in ("istio", "ambient"):
        try:
            assessment.downgrades = policies.downgrades(namespace)
        except Unread as unread:
            assessment.downgrades = None
            assessment.unread_rules.append(str(unread))
    return assessment


def describe(gap: Gap) -> str:
    """Return a gap in one line, without its fix."""
    if not gap.pods:
        who = NEW_PODS if gap.ports != "a route" else "the pods that serve it"
    else:
        who = listed(gap.examples, of=gap.pods)
    return f"{gap.ports} of {who}: {gap.because}"
