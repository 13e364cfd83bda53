"""An ingress controller on the node's network: what it sends to apps is never in the mesh."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.entrances import CONTROLLER
from webhook.policy.words import listed

FINDING = FindingRule(
    id="ingress-host-network",
    severity="warning",
    means="no mesh can capture it, so that its requests to apps are not encrypted by the mesh, "
    "and are refused where plaintext is",
    mend="run the controller without hostNetwork (RKE2 has it by default), and in the mesh",
    source="linkerd.io tasks/using-ingress; istio pkg/kube/inject/inject.go injectRequired",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each namespace in which a controller's pods are on the nodes' network."""
    # Istio's gateways on the node's network speak mutual TLS to apps: they are the proxy.
    pods = look.objects(path("v1", "pods"), labels=CONTROLLER)
    hosted = [one["metadata"] for one in pods if one["spec"].get("hostNetwork")]
    for namespace in sorted({meta["namespace"] for meta in hosted}):
        found = sorted(meta["name"] for meta in hosted if meta["namespace"] == namespace)
        yield Occurrence(f"pod {namespace}/{listed(found, 1)} is on the node's network")
