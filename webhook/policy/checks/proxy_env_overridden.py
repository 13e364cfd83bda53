"""Variables that change the proxy behind the injector's back."""

from webhook.policy.checks import Check

CHECK = Check(
    id="proxy-env-overridden",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "metadata.annotations[config.linkerd.io/proxy-additional-env]",
        "spec.initContainers[*].env",
        "spec.initContainers[*].envFrom",
        "metadata.annotations[proxy.istio.io/config]",
        "metadata.annotations[sidecar.istio.io/bootstrapOverride]",
        "spec.containers[*].env",
        "spec.containers[*].envFrom",
    ),
    reason="overrides the proxy's environment variables",
    fix="author: remove the variables that start with LINKERD2_PROXY_, _pod_, _l5d_ or LD_, and "
    "PATH",
    source="linkerd2 pkg/inject/inject.go (additional env is merged last)",
    asks="overridden_env",
)
