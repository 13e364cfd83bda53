"""The certificate of our server, or of the injector, has expired or soon will."""

import datetime
from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="certificate-expiring",
    severity="warning",
    means="from its last day on the API server does not reach the webhook",
    mend="renew it: see cert-manager's Certificate, the Secret that you made, or upgrade the "
    "mesh's control plane",
    source="linkerd2 charts: 365 days, renewed by helm upgrade alone; cert-manager renewBefore",
)
#: What is renewed in time never has less than this part of its life left.
_LEFT = 10


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each certificate that has less than a tenth of its life left."""
    now = datetime.datetime.now(datetime.UTC)
    for entry in [*look.ours(place), *look.callers(place)]:
        served = look.served(place, entry)
        # What ConfigMaps hold is an authority's; the first of a chain is the server's.
        if served is None or not served.is_servers or not served.chain:
            continue
        start, end = served.chain[0].not_valid_before_utc, served.chain[0].not_valid_after_utc
        when = f"{end:%Y-%m-%d %H:%M}Z"
        if now >= end:
            yield Occurrence(f"the certificate in {served.where} expired on {when}", "error")
        elif (end - now) * _LEFT < end - start:
            yield Occurrence(f"the certificate in {served.where} expires on {when}")
