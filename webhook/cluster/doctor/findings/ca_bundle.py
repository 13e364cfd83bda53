"""The caBundle of a webhook does not verify the certificate of the webhook's server."""

import base64
from collections.abc import Iterator
from typing import Any

from cryptography import x509

from webhook.cluster.api.connection import path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, pointer
from webhook.cluster.kinds import certificates
from webhook.cluster.kinds.webhooks import CERT_MANAGER, OURS, WebhookEntry

FINDING = FindingRule(
    id="ca-bundle",
    severity="error",
    means="the API server does not trust the webhook's server, so it cannot call the webhook",
    fix="for mendix-mesh: check tls.source in the chart's values and cert-manager's CA injector; "
    "for the injector: upgrade or restart the mesh's control plane",
    source="kubernetes.io, dynamic admission control: clientConfig.caBundle",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each configuration whose caBundle is empty or does not verify the certificate."""
    called = [
        *(("mendix-mesh", entry) for entry in facts.ours(place)),
        *(("the injector", entry) for entry in facts.callers(place)),
    ]
    trusting: list[tuple[str, WebhookEntry, list[x509.Certificate]]] = []
    for title, entry in called:
        bundle = entry.webhook.client_config.ca_bundle
        roots = certificates.parse(bundle)
        if roots:
            trusting.append((title, entry, roots))
        else:
            what = "contains no certificate" if bundle else "is empty"
            yield Occurrence(
                f"caBundle of {title} in {entry.configuration} {what}",
                fix=_fix(facts, place, entry),
            )
    # Last, because reading Secrets may be forbidden.
    unread: dict[str, None] = {}
    for title, entry, roots in trusting:
        try:
            served = facts.served(place, entry)
        except StatusError as error:
            if not error.is_forbidden:
                raise
            unread.setdefault(str(error))
            continue
        if served and served.chain and not certificates.is_trusted(served.chain, roots):
            yield Occurrence(
                f"caBundle of {title} in {entry.configuration} does not verify the certificate "
                f"in {served.where}",
                fix=_fix(facts, place, entry),
            )
    if unread:
        raise StatusError(403, "; ".join(unread))


def repair(facts: Facts, place: Place) -> Iterator[Repair]:
    """Yield a repair that puts the Secret's CA into our webhook configurations.

    Only if that CA issued the certificate in the Secret. This gives no new power to those who can
    write the Secret: they already control the certificate that the server presents.
    """
    patches: dict[tuple[str, str], list[dict[str, Any]]] = {}
    servers = {_server(entry) for entry in facts.ours(place)}
    # The webhooks for namespaces, and for pods of other meshes, have the same server.
    for entry in facts.ours_everywhere():
        if _server(entry) not in servers:
            continue
        served, authority = facts.served(place, entry), facts.authority(entry)
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
        yield Repair(
            id=FINDING.id,
            what=f"{name} ({plural}): set caBundle to ca.crt of the server's Secret",
            where=path("admissionregistration.k8s.io/v1", plural, name=name),
            patch=patch,
        )


def _fix(facts: Facts, place: Place, entry: WebhookEntry) -> str:
    """Return how the caBundle of this webhook gets the right CA."""
    if entry.webhook.name.endswith(OURS):
        if CERT_MANAGER in " ".join(entry.annotations):
            command = "kubectl get deployments -A -l app.kubernetes.io/name=cainjector"
            return f"find out why cert-manager's CA injector does not set it: {command}"
        command = facts.helm("--set-file", "tls.caBundle=ca.crt")
        return f"set it to the CA of the certificate: {command}"
    if place.mesh.name == "istio":
        # In Istio's charts, a Service and its Deployment have the same name.
        where, name = _server(entry) or (facts.control_plane("istio"), "istiod")
        restart = f"kubectl -n {where} rollout restart deployment/{name}"
        return f"istiod sets it when it starts: {restart}"
    return "upgrade Linkerd's control plane, which sets it and the certificate"


def _server(entry: WebhookEntry) -> tuple[str, str] | None:
    service = entry.webhook.client_config.service
    return (service.namespace, service.name) if service else None
