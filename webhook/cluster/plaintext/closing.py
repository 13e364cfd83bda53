"""Making a namespace refuse plaintext, where nothing in it does yet.

Istio gets a PeerAuthentication for the whole namespace, Linkerd the annotation that its injector
copies to new pods. What others have written is never changed.
"""

from collections.abc import Sequence

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.judge import Judge
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.plaintext.callers import CutOff, cut_off
from webhook.cluster.plaintext.policies import PolicyObjects, Unread
from webhook.policy.meshes.linkerd import CLOSED_POLICIES, INBOUND_POLICY
from webhook.policy.plaintext import istio

#: The annotation's value: clients with an identity of any mesh that the roots vouch for.
POLICY = "all-authenticated"
#: The name that Istio's own guides give to a namespace's policy.
NAME = "default"
_GROUP, _PLURAL = "security.istio.io", "peerauthentications"


class ClosingStep(msgspec.Struct, kw_only=True):
    """What makes one namespace strict."""

    name: str
    mesh: str
    #: What is written, in words; empty where nothing needs to be, or can be.
    writes: str = ""
    #: Why nothing can be written, and what to do; empty where it can.
    blocked: str = ""
    #: What stays open all the same.
    left: list[str] = []
    cut_off: CutOff = msgspec.field(default_factory=CutOff)

    @property
    def is_safe(self) -> bool:
        """Whether nobody would be cut off by it, as far as is known."""
        return not self.writes or self.cut_off.is_nobody


def plan(
    cluster: Cluster, judge: Judge, policies: PolicyObjects, namespaces: Sequence[tuple[str, str]]
) -> list[ClosingStep]:
    """What is to be written, for each name of a namespace and its mesh. Raises `ClusterError`."""
    steps = []
    for name, mesh in namespaces:
        try:
            step = _linkerd(cluster, name) if mesh == "linkerd" else _istio(cluster, policies, name)
        except Unread as unread:
            step = ClosingStep(
                name=name, mesh=mesh, blocked=f"its policies can't be read: {unread}"
            )
        step.mesh = mesh
        if step.writes:
            step.cut_off = cut_off(cluster, judge, name, mesh)
        steps.append(step)
    return steps


def _linkerd(cluster: Cluster, name: str) -> ClosingStep:
    now = Inventory(cluster).namespace(name).annotations.get(INBOUND_POLICY)
    step = ClosingStep(name=name, mesh="linkerd")
    if now not in CLOSED_POLICIES:
        before = f" (now {now})" if now else ""
        step.writes = f"annotation {INBOUND_POLICY}={POLICY}{before}"
        step.left = ["pods that run already, until they are restarted"]
    return step


def _istio(cluster: Cluster, policies: PolicyObjects, name: str) -> ClosingStep:
    step = ClosingStep(name=name, mesh="istio")
    peers = policies.peers(name)
    for policy in peers.narrow(name):
        for spot in istio.weaknesses(policy):
            title = f"PeerAuthentication {name}/{policy.metadata.name}"
            step.left.append(f"{title}: {spot.field} is {spot.values[0]}")
    if peers.of(name, {}).default is None:
        return step
    wide = peers.wide(name)
    if wide is not None:
        patch = '{"spec":{"mtls":{"mode":"STRICT"}}}'
        step.blocked = (
            f"PeerAuthentication {name}/{wide.metadata.name} is there already, and the oldest "
            f"counts: kubectl -n {name} patch peerauthentication {wide.metadata.name} "
            f"--type=merge -p '{patch}'"
        )
    elif _version(cluster) is None:
        step.blocked = f"there is no {_GROUP}: is Istio installed, with its CRDs?"
    else:
        step.writes = f"PeerAuthentication {name}/{NAME} with mode STRICT"
    return step


def _version(cluster: Cluster) -> str | None:
    group = cluster.find(f"/apis/{_GROUP}")
    return str(group["preferredVersion"]["groupVersion"]) if group else None


def write(cluster: Cluster, step: ClosingStep, *, dry_run: bool) -> list[str]:
    """Do a step; gives the API server's warnings. Raises `RefusedError`."""
    if step.mesh == "linkerd":
        change = {"metadata": {"annotations": {INBOUND_POLICY: POLICY}}}
        return cluster.patch(path("v1", "namespaces", name=step.name), change, dry_run=dry_run)[1]
    version = _version(cluster)
    if version is None:
        raise RefusedError(404, f"there is no {_GROUP}")
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
