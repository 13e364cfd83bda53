"""The API server is older than what we need."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.doctor.facts import Look, Place

#: Major and minor version; the chart's kubeVersion.
NEEDED = (1, 29)

SYMPTOM = Symptom(
    id="kubernetes-old",
    severity="error",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    means="it does not understand all of the webhook configurations, nor native sidecars: what is "
    "refused and what is let in is not what the docs say",
    mend=f"upgrade Kubernetes to {NEEDED[0]}.{NEEDED[1]} or later",
    source="charts/mendix-mesh/Chart.yaml; kubernetes.io, matchConditions and sidecar containers",
)


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield its version."""
    told = (look.get("/version") or {}).get("gitVersion", "")
    found = re.match(r"v(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) < NEEDED:
        yield Evidence(f"the API server is {told}")
