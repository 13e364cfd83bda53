"""The API server is older than the oldest supported version."""

import re
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

#: Major and minor version; the chart's kubeVersion.
NEEDED = (1, 30)

FINDING = FindingRule(
    id="kubernetes-old",
    severity="error",
    meshes=("linkerd", "istio", "ambient", "unknown"),
    means="mendix-mesh is not tested with it, so pods may be denied or admitted differently than "
    "the docs describe",
    fix=f"upgrade Kubernetes to {NEEDED[0]}.{NEEDED[1]} or later",
    source="charts/mendix-mesh/Chart.yaml; docs/compatibility.md",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the API server's version."""
    version = str((facts.get("/version") or {}).get("gitVersion", ""))
    found = version_of(version)
    if found and found < NEEDED:
        yield Occurrence(f"the API server has version {version}")


def version_of(text: str) -> tuple[int, int] | None:
    """Return major and minor of an API server's version; None for any other text."""
    found = re.match(r"v(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
