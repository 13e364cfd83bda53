"""A sidecar's status or an agent's mark that the author set, not the mesh."""

from webhook.policy.checks import Check

CHECK = Check(
    id="status-forged",
    level="deny",
    meshes=("istio", "ambient"),
    fields=(
        "metadata.annotations[sidecar.istio.io/status]",
        "metadata.annotations[ambient.istio.io/redirection]",
    ),
    reason="must be set only by the injector, and the pod has no proxy",
    fix="author: remove the annotation",
    source="istio cni/pkg/util/podutil.go podHasSidecar; pkg/kube/inject/inject.go",
    explains_absence=True,
    asks="forged_status",
)
