"""A pod with a proxy that its traffic bypasses."""

from webhook.policy.checks import Check

CHECK = Check(
    id="capture-bypassed",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[config.linkerd.io/skip-inbound-ports]",
        "metadata.annotations[config.linkerd.io/skip-outbound-ports]",
        "metadata.annotations[config.linkerd.io/skip-subnets]",
        "metadata.annotations[config.linkerd.io/control-port]",
        "metadata.annotations[config.linkerd.io/admin-port]",
        "metadata.annotations[config.linkerd.io/inbound-port]",
        "metadata.annotations[config.linkerd.io/outbound-port]",
        "metadata.annotations[linkerd.io/inject]",
        "spec.initContainers[*].args",
        "metadata.annotations[sidecar.istio.io/interceptionMode]",
        "metadata.annotations[proxy.istio.io/config]",
        "metadata.annotations[inject.istio.io/templates]",
        "metadata.annotations[traffic.sidecar.istio.io/*]",
        "metadata.annotations[istio.io/reroute-virtual-interfaces]",
        "metadata.annotations[status.sidecar.istio.io/port]",
        "metadata.annotations[ambient.istio.io/bypass-inbound-capture]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
    ),
    reason="makes traffic bypass the proxy in plaintext",
    fix="author: remove it; admin: allow it in settings.allow, or for all pods in the mesh's "
    "settings",
    source="linkerd2 pkg/k8s/labels.go, pkg/inject/inject.go, proxy-init flags",
    asks="capture_bypasses",
)
