"""A pod that accepts clients outside the mesh."""

from webhook.policy.checks import Check

CHECK = Check(
    id="accepts-plaintext",
    level="warning",
    meshes=("linkerd",),
    fields=(
        "metadata.annotations[config.linkerd.io/default-inbound-policy]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
    ),
    reason="accepts clients without mutual TLS",
    fix="admin: set settings.linkerd.inboundPolicy to all-authenticated",
    source="linkerd2 cli/cmd/doc.go; policy-controller/k8s/index/src/inbound/workload.rs",
    asks="plaintext_inbound",
)
