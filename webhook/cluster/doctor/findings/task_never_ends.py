"""The proxy of a task pod does not end with the task, so builds and provisioning never finish."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="task-never-ends",
    severity="error",
    meshes=("linkerd", "istio"),
    means="Mendix build and storage pods, and Jobs, do not end when their work is done, because "
    "the proxy is a regular container and not a native sidecar",
    fix="use native sidecars: they need Kubernetes 1.29, and Linkerd 2.15 or Istio 1.24; with "
    "Istio, settings.istio.nativeSidecars in the chart's values must be true",
    source="linkerd.io features/native-sidecars; istio 1.24 release notes, nativeSidecar",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the proxy container of a task pod that is created in a dry run."""
    if place.mesh.proxy_name in facts.probe(place, task=True).containers:
        fix = "upgrade Linkerd to 2.15 or later, or set proxy.nativeSidecar=true in its values"
        if place.mesh.name == "istio":
            fix = "upgrade Istio to 1.24 or later, with native sidecars"
            if not facts.settings.istio.native_sidecars:
                fix = facts.helm("--set", "settings.istio.nativeSidecars=true")
        yield Occurrence(f"{place.mesh.proxy_name} of a task pod is in spec.containers", fix=fix)
