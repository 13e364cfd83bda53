"""A DestinationRule makes clients in the mesh send without the mesh's mutual TLS."""

from collections.abc import Iterator

from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="client-plaintext",
    severity="warning",
    meshes=("istio", "ambient"),
    means="requests to these Services are sent without the mesh's mutual TLS, and fail if the "
    "Services require it",
    fix="remove the tls block from the DestinationRule, or set its mode to ISTIO_MUTUAL",
    source="istio pilot/pkg/networking/core/cluster_tls.go buildUpstreamTLSSettings",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each field of a DestinationRule that turns off mutual TLS for the namespace."""
    found = facts.plaintext(place)
    if found.downgrades is None:
        raise StatusError(403, "; ".join(found.unread))
    for rule in found.downgrades:
        yield Occurrence(
            f"DestinationRule {rule.rule}: {rule.field} is {rule.mode} for {rule.host}"
        )
