"""Makes the command that fixes a finding, to be copied from a page."""

import shlex
from typing import NamedTuple

from webhook.cluster.judge import Origin, restarting
from webhook.cluster.judge.live import (
    INBOUND_POLICY_OUTDATED,
    NOT_REDIRECTED,
    PROXY_NOT_READY,
    PROXY_OUTDATED,
    TRUST_ANCHOR_CHANGED,
)

#: Checks that a restart fixes, and of these, those of workloads that are in the mesh otherwise.
_RESTARTS = frozenset({NOT_REDIRECTED.id, INBOUND_POLICY_OUTDATED.id})
_OUTDATED = frozenset({PROXY_OUTDATED.id, TRUST_ANCHOR_CHANGED.id})
#: Findings that a single pod does not show, because they compare it with what new pods get.
OUTDATED = _OUTDATED | {INBOUND_POLICY_OUTDATED.id}
#: Kinds that `kubectl edit` finds by their short names.
_OWN = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})
_PROXIES = {"linkerd": "linkerd-proxy", "istio": "istio-proxy"}


class Subject(NamedTuple):
    """The workload that has the finding."""

    namespace: str
    mesh: str
    kind: str
    name: str
    #: Its role in Mendix; empty for other workloads.
    role: str
    #: One of the pods that have the finding.
    pod: str
    is_enrolled: bool = True


def command(subject: Subject, check: str, level: str, origin: Origin) -> str:
    """Return the command; empty for an exemption, or if only the author knows the fix."""
    where = f"-n {shlex.quote(subject.namespace)}"
    if level == "exempt":
        return ""
    if check in _RESTARTS | _OUTDATED or (check, origin) == ("proxy-missing", "before-enrollment"):
        # Without an enrollment, the restart would not help.
        done = restarting.command(subject.namespace, outdated=check in _OUTDATED)
        return done if subject.is_enrolled else ""
    if check == "proxy-missing":
        return f"mendix-mesh doctor {where}"
    if check == PROXY_NOT_READY.id and subject.mesh in _PROXIES:
        proxy = _PROXIES[subject.mesh]
        return f"kubectl {where} logs {shlex.quote(subject.pod)} -c {proxy}"
    if subject.role.startswith("app"):
        # The operator would revert changes to its Deployments.
        return f"kubectl {where} edit mendixapps.privatecloud.mendix.com"
    if subject.kind in _OWN:
        return f"kubectl {where} edit {subject.kind.lower()}/{shlex.quote(subject.name)}"
    if subject.kind == "Pod":
        return f"kubectl {where} get pod {shlex.quote(subject.name)} -o yaml"
    return ""
