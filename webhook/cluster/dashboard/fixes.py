"""Makes the command that fixes a finding, to be copied from a page."""

import shlex
from typing import NamedTuple

from webhook.cluster.judge import Origin
from webhook.cluster.judge.live import PROXY_NOT_READY

_RESTARTS = frozenset({"proxy-outdated", "trust-anchor-changed", "not-redirected"})
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


def command(subject: Subject, check: str, level: str, origin: Origin) -> str:
    """Return the command; empty for an exemption, or if only the author knows the fix."""
    where = f"-n {shlex.quote(subject.namespace)}"
    if level == "exempt":
        return ""
    if check in _RESTARTS or (check == "proxy-missing" and origin == "before-enrollment"):
        return f"mendix-mesh restart {where}"
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
