"""Another mesh's proxy or opt-in besides the right one: each captures the other's traffic."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh, annotation, label
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="foreign-mesh",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[linkerd.io/inject]",
        "metadata.labels[sidecar.istio.io/inject]",
        "metadata.labels[istio.io/dataplane-mode]",
        "spec.initContainers",
        "spec.containers",
    ),
    reason="belongs to a different mesh than the namespace",
    fix="author: remove it; a pod can be in one mesh only",
    source="linkerd2 pkg/healthcheck/sidecar.go; istio.io ambient/usage/add-workloads",
    explains_absence=True,
    excuses_absence=True,
)


class Signs(NamedTuple):
    """The signs of a mesh in a pod: containers, and values of labels and annotations."""

    containers: Collection[str] = ()
    labels: Mapping[str, Collection[str]] = {}
    annotations: Mapping[str, Collection[str]] = {}


_SIGNS = {
    "linkerd": Signs(
        containers=("linkerd-proxy", "linkerd-init", "linkerd-network-validator"),
        annotations={"linkerd.io/inject": ("enabled", "ingress")},
    ),
    "istio": Signs(
        containers=("istio-proxy", "istio-init", "istio-validation"),
        labels={"sidecar.istio.io/inject": ("true",)},
    ),
    "ambient": Signs(labels={"istio.io/dataplane-mode": ("ambient",)}),
}


def _others_of(mesh: str) -> Signs:
    """Return the signs of all meshes except one."""
    others = [signs for name, signs in _SIGNS.items() if name != mesh]
    return Signs(
        frozenset(name for signs in others for name in signs.containers),
        {key: values for signs in others for key, values in signs.labels.items()},
        {key: values for signs in others for key, values in signs.annotations.items()},
    )


_OTHERS = {mesh: _others_of(mesh) for mesh in _SIGNS}


def find(mesh: Mesh, pod: Pod) -> Iterator[Occurrence]:
    """Yield each sign of another mesh."""
    others = _OTHERS[mesh.name]
    for placed in pod.workload_containers:
        if placed.container.name in others.containers and not mesh.is_infrastructure(pod):
            yield Occurrence(placed.field("name"), (placed.name,))
    for where, found, signs in (
        (label, pod.labels, others.labels),
        (annotation, pod.annotations, others.annotations),
    ):
        for key, values in signs.items():
            value = found.get(key)
            if value is not None and value in values and not mesh.is_infrastructure(pod):
                yield Occurrence(where(key), (value,))
