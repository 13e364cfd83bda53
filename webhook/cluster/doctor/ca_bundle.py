"""A webhook's caBundle does not fit the certificate that its server shows."""

from collections.abc import Iterator

from cryptography import x509

from webhook.cluster import certificates
from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place
from webhook.cluster.webhooks import Entry

SYMPTOM = Symptom(
    id="ca-bundle",
    severity="error",
    means="the API server does not trust the server, and so never reaches it",
    mend="ours: see tls.source of the chart, and cert-manager's CA injector; the injector's: "
    "upgrade the mesh's control plane, or restart it",
    source="kubernetes.io, dynamic admission control: clientConfig.caBundle",
)


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield each configuration whose caBundle is empty, or has not issued the certificate."""
    called = [
        *(("mendix-mesh", entry) for entry in look.ours(place)),
        *(("the injector", entry) for entry in look.callers(place)),
    ]
    trusting: list[tuple[str, Entry, list[x509.Certificate]]] = []
    for title, entry in called:
        bundle = entry.webhook.client_config.ca_bundle
        roots = certificates.parse(bundle)
        if roots:
            trusting.append((title, entry, roots))
        else:
            what = "holds no certificate" if bundle else "is empty"
            yield Evidence(f"caBundle of {title} in {entry.configuration} {what}")
    # Last, for Secrets may not be everyone's to see.
    for title, entry, roots in trusting:
        served = look.served(place, entry)
        if served and served.chain and not certificates.is_trusted(served.chain, roots):
            yield Evidence(
                f"caBundle of {title} in {entry.configuration} has not issued the certificate in "
                f"{served.where}"
            )
