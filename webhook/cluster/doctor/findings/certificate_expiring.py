"""The certificate of mendix-mesh or of the injector has expired or expires soon."""

import datetime
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.webhooks import CERT_MANAGER, OURS, WebhookEntry

FINDING = FindingRule(
    id="certificate-expiring",
    severity="warning",
    means="once it expires, the API server cannot call the webhook",
    fix="renew the certificate: check cert-manager's Certificate or the Secret that you created; "
    "for the injector, upgrade the mesh's control plane",
    source="linkerd2 charts: 365 days, renewed by helm upgrade alone; cert-manager renewBefore",
)
#: A certificate that is renewed in time always has more than one tenth of its lifetime left.
_LEFT = 10


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each certificate that has less than a tenth of its lifetime left."""
    now = datetime.datetime.now(datetime.UTC)
    for entry in [*facts.ours(place), *facts.callers(place)]:
        served = facts.served(place, entry)
        # A ConfigMap contains a CA's certificate; in a Secret the first one is the server's.
        if served is None or not served.is_servers or not served.chain:
            continue
        start, end = served.chain[0].not_valid_before_utc, served.chain[0].not_valid_after_utc
        when = f"{end:%Y-%m-%d %H:%M}Z"
        fix = _fix(entry)
        if now >= end:
            yield Occurrence(f"the certificate in {served.where} expired on {when}", "error", fix)
        elif (end - now) * _LEFT < end - start:
            yield Occurrence(f"the certificate in {served.where} expires on {when}", fix=fix)


def _fix(entry: WebhookEntry) -> str:
    """Return how the certificate of this webhook's server is renewed."""
    if not entry.webhook.name.endswith(OURS):
        return "upgrade the mesh's control plane, which renews its injector's certificate"
    if CERT_MANAGER in " ".join(entry.annotations):
        service = entry.webhook.client_config.service
        where = service.namespace if service else "mendix-mesh"
        return (
            f"find out why cert-manager does not renew it: kubectl -n {where} describe certificate"
        )
    return "put a new certificate into the Secret; the server uses it within two minutes"
