"""The API server is older than what we need."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

#: Major and minor version; the chart's kubeVersion.
NEEDED = (1, 29)

FINDING = FindingRule(
    id="kubernetes-old",
    severity="error",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    means="it does not understand all of the webhook configurations, nor native sidecars: what is "
    "refused and what is let in is not what the docs say",
    mend=f"upgrade Kubernetes to {NEEDED[0]}.{NEEDED[1]} or later",
    source="charts/mendix-mesh/Chart.yaml; kubernetes.io, matchConditions and sidecar containers",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield its version."""
    told = (look.get("/version") or {}).get("gitVersion", "")
    found = re.match(r"v(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) < NEEDED:
        yield Occurrence(f"the API server is {told}")
