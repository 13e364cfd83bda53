"""The server of mendix-mesh or of the injector has no ready pod."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.webhooks import Service

FINDING = FindingRule(
    id="unready",
    severity="error",
    means="the webhook cannot answer: pods are denied, or are created without the proxy",
    fix="find out why its pods are not ready: use kubectl describe and kubectl logs on the "
    "Deployment and its pods",
    source="kubernetes.io, dynamic admission control: failure policy",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each Service that has no ready endpoint, with the status of its Deployment."""
    for title, service in facts.services(place):
        if not _ready(facts, service):
            name = f"{service.namespace}/{service.name}"
            yield Occurrence(
                f"Service {name} of {title} has no ready endpoint; {_state(facts, service)}"
            )


def _ready(facts: Facts, service: Service) -> int:
    slices = facts.objects(
        path("discovery.k8s.io/v1", "endpointslices", service.namespace),
        labels=f"kubernetes.io/service-name={service.name}",
    )
    # An unknown condition counts as ready, as in kube-proxy.
    return sum(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
    )


def _state(facts: Facts, service: Service) -> str:
    """Return how many of the Deployment's pods are ready, in words."""
    found = facts.deployment(service)
    if found is None:
        return f"Deployment {service.namespace}/{service.name} does not exist"
    wanted = found["spec"].get("replicas", 1)
    ready = (found.get("status") or {}).get("readyReplicas", 0)
    return f"its Deployment has {ready} of {wanted} pods ready"
