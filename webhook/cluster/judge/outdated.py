"""Whether a pod's proxy is of today: what the control planes would inject now, and what pods have.

Where a control plane must not be looked at, the youngest pod of the same mesh and revision tells
what is injected now.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.judge.live import PROXY_OUTDATED, TRUST_ANCHOR_CHANGED
from webhook.cluster.kinds.inventory import LivePod
from webhook.policy.checks import Violation
from webhook.policy.pod import images
from webhook.policy.pod.workload import Pod
from webhook.policy.settings import Settings
from webhook.policy.spots import Spot, annotation

_ANCHORS = "linkerd.io/trust-root-sha256"
_VERSION = "linkerd.io/proxy-version"
_REVISION = "istio.io/rev"


class Proxy(NamedTuple):
    """What of a pod's proxy can go out of date."""

    #: Pods of one stream get the same proxy: a mesh, and with Istio a revision.
    stream: str
    field: str
    version: str
    #: The digest of the roots that it trusts; empty where the pod does not say.
    anchors: str = ""


def proxy_of(pod: Pod) -> Proxy | None:
    """The proxy of a pod; None where it has none, or one whose image has no tag."""
    if pod.proxy is None:
        return None
    tag = images.tag(pod.proxy.container.image or "")
    field = pod.proxy.field("image")
    if pod.proxy.name == "linkerd-proxy":
        # The annotation also counts where the image is named by its digest.
        version = pod.annotations.get(_VERSION) or tag
        return Proxy("linkerd", field, version, pod.annotations.get(_ANCHORS, ""))
    revision = pod.annotations.get(_REVISION) or pod.labels.get(_REVISION) or "default"
    return Proxy(f"istio/{revision}", field, tag)


class Currency:
    """Knows what is injected now; it is told of every pod that is seen."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._declared: dict[str, str] = {}
        self._youngest: dict[str, tuple[datetime.datetime, str]] = {}
        self._anchors: frozenset[str] | None = None
        #: Why a control plane was not looked at; a line each.
        self.notes: list[str] = []

    def saw(self, pod: LivePod, proxy: Proxy) -> None:
        """Note a pod that has a proxy."""
        if proxy.stream not in self._declared:
            self._declared[proxy.stream] = self._declares(proxy.stream)
        born = pod.metadata.creation_timestamp
        if born and proxy.version:
            youngest = self._youngest.get(proxy.stream)
            if youngest is None or born > youngest[0]:
                self._youngest[proxy.stream] = (born, proxy.version)

    def current(self, stream: str) -> str:
        """The version that a pod of a stream would get now; empty where nothing tells."""
        youngest = self._youngest.get(stream)
        return self._declared.get(stream) or (youngest[1] if youngest else "")

    def stale(self, proxy: Proxy) -> Iterator[Violation]:
        """What is out of date in a proxy; to be asked when all pods have been seen."""
        now = self.current(proxy.stream)
        if now and proxy.version and proxy.version != now:
            yield PROXY_OUTDATED.violation(Spot(proxy.field, (f"{proxy.version}, now {now}",)))
        if proxy.anchors and self._anchors and proxy.anchors not in self._anchors:
            yield TRUST_ANCHOR_CHANGED.violation(Spot(annotation(_ANCHORS)))

    def _declares(self, stream: str) -> str:
        mesh, _, revision = stream.partition("/")
        if mesh == "linkerd":
            where = self._settings.linkerd.control_plane_namespace
            roots = self._data("linkerd-identity-trust-roots", where).get("ca-bundle.crt", "")
            self._anchors = _digests(roots) if roots else None
            values = parsed(self._data("linkerd-config", where).get("values", ""))
            return str(at(values, "proxy", "image", "version") or values.get("linkerdVersion", ""))
        where = self._settings.istio.control_plane_namespace
        suffix = "" if revision == "default" else f"-{revision}"
        text = self._data(f"istio-sidecar-injector{suffix}", where).get("values", "")
        values = parsed(text)
        image = str(at(values, "global", "proxy", "image") or "")
        return images.tag(image) if "/" in image else str(at(values, "global", "tag") or "")

    def _data(self, name: str, namespace: str) -> Mapping[str, str]:
        try:
            found = self._cluster.find(path("v1", "configmaps", namespace, name))
        except RefusedError as error:
            if not error.is_forbidden:
                raise
            self.notes.append(f"what is injected now is told by the youngest pods: {error}")
            return {}
        data: Mapping[str, str] = (found or {}).get("data") or {}
        return data


def _digests(roots: str) -> frozenset[str]:
    """What the injector writes of these roots; how it trims them has changed over time."""
    spellings = (roots, roots.strip(), roots.strip() + "\n")
    return frozenset(hashlib.sha256(text.encode()).hexdigest() for text in spellings)


def parsed(text: str) -> Mapping[str, Any]:
    """Helm values in a ConfigMap, YAML or JSON; empty where they are neither."""
    try:
        # Istio's are JSON, and long.
        values = json.loads(text) if text.startswith("{") else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def at(values: Any, *keys: str) -> Any:
    """What lies in parsed YAML below these keys; None where they lead nowhere."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
