"""Ingresses of Mendix namespaces: the ingress controller must call the Service, not the pods.

Istio's sidecar sends requests for a pod's address in plaintext, because it finds the workload by
the Service (istio#18176, ingress-nginx#3171). Linkerd and ambient mode encrypt these too, but then
the controller chooses the pod, and the mesh's routes and retries do not apply (linkerd2
controller/api/destination/server.go getProfileByIP; linkerd.io tasks/using-ingress).
"""

from collections.abc import Iterator, Mapping

from webhook.policy.mesh import Want
from webhook.policy.pod.objects import Object, Spec
from webhook.policy.settings import Settings

_COMMUNITY, _F5 = "ingress-nginx", "f5-nginx"
#: Controller -> the annotation that makes it call the Service's own address.
SERVICE_UPSTREAM = {
    _COMMUNITY: "nginx.ingress.kubernetes.io/service-upstream",
    _F5: "nginx.org/use-cluster-ip",
}
#: Where the class was before `spec.ingressClassName`. The Mendix Operator can still write it.
LEGACY_CLASS = "kubernetes.io/ingress.class"
#: Sets the Host header that ingress-nginx sends. Without it, Istio's sidecar sees the public host
#: and treats the request as one to a server outside the mesh.
UPSTREAM_VHOST = "nginx.ingress.kubernetes.io/upstream-vhost"
#: Prefixes of the annotations that only F5's controller reads.
_F5_PREFIXES = ("nginx.org/", "nginx.com/")
_COMMUNITY_PREFIX = "nginx.ingress.kubernetes.io/"
#: The Mendix Operator sets this on every Ingress, whatever its class is.
_OF_THE_OPERATOR = "nginx.ingress.kubernetes.io/proxy-body-size"
#: Usual names of classes that neither of the two controllers serves.
_OTHERS = frozenset(
    {
        "alb",
        "ambassador",
        "azure-application-gateway",
        "azure/application-gateway",
        "cilium",
        "contour",
        "gce",
        "gce-internal",
        "haproxy",
        "istio",
        "kong",
        "openshift-default",
        "traefik",
    }
)
#: Annotations that tie a client to a pod, with the start of the values that do so.
STICKY: Mapping[str, tuple[str, ...]] = {
    "nginx.ingress.kubernetes.io/affinity": ("cookie",),
    "nginx.ingress.kubernetes.io/upstream-hash-by": ("",),
    "nginx.com/sticky-cookie-services": ("",),
    "nginx.org/lb-method": ("hash", "ip_hash"),
}


def wants(obj: Object, settings: Settings, mesh: str, namespace: str) -> Iterator[Want]:
    """Yield the annotations that an Ingress lacks; never change one that its author set.

    `upstream-vhost` is one for the whole Ingress, so only an Ingress of a single Service gets it.
    """
    annotations = _annotations(obj)
    served = controllers(obj, settings)
    for controller in served:
        key = SERVICE_UPSTREAM[controller]
        if key not in annotations:
            yield Want("annotations", key, "true")
    if (
        settings.ingress.upstream_vhost
        and mesh == "istio"
        and _COMMUNITY in served
        and UPSTREAM_VHOST not in annotations
    ):
        services = _services(obj)
        if len(services) == 1:
            host = f"{services.pop()}.{namespace}.svc.{settings.cluster_domain}"
            yield Want("annotations", UPSTREAM_VHOST, host)


def sticky(obj: Object, settings: Settings) -> Iterator[str]:
    """Yield the annotations for sticky sessions, which have no effect if the Service is called."""
    annotations = _annotations(obj)
    called = [
        key
        for controller in controllers(obj, settings)
        if annotations.get(key := SERVICE_UPSTREAM[controller], "true") == "true"
    ]
    for key, values in STICKY.items():
        value = annotations.get(key, "")
        if value and value.startswith(values) and any(_is_f5(key) == _is_f5(one) for one in called):
            yield key


def controllers(obj: Object, settings: Settings) -> tuple[str, ...]:
    """Return the controllers that may serve an Ingress: one, both or none of the two.

    The settings decide. For a class that they do not name, the Ingress' own annotations do. If
    these do not show it either, both may serve it: `nginx` is the usual class of both.
    """
    annotations = _annotations(obj)
    name = class_of(obj)
    listed = settings.ingress.classes.get(name)
    if listed:
        return (listed,) if listed in SERVICE_UPSTREAM else ()
    if name in _OTHERS:
        return ()
    keys = annotations.keys() - {_OF_THE_OPERATOR, *SERVICE_UPSTREAM.values(), UPSTREAM_VHOST}
    community = any(key.startswith(_COMMUNITY_PREFIX) for key in keys)
    f5 = any(_is_f5(key) for key in keys)
    return (_F5,) if f5 and not community else (_COMMUNITY, _F5)


def class_of(obj: Object) -> str:
    """Return the class of an Ingress; empty if it names none."""
    return (obj.spec.ingress_class_name if obj.spec else None) or _annotations(obj).get(
        LEGACY_CLASS, ""
    )


def _annotations(obj: Object) -> Mapping[str, str]:
    return (obj.metadata.annotations if obj.metadata else None) or {}


def _is_f5(key: str) -> bool:
    return key.startswith(_F5_PREFIXES)


def _services(obj: Object) -> set[str]:
    spec = obj.spec or Spec()
    backends = [spec.default_backend] + [
        path.backend
        for rule in spec.rules or ()
        for path in (rule.http.paths if rule.http else None) or ()
    ]
    return {backend.service.name for backend in backends if backend and backend.service}
