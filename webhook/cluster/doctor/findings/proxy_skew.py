"""Pods have a proxy that is too old or too new for the control plane."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.judge import restarting
from webhook.cluster.judge.outdated import proxy_of
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of
from webhook.policy.words import listed

FINDING = FindingRule(
    id="proxy-skew",
    severity="warning",
    meshes=("linkerd", "istio"),
    means="the mesh supports proxies of the control plane's minor version and of the one before; "
    "other proxies may not understand the control plane's configuration",
    fix="restart the workloads with older proxies; newer proxies show that the control plane was "
    "downgraded, so upgrade it again",
    source="linkerd.io tasks/upgrade, data plane vs control plane version skew; istio.io "
    "releases/supported-releases, control plane/data plane skew",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each proxy version in the namespace that is not supported with the current one.

    The dry-run pod shows the current version. Linkerd's edge releases have no minor versions, so
    they are not compared.
    """
    stored = facts.probe(place).stored
    made = stored and pod_of(stored, place.mesh, Request(namespace=place.name), final=True)
    now = proxy_of(made) if made else None
    current = _minor(now.version) if now else None
    if now is None or current is None:
        return
    for proxy, names in sorted(facts.proxies(place).items()):
        minor = _minor(proxy.version)
        if proxy.stream != now.stream or minor is None or minor[0] != current[0]:
            continue
        if not current[1] - 1 <= minor[1] <= current[1]:
            is_newer = minor[1] > current[1]
            yield Occurrence(
                f"pod {place.name}/{listed(names, 1)} has proxy version {proxy.version}; new "
                f"pods get {now.version}",
                fix="the control plane was downgraded: upgrade it again"
                if is_newer
                else f"restart the workloads: {restarting.command(place.name, outdated=True)}",
            )


def _minor(version: str) -> tuple[int, int] | None:
    """Return major and minor of a version like `1.27.1`, `stable-2.14.10`, `enterprise-2.19.2`.

    None for any other text.
    """
    found = re.match(r"(?!edge-)(?:[a-z]+-)?(\d+)\.(\d+)(?:[.-]|$)", version)
    return (int(found[1]), int(found[2])) if found else None
