"""An update that takes a running pod out of the mesh: control planes read these live."""

from webhook.policy.checks import Check

CHECK = Check(
    id="mesh-label-removed",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.labels[linkerd.io/control-plane-ns]",
        "metadata.annotations[config.linkerd.io/default-inbound-policy]",
        "metadata.labels[security.istio.io/tlsMode]",
        "metadata.labels[networking.istio.io/tunnel]",
        "metadata.labels[istio.io/dataplane-mode]",
        "metadata.annotations[ambient.istio.io/redirection]",
    ),
    reason="takes a running pod out of the mesh",
    fix="user or controller that updates it: keep the value that the injector set",
    updates_alone=True,
    source="linkerd2 destination/endpoint_translator.go, policy-controller inbound/workload.rs",
    asks="opt_in_removed",
)
