"""Another mesh's proxy or opt-in beside the right one; each would take the other's traffic."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh, annotation, label
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="foreign-mesh",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=("metadata.labels", "metadata.annotations", "spec.initContainers", "spec.containers"),
    reason="is of another mesh than the namespace's",
    fix="remove it: one pod, one mesh",
    source="linkerd2 pkg/healthcheck/sidecar.go; istio.io ambient/usage/add-workloads",
    explains_absence=True,
    excuses_absence=True,
)


class Signs(NamedTuple):
    """By what a mesh is known in a pod: containers, and values of labels and annotations."""

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


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield each sign of another mesh."""
    if mesh.is_infrastructure(pod):
        return
    for other, signs in _SIGNS.items():
        if other == mesh.name:
            continue
        for placed in pod.workload_containers:
            if placed.name in signs.containers:
                yield CHECK.violation(placed.field("name"), placed.name)
        for key, values in signs.labels.items():
            if pod.labels.get(key) in values:
                yield CHECK.violation(label(key), pod.labels[key])
        for key, values in signs.annotations.items():
            if pod.annotations.get(key) in values:
                yield CHECK.violation(annotation(key), pod.annotations[key])
