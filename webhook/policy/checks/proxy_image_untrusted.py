"""A proxy or init container from a registry that is not the mesh's."""

from webhook.policy.checks import Check

CHECK = Check(
    id="proxy-image-untrusted",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=(
        "spec.initContainers[*].image",
        "spec.containers[*].image",
        "metadata.annotations[config.linkerd.io/proxy-image]",
        "metadata.annotations[config.linkerd.io/proxy-version]",
        "metadata.annotations[config.linkerd.io/init-image]",
        "metadata.annotations[config.linkerd.io/init-image-version]",
        "metadata.annotations[sidecar.istio.io/proxyImage]",
    ),
    reason="is not an image of the mesh",
    fix="author: use the mesh's image; admin: name your mirror in settings.linkerd.proxyImages",
    source="linkerd2 pkg/healthcheck/sidecar.go (a name is enough for the injector to skip)",
    asks="untrusted_images",
)
