"""A container with the proxy's name that is not the proxy, or can't work as it."""

from webhook.policy.checks import Check

CHECK = Check(
    id="proxy-forged",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.initContainers",
        "spec.containers",
        "spec.volumes",
        "metadata.labels[linkerd.io/control-plane-ns]",
        "metadata.annotations[sidecar.istio.io/status]",
        "metadata.labels[security.istio.io/tlsMode]",
    ),
    reason="differs from what the mesh's injector creates",
    fix="author: remove the mesh's containers, volumes and labels from the pod; the injector adds "
    "them",
    follows=True,
    source="linkerd2 pkg/healthcheck/sidecar.go, charts/patch/templates/patch.json",
    explains_absence=True,
    asks="forgeries",
)
