"""The server, the chart's objects and this command have different versions."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.kinds.release import LABEL, server_version
from webhook.version import VERSION

FINDING = FindingRule(
    id="versions-differ",
    severity="warning",
    means="this command may show something else than what the server does, because they have "
    "different rules",
    fix="finish the upgrade with helm upgrade, and install this command in the server's version",
    source="docs/upgrade.md",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each version that differs from the version label of the Deployment."""
    entries = facts.ours(place)
    service = next((e.webhook.client_config.service for e in entries), None)
    found = facts.deployment(service) if service else None
    if service is None or found is None:
        return
    chart = (found["metadata"].get("labels") or {}).get(LABEL, "")
    server = server_version(found)
    if chart and server != chart:
        yield Occurrence(f"Deployment {service.namespace}/{service.name} runs version {server}, "
                         f"but its chart has version {chart}",
                         fix=f"finish the upgrade: {facts.helm()}")  # fmt: skip
    for entry in {entry.configuration: entry for entry in entries}.values():
        labelled = entry.labels.get(LABEL, "")
        if chart and labelled and labelled != chart:
            yield Occurrence(
                f"{entry.configuration} has version {labelled}, the Deployment has {chart}",
                fix=f"finish the upgrade: {facts.helm()}",
            )
    if server and server != VERSION:
        yield Occurrence(
            f"the server has version {server}, this command has {VERSION}",
            fix=f"install this command in version {server}, or upgrade the server to {VERSION}",
        )
