"""A pod in its own runtime or system, whose network the mesh can't redirect."""

from webhook.policy.checks import Check

CHECK = Check(
    id="runtime-not-captured",
    level="deny",
    meshes=("ambient",),
    fields=("spec.runtimeClassName", "spec.os.name", "spec.nodeSelector[kubernetes.io/os]"),
    reason="runs in a sandbox with its own network, which the node agent might not redirect",
    fix="author: remove it; admin: if the node agent redirects such pods, name the class in "
    "settings.ambient.runtimeClasses",
    source="istio issue 58573 (gVisor, Kata); istio cni/pkg/nodeagent/net.go",
    asks="unreachable_runtime",
)
