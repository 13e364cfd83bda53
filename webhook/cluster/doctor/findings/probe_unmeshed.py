"""A pod that doctor creates in a dry run would not be in the mesh."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.doctor.probe import ABSENT

FINDING = FindingRule(
    id="probe-unmeshed",
    severity="error",
    means="a pod that is created now would not be in the mesh, or would not be created at all",
    fix="read the logs of the injector and of mendix-mesh",
    because=(
        "kubernetes-old",
        "webhook-missing",
        "order-late",
        "unready",
        "ca-bundle",
        "certificate-expiring",
        "injector-missing",
        "injector-skips",
        "inject-annotation-invalid",
        "revision-unknown",
        "settings-differ",
        "image-untrusted",
        "pod-security",
        "quota",
    ),
    source="a dry run on the API server, judged by the webhook's rules",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield why the dry-run pod was denied, or what it lacks."""
    probe = facts.probe(place)
    text = ""
    if probe.denial:
        text = f"the dry-run pod was denied: {probe.denial}"
    elif ABSENT in probe.broken:
        text = f"the dry-run pod was admitted outside the mesh: {probe.broken[ABSENT]}"
    if text:
        logs = [
            f"kubectl -n {service.namespace} logs deployment/{service.name}"
            for _, service in facts.services(place)
        ]
        yield Occurrence(text, fix=f"read the logs: {'; '.join(logs)}" if logs else "")
