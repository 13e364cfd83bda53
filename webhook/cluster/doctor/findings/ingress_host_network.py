"""An ingress controller runs on the node's network, so its traffic never uses the mesh."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.entrances import CONTROLLER
from webhook.policy.words import listed

FINDING = FindingRule(
    id="ingress-host-network",
    severity="warning",
    means="no mesh can redirect its traffic: the mesh does not encrypt its requests to apps, and "
    "apps that are closed to plaintext reject them",
    fix="run the controller without hostNetwork (RKE2 sets it by default) and in the mesh",
    source="linkerd.io tasks/using-ingress; istio pkg/kube/inject/inject.go injectRequired",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each namespace in which ingress controller pods use hostNetwork."""
    # Istio's gateways are proxies: also with hostNetwork they use mutual TLS.
    pods = facts.objects(path("v1", "pods"), labels=CONTROLLER)
    hosted = [one["metadata"] for one in pods if one["spec"].get("hostNetwork")]
    for namespace in sorted({meta["namespace"] for meta in hosted}):
        found = sorted(meta["name"] for meta in hosted if meta["namespace"] == namespace)
        yield Occurrence(f"pod {namespace}/{listed(found, 1)} uses hostNetwork")
