"""The way out of a finding, as a command to copy."""

import shlex
from typing import NamedTuple

from webhook.cluster.judge import Origin
from webhook.cluster.judge.live import PROXY_NOT_READY

_RESTARTS = frozenset({"proxy-outdated", "trust-anchor-changed", "not-redirected"})
#: Kinds that `kubectl edit` knows by their own names.
_OWN = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})
_PROXIES = {"linkerd": "linkerd-proxy", "istio": "istio-proxy"}


class Subject(NamedTuple):
    """What has the finding."""

    namespace: str
    mesh: str
    kind: str
    name: str
    #: What it is to Mendix; empty where it is not Mendix's.
    role: str
    #: One of the pods that have it.
    pod: str


def command(subject: Subject, check: str, level: str, origin: Origin) -> str:
    """What to type; empty for an exemption, and where nobody but the author knows."""
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
        # The operator undoes what others write on its Deployments.
        return f"kubectl {where} edit mendixapps.privatecloud.mendix.com"
    if subject.kind in _OWN:
        return f"kubectl {where} edit {subject.kind.lower()}/{shlex.quote(subject.name)}"
    if subject.kind == "Pod":
        return f"kubectl {where} get pod {shlex.quote(subject.name)} -o yaml"
    return ""
