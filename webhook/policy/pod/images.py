"""Parses image references like container runtimes do. A prefix match would trust look-alikes."""

from webhook.policy.pod.memo import remembered


@remembered
def repository(image: str) -> str:
    """Return the registry and path of an image, without tag and digest.

    `cr.l5d.io/linkerd/proxy:edge@sha256:…` gives `cr.l5d.io/linkerd/proxy`. A registry's port is
    kept. No default registry is added: `linkerd/proxy` is on Docker Hub, and differs from each
    fully qualified image.
    """
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def tag(image: str) -> str:
    """Return the tag of an image; empty if it has none."""
    _, colon, name = image.partition("@")[0].rpartition(":")
    return name if colon and "/" not in name else ""


def version(tag: str) -> str:
    """Return the version in a tag. Istio appends the image's variant, as in `1.31.0-distroless`."""
    return tag.removesuffix("-distroless").removesuffix("-debug")


def differ(one: str, other: str) -> bool:
    """Return whether two images of one repository have tags of different versions."""
    if repository(one) != repository(other):
        return False
    tags = {version(tag(image)) for image in (one, other)}
    return "" not in tags and len(tags) == 2
