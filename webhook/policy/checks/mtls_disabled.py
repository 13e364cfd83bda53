"""A proxy whose mutual TLS is disabled."""

from webhook.policy.checks import Check

CHECK = Check(
    id="mtls-disabled",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "metadata.annotations[config.linkerd.io/disable-identity]",
        "spec.initContainers[*].env",
        "spec.containers[*].env",
        "metadata.labels[security.istio.io/tlsMode]",
    ),
    reason="disables the proxy's mutual TLS",
    fix="author: remove it",
    follows=True,
    source="linkerd2 charts/partials/templates/_proxy.tpl (identity environment)",
    asks="mtls_disabled",
)
