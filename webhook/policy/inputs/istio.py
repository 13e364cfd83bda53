"""The pod annotations and labels that Istio's programs read, in 1.24 to 1.32.

The programs are the injector, the CNI plugin, the agent and the control plane. Sources: istio's api
annotation and label packages, pkg/kube/inject, cni/pkg, pilot/cmd/pilot-agent.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from webhook.policy.inputs import Domains, Input, proxyconfig
from webhook.policy.inputs import forms as f
from webhook.policy.inputs.forms import Form
from webhook.policy.pod.containers import covers, mount_path

#: Names of the containers that the injector adds.
PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"
#: Names of the volumes that the injector adds (files/injection-template.yaml, kube-gateway.yaml).
VOLUMES = frozenset({
    "workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data",
    "istio-podinfo", "istio-token", "istiod-ca-cert", "istio-ca-crl", "gke-workload-certificate",
})  # fmt: skip

#: Longer values are not parsed, in characters.
_LONGEST = 32_768
_PLAIN = Form("plain text", rf"(?:[^{f.UNPRINTABLE}\"'`$]|\$(?!\())*", longest=4096)

#: The template pastes them without quotes, so a colon must not end a word.
_LEVELS = Form(
    "log levels, for example default:info",
    r"[A-Za-z0-9_.,*-]*(?::[A-Za-z0-9_.,*-]+)*",
    longest=1024,
)

#: Variables of the agent and the proxy that do not affect what is captured or encrypted.
HARMLESS_ENV: Mapping[str, Form] = {
    "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": f.BOOLEAN,
    "GOMAXPROCS": f.NUMBER,
    "GOMEMLIMIT": f.Form("an amount of memory", r"[0-9]{1,18}(?:[KMGT]?i?B)?"),
    "ISTIO_DELTA_XDS": f.BOOLEAN,
    # Without these two, IPv6 is not captured, and peers use plaintext to pods in ambient mode.
    "ISTIO_DUAL_STACK": f.one_of("true"),
    "ISTIO_META_ENABLE_HBONE": f.one_of("true"),
    "ISTIO_META_DNS_AUTO_ALLOCATE": f.BOOLEAN,
    "ISTIO_META_DNS_CAPTURE": f.BOOLEAN,
    "ISTIO_META_HTTP10": f.one_of("", "0", "1"),
    "ISTIO_META_IDLE_TIMEOUT": f.DURATION,
    "MINIMUM_DRAIN_DURATION": f.DURATION,
    "TZ": f.WORDS,
}
#: Keys of a proxy's configuration that do not affect it either. If the value is an object, the
#: collection names its allowed keys (istio api mesh/v1alpha1/proxy.proto).
HARMLESS_KEYS: Mapping[str, Collection[str] | None] = {
    "availabilityZone": None,
    "concurrency": None,
    "drainDuration": None,
    "extraStatTags": None,
    "fileFlushInterval": None,
    "image": ("imageType",),
    "fileFlushMinSizeKb": None,
    proxyconfig.HOLD: None,
    "parentShutdownDuration": None,
    "proxyHeaders": ("server", "requestId", "attemptCount", "envoyDebugHeaders",
                     "metadataExchangeHeaders", "setCurrentClientCertDetails"),
    "proxyStatsMatcher": None,
    "serviceCluster": None,
    "statNameLength": None,
    "statsCompression": None,
    "terminationDrainDuration": None,
    "tracing": ("sampling", "maxPathTagLength", "customTags"),
    "tracingServiceName": None,
}  # fmt: skip


def config(is_ours: Callable[[str], bool]) -> Form:
    """Return the form of `proxy.istio.io/config`. `is_ours` recognizes the mesh's istiod."""

    def judge(text: str) -> Iterator[str]:
        parsed = proxyconfig.parse(text)
        if parsed is None:
            yield "is not a single plain YAML or JSON mapping without aliases"
            return
        for key, value in parsed.items():
            if key == "interceptionMode":
                if value not in proxyconfig.CAPTURING:
                    yield f"disables traffic capture (interceptionMode {value})"
            elif key == "discoveryAddress":
                if not is_ours(str(value)):
                    yield f"names another control plane ({value})"
            elif key == "proxyMetadata":
                yield from _variables(value)
            elif key not in HARMLESS_KEYS:
                yield f"must not set {key}"
            else:
                yield from _part(key, value, HARMLESS_KEYS[key])

    return f.structured("a plain YAML mapping of harmless keys", judge, longest=_LONGEST)


def _part(key: str, value: Any, known: Collection[str] | None) -> Iterator[str]:
    if known is not None:
        unknown = [name for name in value if name not in known] if isinstance(value, dict) else [""]
        if unknown:
            yield f"must not set {key}.{unknown[0]}".rstrip(".")
            return
    if not all(map(_is_plain, _leaves(value))):
        yield f"must not give {key} this value"


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield str(value)


def _is_plain(text: str) -> bool:
    return not _PLAIN.wrong(text)


def _variables(found: Any) -> Iterator[str]:
    if not isinstance(found, Mapping):
        yield "sets proxyMetadata to a value that is not a mapping"
        return
    for name, value in found.items():
        yield from variable(name, value)


def variable(name: str, value: Any) -> Iterator[str]:
    """Judge a variable that an author sets for the proxy. Yield each violation as a predicate."""
    form = HARMLESS_ENV.get(name)
    if form is None:
        yield f"must not set {name}"
    elif not isinstance(value, str) or form.wrong(value):
        yield f"must set {name} only to {form.words}"


#: Harmless fields of a container with the proxy's name and the image `auto`. The API server fills
#: in the last three.
_HARMLESS_FIELDS = frozenset({
    "name", "resources", "imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy",
})  # fmt: skip
_PROBES = frozenset({"readinessProbe", "startupProbe", "livenessProbe"})
_PROBE_FIELDS = frozenset({
    "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold",
    "successThreshold", "terminationGracePeriodSeconds",
})  # fmt: skip
#: Where the API server mounts the ServiceAccount's token in each container, before any webhook.
_TOKEN_PATH, _TOKEN_NAME = "/var/run/secrets/kubernetes.io/serviceaccount", "kube-api-access-"


def _overrides(text: str) -> Iterator[str]:
    """Judge the injector's record of an author's containers with names of the injector's."""
    found = _json(text)
    if found is None:
        yield "is not a JSON object"
        return
    for kind, members in found.items():
        if kind not in ("containers", "initContainers") or not isinstance(members, list | None):
            yield f"must not contain {kind}"
            continue
        for container in members or ():
            if isinstance(container, dict):
                yield from customised(container)
            else:
                yield "contains a container that is not an object"


def customised(container: Mapping[str, Any]) -> Iterator[str]:
    """Judge a container, as JSON, that customizes one of the injector's containers."""
    for field, value in container.items():
        if value in (None, "", [], {}) or field in _HARMLESS_FIELDS:
            continue
        if field == "image":
            if value != "auto":
                yield "must not choose the image"
        elif field == "env":
            yield from _env(value)
        elif field == "volumeMounts":
            yield from _mounts(value)
        elif field not in _PROBES or not isinstance(value, dict) or value.keys() - _PROBE_FIELDS:
            yield f"must not set {field}"


def _env(listed: Any) -> Iterator[str]:
    for entry in listed if isinstance(listed, list) else [None]:
        if not isinstance(entry, dict) or entry.keys() - {"name", "value"}:
            yield "must set variables to plain values only"
        else:
            yield from variable(str(entry.get("name"))[:63], entry.get("value", ""))


def _mounts(listed: Any) -> Iterator[str]:
    for mount in listed if isinstance(listed, list) else [None]:
        name, path = (str(mount.get(key)) for key in ("name", "mountPath")) if isinstance(
            mount, dict
        ) else ("", "")  # fmt: skip
        if not (name.startswith(_TOKEN_NAME) and path == _TOKEN_PATH):
            yield f"must not mount {name[:63]}"


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of pairs whose keys all differ, because Go's decoder ignores case."""
    if len({key.lower() for key, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _datadog(text: str) -> Iterator[str]:
    found = _json(text)
    if found is None:
        yield "is not a JSON object of variables"
        return
    for name, value in found.items():
        if not _IS_DATADOG(name):
            yield f"must not set {name[:63] if _is_plain(name) else 'this variable'}"
        elif not isinstance(value, str) or _TAGS.wrong(value):
            yield f"must set {name} only to {_TAGS.words}"


_IS_DATADOG = re.compile(r"DD_(?:ENV|SERVICE|VERSION|TAGS)", re.ASCII).fullmatch
_TAGS = f.Form("words and tags, for example team:shop", r"[A-Za-z0-9 ._:,/@+-]*")

#: The template pastes the names without quotes, and the injector ignores the case of keys.
_is_volume_name = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII).fullmatch
_VOLUME_SOURCES = dict.fromkeys((
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
))  # fmt: skip
#: The fields of a mount, with their types.
_MOUNT_FIELDS: Mapping[str, type] = {"mountPath": str, "readOnly": bool, "subPath": str}


def _is_mount(mount: Any) -> bool:
    return isinstance(mount, dict) and all(
        isinstance(value, _MOUNT_FIELDS.get(field, ())) and _is_plain(str(value))
        for field, value in mount.items()
    )


def _user_volumes(text: str) -> Iterator[str]:
    found = _json(text)
    if found is None:
        yield "is not a JSON object of volumes"
        return
    for name, volume in found.items():
        if name in VOLUMES:
            yield f"must not replace the proxy's volume {name}"
        elif not _is_volume_name(name):
            yield "must not contain a volume with an invalid name"
        elif not isinstance(volume, dict) or len(volume) != 1 or volume.keys() - _VOLUME_SOURCES:
            yield f"must give volume {name} only one of {', '.join(_VOLUME_SOURCES)}"


def _user_mounts(text: str) -> Iterator[str]:
    found = _json(text)
    if found is None:
        yield "is not a JSON object of volume mounts"
        return
    for name, mount in found.items():
        if not _is_volume_name(name):
            yield "must not contain a mount with an invalid name"
        elif not _is_mount(mount):
            yield f"must set only mountPath, subPath and readOnly ({name})"
        elif covers(str(mount.get("mountPath", "/")), GUARDED_PATHS):
            path = mount_path(str(mount.get("mountPath", "/")))
            yield f"must not mount over the proxy's own files ({path[:120]})"


#: Folders in which a volume could change the programs, trust or identity of the proxy and its
#: agent.
GUARDED_PATHS = (
    "/bin", "/dev", "/etc/certs", "/etc/hosts", "/etc/istio", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/etc/pki",
    "/etc/resolv.conf", "/etc/ssl", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec",
    "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin", "/var/lib/istio",
    "/var/run/secrets",
)  # fmt: skip

_BYPASS = "capture-bypassed"
_TRAFFIC = "traffic.sidecar.istio.io/"
_SIDECAR = "sidecar.istio.io/"
_READY = "readiness.status.sidecar.istio.io/"
#: The prefix of attributes for traces, and the key of Datadog's variables.
_TRACES, _DATADOG = "resource.opentelemetry.io/", "apm.datadoghq.com/env"
#: If the CNI plugin runs through Multus, the template pastes this between single quotes.
_NETWORKS = f.Form(
    "names, or JSON without single quotes", rf"(?:[^{f.UNPRINTABLE}']|[\n\t])*", longest=4096
)

ANNOTATIONS: dict[str, Input] = {
    # Another check judges which values opt in and which opt out.
    _SIDECAR + "inject": Input(f.TEXT),
    _SIDECAR + "status": Input(
        f.Form("the JSON that the injector writes", f.TEXT.pattern, longest=_LONGEST),
        "injector",
        "status-forged",
    ),
    "proxy.istio.io/overrides": Input(
        f.structured("a record of harmless fields", _overrides, longest=_LONGEST),
        "injector",
        fix="author: remove these fields from the pod's own container istio-proxy",
    ),
    _SIDECAR + "nativeSidecar": Input(f.BOOLEAN),
    _SIDECAR + "rewriteAppHTTPProbers": Input(f.BOOLEAN),
    _SIDECAR + "capNetBindService": Input(f.BOOLEAN),
    _SIDECAR + "controlPlaneAuthPolicy": Input(f.one_of("MUTUAL_TLS"), "admin"),
    _SIDECAR + "discoveryAddress": Input(f.ADMIN_ONLY, "admin", "control-plane-elsewhere"),
    _SIDECAR + "proxyImage": Input(f.ADMIN_ONLY, "admin", "proxy-image-untrusted"),
    _SIDECAR + "proxyImageType": Input(f.one_of("default", "debug", "distroless")),
    _SIDECAR + "bootstrapOverride": Input(f.ADMIN_ONLY, "admin"),
    _SIDECAR + "enableCoreDump": Input(f.FALSE, "admin"),
    _SIDECAR + "proxyCPU": Input(f.QUANTITY),
    _SIDECAR + "proxyCPULimit": Input(f.QUANTITY),
    _SIDECAR + "proxyMemory": Input(f.QUANTITY),
    _SIDECAR + "proxyMemoryLimit": Input(f.QUANTITY),
    _SIDECAR + "interceptionMode": Input(f.one_of("REDIRECT", "TPROXY"), "bypass", _BYPASS),
    _SIDECAR + "statsInclusionPrefixes": Input(f.PATTERNS),
    _SIDECAR + "statsInclusionSuffixes": Input(f.PATTERNS),
    _SIDECAR + "statsInclusionRegexps": Input(f.PATTERNS),
    _SIDECAR + "statsHistogramBuckets": Input(f.BUCKETS),
    _SIDECAR + "statsCompression": Input(f.BOOLEAN),
    _SIDECAR + "statsEvictionInterval": Input(f.DURATION),
    _SIDECAR + "statsFlushInterval": Input(f.DURATION),
    _SIDECAR + "statsHistogramBins": Input(f.NUMBER),
    _SIDECAR + "extraStatTags": Input(f.NAMES),
    _SIDECAR + "logLevel": Input(_LEVELS),
    _SIDECAR + "componentLogLevel": Input(_LEVELS),
    _SIDECAR + "agentLogLevel": Input(_LEVELS),
    _SIDECAR + "userVolume": Input(
        f.structured("a JSON object of volumes", _user_volumes, longest=_LONGEST)
    ),
    _SIDECAR + "userVolumeMount": Input(
        f.structured("a JSON object of volume mounts", _user_mounts, longest=_LONGEST)
    ),
    "status.sidecar.istio.io/port": Input(f.PORT, "bypass", _BYPASS),
    _READY + "initialDelaySeconds": Input(f.NUMBER),
    _READY + "periodSeconds": Input(f.NUMBER),
    _READY + "failureThreshold": Input(f.NUMBER),
    _READY + "applicationPorts": Input(f.PORTS),
    _TRAFFIC + "includeInboundPorts": Input(f.PORTS_OR_ALL, "bypass", _BYPASS),
    _TRAFFIC + "includeOutboundIPRanges": Input(f.CIDRS_OR_ALL, "bypass", _BYPASS),
    _TRAFFIC + "includeOutboundPorts": Input(f.PORTS_OR_ALL),
    _TRAFFIC + "excludeInboundPorts": Input(f.PORTS, "bypass", _BYPASS),
    _TRAFFIC + "excludeOutboundPorts": Input(f.PORTS, "bypass", _BYPASS),
    _TRAFFIC + "excludeOutboundIPRanges": Input(f.CIDRS, "bypass", _BYPASS),
    _TRAFFIC + "excludeInterfaces": Input(f.INTERFACES, "bypass", _BYPASS),
    _TRAFFIC + "kubevirtInterfaces": Input(f.INTERFACES, "bypass", _BYPASS),
    "istio.io/reroute-virtual-interfaces": Input(f.INTERFACES, "bypass", _BYPASS),
    "inject.istio.io/templates": Input(f.NAMES, "bypass", _BYPASS),
    "proxy.istio.io/config": Input(
        f.ADMIN_ONLY,
        fix="author: remove it, or set a plain YAML mapping of the keys that mendix-mesh explain "
        "inputs lists",
    ),
    "istio.io/rev": Input(f.NAME),
    "istio.io/use-waypoint-canary-weight": Input(f.NUMBER),
    "prometheus.istio.io/merge-metrics": Input(f.BOOLEAN),
    # Only Prometheus reads it. The injector sets it if the mesh has such a port.
    "prometheus.istio.io/secure-port": Input(f.PORT),
    "galley.istio.io/analyze-suppress": Input(f.TEXT),
    "install.operator.istio.io/chart-owner": Input(f.TEXT),
    "install.operator.istio.io/owner-generation": Input(f.TEXT),
    "install.operator.istio.io/version": Input(f.TEXT),
    "operator.istio.io/component": Input(f.TEXT),
    "operator.istio.io/managed": Input(f.TEXT),
    "operator.istio.io/version": Input(f.TEXT),
    "ambient.istio.io/dns-capture": Input(f.BOOLEAN),
    "ambient.istio.io/bypass-inbound-capture": Input(f.BOOLEAN, "bypass", _BYPASS),
    "ambient.istio.io/redirection": Input(
        f.one_of("enabled", "pending"), "injector", "status-forged"
    ),
    "k8s.v1.cni.cncf.io/networks": Input(_NETWORKS),
    # If the mesh's tracer is datadog, the template pastes these variables into the proxy.
    _DATADOG: Input(f.structured("a JSON object of DD_ variables", _datadog, longest=4096)),
    # The agent, whose traffic is not captured, requests http://localhost:PORT + PATH.
    "prometheus.io/scrape": Input(f.Form("true or false", r"[A-Za-z0-9]{0,8}")),
    "prometheus.io/port": Input(f.Form("a port", rf"(?:{f.PORT.pattern})?")),
    "prometheus.io/path": Input(f.PATH),
}
PREFIXES = {
    # Pasted into a variable of the proxy (pkg/kube/inject/template.go otelResourceAttributes).
    _TRACES: Input(f.WORDS),
}

LABELS: dict[str, Input] = {
    # Other checks judge which values opt in or out, and whether peers use mutual TLS.
    _SIDECAR + "inject": Input(f.TEXT),
    "istio.io/dataplane-mode": Input(f.TEXT),
    "security.istio.io/tlsMode": Input(f.TEXT),
    "istio.io/rev": Input(f.NAME),
    "istio.io/use-waypoint": Input(f.NAME),
    "istio.io/use-waypoint-canary": Input(f.NAME),
    "istio.io/use-waypoint-canary-namespace": Input(f.NAME),
    "istio.io/use-waypoint-namespace": Input(f.NAME),
    "istio.io/ingress-use-waypoint": Input(f.NAME),
    "service.istio.io/canonical-name": Input(f.NAME),
    "service.istio.io/canonical-revision": Input(f.NAME),
    "service.istio.io/workload-name": Input(f.NAME),
    "topology.istio.io/network": Input(f.NAME),
    "topology.istio.io/cluster": Input(f.NAME),
    "topology.istio.io/subzone": Input(f.NAME),
    "topology.istio.io/locality": Input(f.NAME),
    "networking.istio.io/tunnel": Input(f.one_of("http"), "injector"),
    "cni.istio.io/uninitialized": Input(f.TEXT),
    "operator.istio.io/component": Input(f.TEXT),
    "operator.istio.io/managed": Input(f.TEXT),
    "operator.istio.io/version": Input(f.TEXT),
    "install.operator.istio.io/owning-resource": Input(f.TEXT),
    "install.operator.istio.io/owning-resource-namespace": Input(f.TEXT),
}


#: The labels that Istio reads.
READS_LABELS = Domains("istio.io/", below=".istio.io/")
#: The annotations that Istio reads. Its agent reads three of Prometheus'. In those, the injector
#: treats all characters except letters and digits as equal
#: (pkg/kube/inject/webhook.go getPrometheusScrapeConfiguration).
READS = Domains(
    "istio.io/", _TRACES, below=".istio.io/",
    pattern="prometheus[^A-Za-z0-9](?:istio[^A-Za-z0-9]io[^A-Za-z0-9]"
    "|io[^A-Za-z0-9](?:path|port|scrape)$)",
)  # fmt: skip


def prometheus(text: str) -> Mapping[str, str]:
    """Return the scrape annotations that the injector kept for the agent, by their short keys.

    An unreadable text becomes one value that no form admits.
    """
    found = _json(text) if len(text) <= _LONGEST else None
    if found is None or not all(isinstance(value, str) for value in found.values()):
        return {"path": "\n"}
    return found
