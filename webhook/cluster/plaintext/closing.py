"""Closes a namespace to plaintext, if no policy closes it yet.

For Istio it creates a PeerAuthentication for the whole namespace. For Linkerd it sets the
annotation that the injector copies to new pods. Existing policies are never changed.
"""

from collections.abc import Sequence

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge import Judge, restarting
from webhook.cluster.kinds.inventory import RUNNING, BadPod, Inventory
from webhook.cluster.plaintext.acceptance import assess, describe
from webhook.cluster.plaintext.callers import CutOff, cut_off
from webhook.cluster.plaintext.policies import PolicyObjects, Unread
from webhook.policy.meshes.linkerd import CLOSED_POLICIES, INBOUND_POLICY
from webhook.policy.plaintext import istio

#: The annotation's value: all clients with an identity that the trust roots verify.
POLICY = "all-authenticated"
#: The name that Istio's documentation uses for a namespace's policy.
NAME = "default"
_GROUP, _PLURAL = "security.istio.io", "peerauthentications"


class ClosingStep(msgspec.Struct, kw_only=True):
    """The change that closes one namespace to plaintext."""

    name: str
    mesh: str
    #: What is written, in words; empty if nothing needs to be written, or can be.
    writes: str = ""
    #: Why nothing can be written, and how to fix that; else empty.
    blocked: str = ""
    #: What stays open after the change.
    left: list[str] = []
    cut_off: CutOff = msgspec.field(default_factory=CutOff)

    @property
    def is_safe(self) -> bool:
        """Return whether it is certain that the change cuts off no caller."""
        return not self.writes or self.cut_off.is_nobody


def plan(
    cluster: Cluster, judge: Judge, policies: PolicyObjects, namespaces: Sequence[tuple[str, str]]
) -> list[ClosingStep]:
    """Return the steps for these namespaces, given as name and mesh. Raises `ClusterError`."""
    steps = []
    for name, mesh in namespaces:
        of_mesh = _linkerd if mesh == "linkerd" else _istio
        try:
            step = of_mesh(cluster, policies, name)
        except Unread as unread:
            step = ClosingStep(
                name=name, mesh=mesh, blocked=f"its policies can't be read: {unread}"
            )
        step.mesh = mesh
        if step.writes:
            step.cut_off = cut_off(cluster, judge, name, mesh)
        steps.append(step)
    return steps


def _linkerd(cluster: Cluster, policies: PolicyObjects, name: str) -> ClosingStep:
    inventory, step = Inventory(cluster), ClosingStep(name=name, mesh="linkerd")
    annotations = inventory.namespace(name).annotations
    now = annotations.get(INBOUND_POLICY)
    if now not in CLOSED_POLICIES:
        before = f" (now {now})" if now else ""
        step.writes = f"annotation {INBOUND_POLICY}={POLICY}{before}"
        step.left = [f"running pods, until they are replaced: {restarting.command(name)}"]
        return step
    # Older pods, and ports that policy objects open.
    assessment = assess(policies, name, "linkerd", annotations=annotations, enrolled=True)
    for pod in inventory.pods(name, fields=RUNNING):
        if not isinstance(pod, BadPod):
            assessment.add(pod.name, assessment.read(pod), outside=False)
    found = assessment.finished()
    step.left = [f"{describe(gap)}; {gap.fix}" for gap in found.gaps] + [
        f"perhaps more: {why}" for why in found.unread
    ]
    return step


def _istio(cluster: Cluster, policies: PolicyObjects, name: str) -> ClosingStep:
    step = ClosingStep(name=name, mesh="istio")
    peers = policies.peers(name)
    for policy in peers.narrow(name):
        for occurrence in istio.weaknesses(policy):
            title = f"PeerAuthentication {name}/{policy.metadata.name}"
            step.left.append(f"{title}: {occurrence.field} is {occurrence.values[0]}")
    if peers.of(name, {}).default is None:
        return step
    wide = peers.wide(name)
    if wide is not None:
        patch = '{"spec":{"mtls":{"mode":"STRICT"}}}'
        step.blocked = (
            f"PeerAuthentication {name}/{wide.metadata.name} already exists, and Istio uses the "
            f"oldest one; change it with kubectl -n {name} patch peerauthentication "
            f"{wide.metadata.name} --type=merge -p '{patch}'"
        )
    elif _version(cluster) is None:
        step.blocked = f"the API group {_GROUP} does not exist; install Istio with its CRDs first"
    else:
        step.writes = f"PeerAuthentication {name}/{NAME} with mode STRICT"
    return step


def _version(cluster: Cluster) -> str | None:
    group = cluster.find(f"/apis/{_GROUP}")
    return str(group["preferredVersion"]["groupVersion"]) if group else None


def write(cluster: Cluster, step: ClosingStep, *, dry_run: bool) -> list[str]:
    """Carry out a step and return the API server's warnings. Raises `StatusError`."""
    if step.mesh == "linkerd":
        change = {"metadata": {"annotations": {INBOUND_POLICY: POLICY}}}
        return cluster.patch(path("v1", "namespaces", name=step.name), change, dry_run=dry_run)[1]
    version = _version(cluster)
    if version is None:
        raise StatusError(404, f"the API group {_GROUP} does not exist")
    policy = {
        "apiVersion": version,
        "kind": "PeerAuthentication",
        "metadata": {
            "name": NAME,
            "namespace": step.name,
            "labels": {"app.kubernetes.io/managed-by": "mendix-mesh"},
        },
        "spec": {"mtls": {"mode": istio.STRICT}},
    }
    return cluster.create(path(version, _PLURAL, step.name), policy, dry_run=dry_run)[1]
