"""An annotation or label that a mesh reads and that authors must not set, or not to this value.

The allow-lists are in webhook/policy/inputs; the mesh reads them and yields the occurrences.
"""

from webhook.policy.checks import Check

CHECK = Check(
    id="input-not-allowed",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations",
        "metadata.labels",
        "metadata.ownerReferences",
        "metadata.name",
        "spec.serviceAccountName",
        "spec.containers",
        "spec.initContainers",
    ),
    reason="is not in the list of what authors may set",
    fix="author: remove it; admin: add it to settings.linkerd.annotations or "
    "settings.istio.annotations if it is harmless",
    source="linkerd2 pkg/k8s/labels.go, charts/patch/templates/patch.json (pasted unquoted); istio "
    "api annotation package, files/injection-template.yaml, pkg/kube/util.go GetDeployMetaFromPod",
)
