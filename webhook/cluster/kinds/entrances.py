"""Finds pods that receive requests from outside the cluster: ingress controllers and gateways.

They are identified by the labels of their usual charts. Controllers with other labels are unknown.
"""

from collections.abc import Iterator

from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod

NAME = "app.kubernetes.io/name"
#: Names of ingress controllers in the label app.kubernetes.io/name.
CONTROLLERS = (
    "ingress-nginx",
    "rke2-ingress-nginx",
    "nginx-ingress",
    "traefik",
    "haproxy-ingress",
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


def pods(inventory: Inventory, *, fields: str = "") -> Iterator[LivePod | BadPod]:
    """Yield their pods in all namespaces, each once. `fields` is an additional field selector."""
    seen = set()
    for labels in (CONTROLLER, *GATEWAYS):
        for pod in inventory.pods(labels=labels, fields=fields):
            if (pod.namespace, pod.name) not in seen:
                seen.add((pod.namespace, pod.name))
                yield pod
