"""A ResourceQuota of the namespace denies new pods."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="quota",
    severity="error",
    means="the API server denies pods of the namespace, and not because of the mesh",
    fix="raise the ResourceQuota, or give the proxy the limits that the quota requires",
    source="kubernetes.io, resource quotas: requests and limits must be set for every container",
)
_FULL = re.compile(r"exceeded quota: ([^,\s]+)")
_LIMITS = re.compile(r"failed quota: ([^:\s]+): must specify (.+)")


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the quota's message for the dry-run pod, and whether it is full or misses limits."""
    denial = facts.probe(place).denial
    if advice := fix(denial, place.name):
        what = "is full" if _FULL.search(denial) else "requires limits that a container lacks"
        yield Occurrence(f"a ResourceQuota {what}: {denial}", fix=advice)


def fix(message: str, namespace: str) -> str:
    """Return how to fix a denial by a quota; empty if the message is about something else."""
    if full := _FULL.search(message):
        return (
            "delete pods that are not needed, or raise the quota: "
            f"kubectl -n {namespace} edit resourcequota {full[1]}"
        )
    if found := _LIMITS.search(message):
        return (
            f"the quota {found[1]} requires {found[2]}; give these containers defaults with a "
            f"LimitRange: {limit_range(namespace)}"
        )
    return ""


def limit_range(namespace: str) -> str:
    """Return a command that creates default requests and limits for containers without them."""
    default = "{cpu: 500m, memory: 256Mi}"
    request = "{cpu: 20m, memory: 64Mi}"
    item = f"{{type: Container, default: {default}, defaultRequest: {request}}}"
    return (
        f"echo '{{apiVersion: v1, kind: LimitRange, metadata: {{name: mendix-mesh-defaults}}, "
        f"spec: {{limits: [{item}]}}}}' | kubectl -n {namespace} apply -f -"
    )
