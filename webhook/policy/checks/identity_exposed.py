"""A workload container that can read the key of the proxy's identity."""

from webhook.policy.checks import Check

CHECK = Check(
    id="identity-exposed",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.containers[*].volumeMounts",
        "spec.initContainers[*].volumeMounts",
        "spec.ephemeralContainers[*].volumeMounts",
    ),
    reason="lets the container read the proxy's key or token",
    fix="author: remove the mount; this volume is only for the proxy",
    source="linkerd2 charts/partials/templates/_proxy.tpl volumeMounts",
    asks="exposed_identity",
)
