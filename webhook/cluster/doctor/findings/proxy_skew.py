"""Pods whose proxy is too old, or too new, for the control plane."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.judge.outdated import proxy_of
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of
from webhook.policy.words import listed

FINDING = FindingRule(
    id="proxy-skew",
    severity="warning",
    meshes=("linkerd", "istio"),
    means="the mesh supports proxies of the control plane's minor version and of the one before; "
    "others may miss what it tells them",
    mend="restart older ones: kubectl rollout restart, for Mendix's apps delete the pods; newer "
    "ones come of a control plane that was taken back: upgrade it",
    source="linkerd.io tasks/upgrade, data plane vs control plane version skew; istio.io "
    "releases/supported-releases, control plane/data plane skew",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each version that pods have and that does not go with what pods get now.

    That is told by the probe. Edge releases of Linkerd have no minor versions, and are not judged.
    """
    stored = look.probe(place).stored
    made = stored and pod_of(stored, place.mesh, Request(namespace=place.name), final=True)
    now = proxy_of(made) if made else None
    current = _minor(now.version) if now else None
    if now is None or current is None:
        return
    for proxy, names in sorted(look.proxies(place).items()):
        minor = _minor(proxy.version)
        if proxy.stream != now.stream or minor is None or minor[0] != current[0]:
            continue
        if not current[1] - 1 <= minor[1] <= current[1]:
            yield Occurrence(
                f"pod {place.name}/{listed(names, 1)} has a proxy of {proxy.version}; new pods get "
                f"{now.version}"
            )


def _minor(version: str) -> tuple[int, int] | None:
    """Major and minor of `1.27.1`, `stable-2.14.10` or `enterprise-2.19.2`; None of all else."""
    found = re.match(r"(?!edge-)(?:[a-z]+-)?(\d+)\.(\d+)(?:[.-]|$)", version)
    return (int(found[1]), int(found[2])) if found else None
