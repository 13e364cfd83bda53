"""Ingresses of Mendix namespaces: the controller must dial the Service, not the pods.

Given a pod's address, the controller's proxy does not know which workload it dials, and falls back
to plaintext. Sources: linkerd.io tasks/using-ingress; the annotations of both controllers.
"""

from collections.abc import Iterator

from webhook.policy.mesh import Want
from webhook.policy.pod.objects import Object, Spec
from webhook.policy.settings import Settings

#: Controller -> the annotation that makes it dial the Service's own address.
SERVICE_UPSTREAM = {
    "ingress-nginx": "nginx.ingress.kubernetes.io/service-upstream",
    "f5-nginx": "nginx.org/use-cluster-ip",
}
#: The annotation of the class before `spec.ingressClassName`. Mendix's operator can still write it.
LEGACY_CLASS = "kubernetes.io/ingress.class"


#: The host name for the upstream. Without it, the sidecar sees the public host and treats the
#: request as one to an unknown host (istio#18176, ingress-nginx#3171).
UPSTREAM_VHOST = "nginx.ingress.kubernetes.io/upstream-vhost"


def wants(obj: Object, settings: Settings, mesh: str, namespace: str) -> Iterator[Want]:
    """Yield the annotations that an Ingress lacks; never change one that its author set.

    `upstream-vhost` is one for the whole Ingress, so only an Ingress of a single Service gets it.
    """
    annotations = (obj.metadata.annotations if obj.metadata else None) or {}
    name = (obj.spec.ingress_class_name if obj.spec else None) or annotations.get(LEGACY_CLASS, "")
    controller = settings.ingress.classes.get(name, "none")
    key = SERVICE_UPSTREAM.get(controller)
    if key and key not in annotations:
        yield Want("annotations", key, "true")
    if (
        settings.ingress.upstream_vhost
        and (mesh, controller) == ("istio", "ingress-nginx")
        and UPSTREAM_VHOST not in annotations
    ):
        services = _services(obj)
        if len(services) == 1:
            host = f"{services.pop()}.{namespace}.svc.{settings.cluster_domain}"
            yield Want("annotations", UPSTREAM_VHOST, host)


def _services(obj: Object) -> set[str]:
    spec = obj.spec or Spec()
    backends = [spec.default_backend] + [
        path.backend
        for rule in spec.rules or ()
        for path in (rule.http.paths if rule.http else None) or ()
    ]
    return {backend.service.name for backend in backends if backend and backend.service}
