"""The mesh's annotation written as a label, which the mesh ignores."""

from webhook.policy.checks import Check

CHECK = Check(
    id="inject-label-ignored",
    level="warning",
    meshes=("linkerd",),
    fields=(
        "metadata.labels[linkerd.io/inject]",
        "metadata.labels[config.linkerd.io/*]",
    ),
    reason="has no effect as a label: the mesh reads it only as an annotation",
    fix="author: make it an annotation, or remove it",
    source="linkerd2 pkg/k8s/labels.go",
    asks="ignored_labels",
)
