"""A proxy that obeys another control plane."""

from webhook.policy.checks import Check

CHECK = Check(
    id="control-plane-elsewhere",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "metadata.labels[linkerd.io/control-plane-ns]",
        "spec.initContainers[*].env",
        "metadata.annotations[proxy.istio.io/config]",
        "metadata.annotations[sidecar.istio.io/discoveryAddress]",
        "spec.containers[*].env",
        "spec.hostAliases",
        "spec.hostnameOverride",
        "metadata.name",
        "spec.dnsPolicy",
    ),
    reason="names a control plane that is not the cluster's",
    fix="author: let the injector set it; admin: name yours in "
    "settings.linkerd.controlPlaneNamespace",
    source="linkerd2 controller/api/destination/endpoint_translator.go createWeightedAddr",
    asks="foreign_control_plane",
)
