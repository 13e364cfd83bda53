"""Which meshes are installed: by their injectors' webhooks, and by ambient mode's agents."""

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.kinds import webhooks
from webhook.cluster.kinds.webhooks import INJECTORS, WebhookEntry

_PLURAL = "mutatingwebhookconfigurations"


def mutating(cluster: Cluster) -> list[WebhookEntry]:
    """Return every mutating webhook, in the order in which the API server calls them."""
    where = path("admissionregistration.k8s.io/v1", _PLURAL)
    return webhooks.entries(cluster.items(where), _PLURAL)


def injectors(cluster: Cluster) -> dict[str, list[str]]:
    """Return the names of the injectors' configurations by mesh."""
    entries = mutating(cluster)
    found = {
        mesh: sorted({e.configuration for e in entries if e.webhook.name.endswith(end)})
        for mesh, end in INJECTORS.items()
    }
    return {mesh: names for mesh, names in found.items() if names}


def has_ztunnel(cluster: Cluster) -> bool:
    """Return whether ambient mode is installed: a DaemonSet ztunnel exists."""
    where = path("apps/v1", "daemonsets")
    return any(cluster.items(where, fields="metadata.name=ztunnel", partial=True))


def installed(cluster: Cluster) -> list[str]:
    """Return the meshes that a namespace can join. Istio with ambient mode counts as two."""
    return [*injectors(cluster), *(["ambient"] if has_ztunnel(cluster) else [])]
