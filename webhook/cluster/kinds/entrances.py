"""Finds pods that receive requests from outside the cluster: ingress controllers and gateways.

They are identified by the labels of their usual charts. Controllers with other labels are unknown.
"""

from collections.abc import Iterator
from typing import NamedTuple

from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod

NAME = "app.kubernetes.io/name"
#: Names of ingress controllers in the label app.kubernetes.io/name.
CONTROLLERS = (
    "ingress-nginx",
    "rke2-ingress-nginx",
    "nginx-ingress",
    "traefik",
    "haproxy-ingress",
    "kubernetes-ingress",
)
#: The label selector of their pods.
CONTROLLER = f"{NAME} in ({','.join(CONTROLLERS)})"
#: The label selectors of Istio's gateways. The first has the label that the chart derives from the
#: release's name, as in the installation guides. The second is for Gateways that istiod deploys
#: (files/kube-gateway.yaml).
GATEWAYS = (
    "istio in (ingressgateway,ingress)",
    "gateway.istio.io/managed=istio.io-gateway-controller",
)


class Controller(NamedTuple):
    """What serves the Ingresses or HTTPRoutes of a class."""

    title: str
    #: Values of the label app.kubernetes.io/name of its pods. Empty if no pod of the cluster serves
    #: them, so that it can't be in the mesh.
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> str:
        """Return the label selector of its pods."""
        return f"{NAME} in ({','.join(self.names)})"


#: Controllers by the start of `spec.controller` of an IngressClass, or `spec.controllerName` of a
#: GatewayClass.
_KNOWN = {
    "k8s.io/ingress-nginx": Controller("ingress-nginx", ("ingress-nginx", "rke2-ingress-nginx")),
    "nginx.org/ingress-controller": Controller("F5's ingress controller", ("nginx-ingress",)),
    "traefik.io/": Controller("Traefik", ("traefik",)),
    "haproxy.org/ingress-controller": Controller("HAProxy", ("kubernetes-ingress",)),
    "haproxy-ingress.github.io/controller": Controller("HAProxy Ingress", ("haproxy-ingress",)),
    "ingress.k8s.aws/alb": Controller("an Application Load Balancer of AWS"),
    "gateway.k8s.aws/alb": Controller("an Application Load Balancer of AWS"),
    "azure/application-gateway": Controller("an Application Gateway of Azure"),
    "alb.networking.azure.io/": Controller("an Application Gateway for Containers of Azure"),
    "networking.gke.io/": Controller("a load balancer of Google Cloud"),
    "openshift.io/ingress-to-route": Controller("OpenShift's router"),
}
#: Classes that clusters use without an IngressClass, and its `spec.controller`.
_WITHOUT_OBJECT = {
    "alb": "ingress.k8s.aws/alb",
    "azure/application-gateway": "azure/application-gateway",
    "gce": "networking.gke.io/",
    "gce-internal": "networking.gke.io/",
}


def controller_of(name: str, controller: str | None) -> Controller | None:
    """Return what serves a class: its name, and its object's controller if there is an object.

    None if the controller is unknown.
    """
    controller = controller or _WITHOUT_OBJECT.get(name, "")
    return next((one for start, one in _KNOWN.items() if controller.startswith(start)), None)


def pods(inventory: Inventory, *, fields: str = "") -> Iterator[LivePod | BadPod]:
    """Yield their pods in all namespaces, each once. `fields` is an additional field selector."""
    seen = set()
    for labels in (CONTROLLER, *GATEWAYS):
        for pod in inventory.pods(labels=labels, fields=fields):
            if (pod.namespace, pod.name) not in seen:
                seen.add((pod.namespace, pod.name))
                yield pod
