"""A task pod gets a proxy that does not end with it: builds and provisioning hang for ever."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="task-never-ends",
    severity="error",
    meshes=("linkerd", "istio"),
    means="build and storage pods of Mendix, and Jobs, run on when their work is done: the proxy "
    "is a container like theirs, and not a native sidecar",
    mend="native sidecars need Kubernetes 1.29, Linkerd 2.15 or Istio 1.24, and with Istio "
    "settings.istio.nativeSidecars; bring the versions and the settings together",
    source="linkerd.io features/native-sidecars; istio 1.24 release notes, nativeSidecar",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the proxy's place in a task pod that is asked for by a dry run."""
    if place.mesh.proxy_name in look.probe(place, task=True).containers:
        yield Occurrence(f"{place.mesh.proxy_name} of a task pod is in spec.containers")
