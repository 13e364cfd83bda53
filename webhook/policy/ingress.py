"""Ingresses of Mendix namespaces: the controller must dial the Service, not the pods.

Given a pod's address, the controller's proxy does not know which workload it dials, and falls back
to plaintext. Sources: linkerd.io tasks/using-ingress; the annotations of both controllers.
"""

from collections.abc import Iterator

from webhook.policy.meshes import Want
from webhook.policy.objects import Object
from webhook.policy.settings import Ingress

#: Controller -> the annotation that makes it dial the Service's own address.
SERVICE_UPSTREAM = {
    "ingress-nginx": "nginx.ingress.kubernetes.io/service-upstream",
    "f5-nginx": "nginx.org/use-cluster-ip",
}
#: Where the class stood before `spec.ingressClassName`; Mendix's operator can still write it.
LEGACY_CLASS = "kubernetes.io/ingress.class"


def wants(obj: Object, settings: Ingress) -> Iterator[Want]:
    """The annotation that an Ingress lacks; nothing where its author set it, to whatever value."""
    annotations = (obj.metadata.annotations if obj.metadata else None) or {}
    name = (obj.spec.ingress_class_name if obj.spec else None) or annotations.get(LEGACY_CLASS, "")
    key = SERVICE_UPSTREAM.get(settings.classes.get(name, "none"))
    if key and key not in annotations:
        yield Want("annotations", key, "true")
