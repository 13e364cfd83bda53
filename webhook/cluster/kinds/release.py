"""The version of mendix-mesh that is installed in a cluster."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.policy.pod import images

#: The label of the chart's objects that has the chart's version.
LABEL = "app.kubernetes.io/version"
#: The name of the webhook configurations, which are the same in every release.
_NAME = "mendix-mesh"
_VERSION = re.compile(r"v?(\d+\.\d+\.\d+\S*)")


class Release(msgspec.Struct, frozen=True):
    """What is installed. A text in parentheses says why a version is unknown."""

    #: The version of the server's image.
    server: str
    #: The version of the chart.
    chart: str


def installed(cluster: Cluster) -> Release | None:
    """Return what is installed; None if nothing is. Raise `ClusterError` if that can't be read."""
    kind = "validatingwebhookconfigurations"
    found = cluster.find(path("admissionregistration.k8s.io/v1", kind, name=_NAME))
    if found is None:
        return None
    services = [hook.get("clientConfig", {}).get("service") for hook in found.get("webhooks", ())]
    service = next(filter(None, services), None)
    return Release(
        server=_server(cluster, service) if service else "(no Service)",
        chart=(found["metadata"].get("labels") or {}).get(LABEL, "(no label)"),
    )


def _server(cluster: Cluster, service: Mapping[str, str]) -> str:
    namespace, name = service["namespace"], service["name"]
    try:
        found = cluster.find(path("apps/v1", "deployments", namespace, name))
    except StatusError as error:
        return f"({error})"
    if found is None:
        return f"(no Deployment {namespace}/{name})"
    return server_version(found)


def server_version(deployment: Mapping[str, Any]) -> str:
    """Return the version in the tag of the server's image, else that of the chart, else nothing."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = next((one["image"] for one in containers if one["name"] == _NAME), "")
    tagged = _VERSION.fullmatch(images.tag(image))
    return tagged[1] if tagged else (deployment["metadata"].get("labels") or {}).get(LABEL, "")
