"""A webhook's caBundle does not fit the certificate that its server shows."""

import base64
from collections.abc import Iterator
from typing import Any

from cryptography import x509

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, pointer
from webhook.cluster.kinds import certificates
from webhook.cluster.kinds.webhooks import WebhookEntry

FINDING = FindingRule(
    id="ca-bundle",
    severity="error",
    means="the API server does not trust the server, and so never reaches it",
    mend="ours: see tls.source of the chart, and cert-manager's CA injector; the injector's: "
    "upgrade the mesh's control plane, or restart it",
    source="kubernetes.io, dynamic admission control: clientConfig.caBundle",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each configuration whose caBundle is empty, or has not issued the certificate."""
    called = [
        *(("mendix-mesh", entry) for entry in look.ours(place)),
        *(("the injector", entry) for entry in look.callers(place)),
    ]
    trusting: list[tuple[str, WebhookEntry, list[x509.Certificate]]] = []
    for title, entry in called:
        bundle = entry.webhook.client_config.ca_bundle
        roots = certificates.parse(bundle)
        if roots:
            trusting.append((title, entry, roots))
        else:
            what = "holds no certificate" if bundle else "is empty"
            yield Occurrence(f"caBundle of {title} in {entry.configuration} {what}")
    # Last, for Secrets may not be everyone's to see.
    for title, entry, roots in trusting:
        served = look.served(place, entry)
        if served and served.chain and not certificates.is_trusted(served.chain, roots):
            yield Occurrence(
                f"caBundle of {title} in {entry.configuration} has not issued the certificate in "
                f"{served.where}"
            )


def fix(look: Facts, place: Place) -> Iterator[Fix]:
    """Give our configurations the authority in the Secret, where that has issued the certificate.

    Whoever may write that Secret is the server to the API server in any case.
    """
    patches: dict[tuple[str, str], list[dict[str, Any]]] = {}
    servers = {_server(entry) for entry in look.ours(place)}
    # Those for namespaces, and for other meshes' pods, have the same server.
    for entry in look.ours_everywhere():
        if _server(entry) not in servers:
            continue
        served, authority = look.served(place, entry), look.authority(entry)
        roots = certificates.parse(authority)
        if not served or not certificates.is_trusted(served.chain, roots):
            continue
        trusted = certificates.parse(entry.webhook.client_config.ca_bundle)
        if not certificates.is_trusted(served.chain, trusted):
            here = pointer("webhooks", entry.number)
            patches.setdefault((entry.plural, entry.configuration), []).extend(
                (
                    {"op": "test", "path": f"{here}/name", "value": entry.webhook.name},
                    {
                        "op": "add",
                        "path": f"{here}/clientConfig/caBundle",
                        "value": base64.b64encode(authority).decode(),
                    },
                )
            )
    for (plural, name), patch in patches.items():
        yield Fix(
            id=FINDING.id,
            what=f"{name} ({plural}): caBundle becomes ca.crt of the server's Secret",
            where=path("admissionregistration.k8s.io/v1", plural, name=name),
            patch=patch,
        )


def _server(entry: WebhookEntry) -> tuple[str, str] | None:
    service = entry.webhook.client_config.service
    return (service.namespace, service.name) if service else None
