"""How the pods that let clients into the cluster are known: ingress controllers and gateways.

By the labels that their usual charts give them; a controller that is labelled otherwise is unknown.
"""

from collections.abc import Iterator

from webhook.cluster.kinds.inventory import BadPod, Inventory, LivePod

NAME = "app.kubernetes.io/name"
#: Names of ingress controllers in the usual label.
CONTROLLERS = (
    "ingress-nginx",
    "rke2-ingress-nginx",
    "nginx-ingress",
    "traefik",
    "haproxy-ingress",
)
#: What their pods are labelled with.
CONTROLLER = f"{NAME} in ({','.join(CONTROLLERS)})"
#: The same of Istio's gateways: the label that its chart makes of the release's name, as its
#: installation guides have it, and that of Gateways which istiod deploys (files/kube-gateway.yaml).
GATEWAYS = (
    "istio in (ingressgateway,ingress)",
    "gateway.istio.io/managed=istio.io-gateway-controller",
)


def pods(inventory: Inventory, *, fields: str = "") -> Iterator[LivePod | BadPod]:
    """Their pods in all namespaces, each once; `fields` narrows what is asked for."""
    seen = set()
    for labels in (CONTROLLER, *GATEWAYS):
        for pod in inventory.pods(labels=labels, fields=fields):
            if (pod.namespace, pod.name) not in seen:
                seen.add((pod.namespace, pod.name))
                yield pod
