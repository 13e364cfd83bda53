"""A container that runs as the proxy's user, whose traffic is not captured."""

from webhook.policy.checks import Check

CHECK = Check(
    id="proxy-uid",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.securityContext.runAsUser",
        "spec.securityContext.fsGroup",
        "spec.securityContext.supplementalGroups",
        "spec.securityContext.runAsGroup",
        "spec.containers[*].securityContext.runAsUser",
        "spec.containers[*].securityContext.runAsGroup",
        "spec.initContainers[*].securityContext.runAsUser",
        "spec.initContainers[*].securityContext.runAsGroup",
        "spec.ephemeralContainers[*].securityContext.runAsUser",
        "spec.ephemeralContainers[*].securityContext.runAsGroup",
        "spec.initContainers[*].args",
        "metadata.annotations[config.linkerd.io/proxy-uid]",
        "metadata.annotations[config.linkerd.io/proxy-gid]",
    ),
    reason="runs as the proxy's user or group, whose traffic is not captured",
    fix="author: run it as another user or group",
    source="linkerd2 proxy-init --proxy-uid; istio analyzers IST0144",
    asks="identity_clashes",
)
