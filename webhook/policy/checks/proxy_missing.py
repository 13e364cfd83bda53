"""A stored pod without the mesh's proxy: the injector did not run, or skipped it."""

from webhook.policy.checks import Check

CHECK = Check(
    id="proxy-missing",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.initContainers",
        "spec.containers",
        "metadata.labels[istio.io/dataplane-mode]",
    ),
    reason="did not get the mesh's proxy",
    fix="admin: check that the injector runs and the namespace does not disable it, then try again",
    follows=True,
    source="linkerd2 pkg/inject/report.go; proxy-injector-rbac.yaml (failurePolicy Ignore)",
    evidence=True,
    asks="missing",
)
