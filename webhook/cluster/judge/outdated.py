"""Finds outdated proxies: compares the pods' proxies with what new pods would get.

If reading the control plane is forbidden, the proxy of the youngest pod of the same mesh and
revision is taken as the current one.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge.live import (
    INBOUND_POLICY_OUTDATED,
    PROXY_OUTDATED,
    TRUST_ANCHOR_CHANGED,
)
from webhook.cluster.kinds.inventory import LivePod
from webhook.policy.checks import Violation
from webhook.policy.meshes.linkerd import INBOUND_POLICY
from webhook.policy.occurrences import Occurrence, annotation
from webhook.policy.plaintext.linkerd import POLICIES
from webhook.policy.pod import images
from webhook.policy.pod.workload import Pod
from webhook.policy.settings import Settings

_ANCHORS = "linkerd.io/trust-root-sha256"
_VERSION = "linkerd.io/proxy-version"
_REVISION = "istio.io/rev"


class Proxy(NamedTuple):
    """The parts of a pod's proxy that can become outdated."""

    #: Pods of one stream get the same proxy: the mesh, with Istio also the revision.
    stream: str
    field: str
    version: str
    #: The digest of the trust roots; empty if the pod does not say.
    anchors: str = ""


def proxy_of(pod: Pod) -> Proxy | None:
    """Return the proxy of a pod; None if it has none."""
    if pod.proxy is None:
        return None
    tag = images.tag(pod.proxy.container.image or "")
    field = pod.proxy.field("image")
    if pod.proxy.name == "linkerd-proxy":
        # The annotation is also there if the image is given by digest.
        version = pod.annotations.get(_VERSION) or tag
        return Proxy("linkerd", field, version, pod.annotations.get(_ANCHORS, ""))
    revision = pod.annotations.get(_REVISION) or pod.labels.get(_REVISION) or "default"
    # A pod or the mesh may ask for another variant of the same version.
    return Proxy(f"istio/{revision}", field, images.version(tag))


class CurrentProxies:
    """Knows which proxies are injected now. `saw` must be called for every pod."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._declared: dict[str, str] = {}
        self._youngest: dict[str, tuple[datetime.datetime, str]] = {}
        self._anchors: frozenset[str] | None = None
        #: Why a control plane was not read; a line each.
        self.notes: list[str] = []

    def saw(self, pod: LivePod, proxy: Proxy) -> None:
        """Record a pod with a proxy."""
        if proxy.stream not in self._declared:
            self._declared[proxy.stream] = self._declares(proxy.stream)
        created = pod.metadata.creation_timestamp
        if created and proxy.version:
            youngest = self._youngest.get(proxy.stream)
            if youngest is None or created > youngest[0]:
                self._youngest[proxy.stream] = (created, proxy.version)

    def current(self, stream: str) -> str:
        """Return the version that a new pod of a stream gets; empty if unknown."""
        youngest = self._youngest.get(stream)
        return self._declared.get(stream) or (youngest[1] if youngest else "")

    def stale(self, proxy: Proxy) -> Iterator[Violation]:
        """Yield what is outdated in a proxy. Call it after all pods have been recorded."""
        now = self.current(proxy.stream)
        if now and proxy.version and proxy.version != now:
            yield PROXY_OUTDATED.violation(
                Occurrence(proxy.field, (f"{proxy.version}, current: {now}",))
            )
        if proxy.anchors and self._anchors and proxy.anchors not in self._anchors:
            yield TRUST_ANCHOR_CHANGED.violation(Occurrence(annotation(_ANCHORS)))

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
        tag = images.tag(image) if "/" in image else str(at(values, "global", "tag") or "")
        return images.version(tag)

    def _data(self, name: str, namespace: str) -> Mapping[str, str]:
        try:
            found = self._cluster.find(path("v1", "configmaps", namespace, name))
        except StatusError as error:
            if not error.is_forbidden:
                raise
            self.notes.append(f"the current proxy version is taken from the youngest pods: {error}")
            return {}
        data: Mapping[str, str] = (found or {}).get("data") or {}
        return data


def wanted_policy(settings: Settings, mesh: str, namespace: Mapping[str, str]) -> str:
    """Return Linkerd's default inbound policy that new pods get; empty if it is the cluster's.

    By the settings, else by the annotations of the namespace, which the injector copies to pods.
    """
    wanted = settings.linkerd.inbound_policy or namespace.get(INBOUND_POLICY, "")
    return wanted if mesh == "linkerd" and wanted in POLICIES else ""


def outdated_policy(pod: Pod | None, wanted: str) -> Iterator[Violation]:
    """Yield a violation if a pod in the mesh does not have the wanted default inbound policy.

    Linkerd reads the policy from the pod's annotation, so a change reaches only new pods.
    """
    if pod is None or pod.proxy is None or not wanted:
        return
    now = pod.annotations.get(INBOUND_POLICY, "")
    if now != wanted:
        text = f"{now or 'none'}; new pods: {wanted}"
        yield INBOUND_POLICY_OUTDATED.violation(Occurrence(annotation(INBOUND_POLICY), (text,)))


def _digests(roots: str) -> frozenset[str]:
    """Return the digests that the injector may write for these roots, trimmed or not."""
    spellings = (roots, roots.strip(), roots.strip() + "\n")
    return frozenset(hashlib.sha256(text.encode()).hexdigest() for text in spellings)


def parsed(text: str) -> Mapping[str, Any]:
    """Return the Helm values in a ConfigMap, YAML or JSON; empty if they can't be decoded."""
    try:
        # Istio's values are long JSON, for which the JSON decoder is faster.
        values = json.loads(text) if text.startswith("{") else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def at(values: Any, *keys: str) -> Any:
    """Return the value below these keys in parsed YAML; None if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
