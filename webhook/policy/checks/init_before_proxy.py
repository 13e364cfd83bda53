"""Init containers that run before the proxy: they speak outside the mesh."""

from webhook.policy.checks import Check

CHECK = Check(
    id="init-before-proxy",
    level="warning",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers",),
    reason="runs before the proxy, outside the mesh",
    fix="mesh's admin: use native sidecars (Kubernetes 1.29 or later)",
    source="linkerd2 charts/patch/templates/patch.json; kubernetes.io sidecar containers",
    evidence=True,
    asks="late_proxy",
)
