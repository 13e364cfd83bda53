"""Our server, the chart's objects and this command are of different versions."""

import re
from collections.abc import Iterator
from typing import Any

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.pod import images
from webhook.version import VERSION

FINDING = FindingRule(
    id="versions-differ",
    severity="warning",
    means="webhook configurations, server and command were made for each other: what this command "
    "tells need not be what the server does",
    mend="finish the upgrade (helm upgrade), and install the command of the server's version",
    source="docs/upgrade.md",
)
_LABEL = "app.kubernetes.io/version"
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+\S*)")


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each difference from what the Deployment is labelled with."""
    entries = look.ours(place)
    service = next((e.webhook.client_config.service for e in entries), None)
    found = look.deployment(service) if service else None
    if service is None or found is None:
        return
    chart = (found["metadata"].get("labels") or {}).get(_LABEL, "")
    server = _image_version(found) or chart
    if chart and server != chart:
        yield Occurrence(f"Deployment {service.namespace}/{service.name} runs {server}, of the "
                       f"chart of {chart}")  # fmt: skip
    for entry in {entry.configuration: entry for entry in entries}.values():
        labelled = entry.labels.get(_LABEL, "")
        if chart and labelled and labelled != chart:
            yield Occurrence(f"{entry.configuration} is of {labelled}, the Deployment of {chart}")
    if server and server != VERSION:
        yield Occurrence(f"the server is {server}, this command {VERSION}")


def _image_version(deployment: dict[str, Any]) -> str:
    """The version that the server's image is tagged with; empty where the tag is none."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = next((one["image"] for one in containers if one["name"] == "mendix-mesh"), "")
    found = _VERSION.fullmatch(images.tag(image))
    return found[1] if found else ""
