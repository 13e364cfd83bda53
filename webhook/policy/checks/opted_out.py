"""A pod whose author opts out of the mesh."""

from webhook.policy.checks import Check

CHECK = Check(
    id="opted-out",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[linkerd.io/inject]",
        "metadata.labels[sidecar.istio.io/inject]",
        "metadata.annotations[sidecar.istio.io/inject]",
        "metadata.labels[istio.io/dataplane-mode]",
    ),
    reason="opts the pod out of the mesh",
    fix="author: remove it, or ask an admin for an exemption",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
    explains_absence=True,
    excuses_absence=True,
    asks="opt_outs",
)
