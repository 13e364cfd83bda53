"""Our server, or the injector, is not there to be called."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.webhooks import Service

FINDING = FindingRule(
    id="unready",
    severity="error",
    means="reviews can't be answered: pods are refused, or come to be without the proxy",
    mend="see its Deployment's pods and events: kubectl describe and logs, in that namespace",
    source="kubernetes.io, dynamic admission control: failure policy",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each Service that has no endpoint that is ready, and what its Deployment says."""
    for title, service in look.services(place):
        if not _ready(look, service):
            name = f"{service.namespace}/{service.name}"
            yield Occurrence(
                f"Service {name} of {title} has no endpoint that is ready; {_state(look, service)}"
            )


def _ready(look: Facts, service: Service) -> int:
    slices = look.objects(
        path("discovery.k8s.io/v1", "endpointslices", service.namespace),
        labels=f"kubernetes.io/service-name={service.name}",
    )
    # An unknown condition counts as ready, as kube-proxy takes it.
    return sum(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
    )


def _state(look: Facts, service: Service) -> str:
    """How the Deployment does."""
    found = look.deployment(service)
    if found is None:
        return "there is no Deployment of that name"
    wanted = found["spec"].get("replicas", 1)
    ready = (found.get("status") or {}).get("readyReplicas", 0)
    return f"its Deployment has {ready} of {wanted} pods ready"
