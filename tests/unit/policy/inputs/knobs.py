"""Hypothesis strategies for an author's input to a mesh, drawn from the allow-lists.

Values come from the pattern of their form. Structured values, and those that another check compares
with the settings or the rest of the pod, have their own strategy here.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.standins import mendix_manifests as manifests
from tests.unit.policy import strategies
from tests.unit.policy.judge import mesh, settings
from webhook.policy.inputs import Inputs, forms, istio, linkerd, proxyconfig
from webhook.policy.inputs.forms import Form

Json = dict[str, Any]
Texts = st.SearchStrategy[str]

#: The traffic that the admin allows outside the mesh in these tests: values of `bypass` come from
#: here.
LINKERD = {
    "skipInboundPorts": "25,4190,4191,4567,4568",
    "skipOutboundPorts": "4567,4568,8000-8100",
    "skipSubnets": ["10.0.0.0/8"],
}
ISTIO = {
    "excludeInboundPorts": "9901",
    "excludeOutboundPorts": "5432,8000-8100",
    "excludeOutboundIPRanges": ["10.0.0.0/8"],
}
SETTINGS = settings(linkerd=LINKERD, istio=ISTIO)

_LABEL = forms.Form("a label's value", r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def of_form(form: Form) -> Texts:
    """Values that match a form's pattern."""
    compiled = re.compile(form.pattern, re.ASCII)
    return st.from_regex(compiled, fullmatch=True).filter(lambda text: len(text) <= form.longest)


_DURATIONS = st.integers(0, 3600).map("{}s".format)
_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
_WORDS = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
_COUNTS = st.integers(0, 64)

#: The values of each harmless key of `proxy.istio.io/config`, as Istio's API types it.
CONFIG_KEYS: Mapping[str, st.SearchStrategy[Any]] = {
    "availabilityZone": _NAMES,
    "concurrency": _COUNTS,
    "drainDuration": st.integers(1, 60).map("{}s".format),
    "extraStatTags": st.lists(_NAMES, max_size=3, unique=True),
    "fileFlushInterval": _DURATIONS,
    "fileFlushMinSizeKb": _COUNTS,
    proxyconfig.HOLD: st.booleans(),
    "image": st.sampled_from(("distroless", "debug")).map(lambda kind: {"imageType": kind}),
    "parentShutdownDuration": st.integers(61, 120).map("{}s".format),
    "proxyHeaders": st.fixed_dictionaries({}, optional={
        "server": st.fixed_dictionaries({}, optional={"disabled": st.booleans(), "value": _NAMES}),
        "requestId": st.just({"disabled": True}),
        "attemptCount": st.just({"disabled": True}),
        "envoyDebugHeaders": st.just({"disabled": True}),
        "metadataExchangeHeaders": st.just({"mode": "IN_MESH"}),
        "setCurrentClientCertDetails": st.just({"subject": True}),
    }),
    "proxyStatsMatcher": st.fixed_dictionaries({}, optional={
        "inclusionPrefixes": st.lists(_NAMES, max_size=2),
        "inclusionRegexps": st.lists(st.sampled_from((".*_cx_.*", "a|b")), max_size=2),
    }),
    "serviceCluster": _NAMES,
    "statNameLength": st.integers(189, 300),
    "statsCompression": st.booleans(),
    "terminationDrainDuration": _DURATIONS,
    "tracing": st.fixed_dictionaries({}, optional={
        "sampling": st.integers(0, 100),
        "maxPathTagLength": st.integers(1, 256),
        "customTags": st.dictionaries(
            _NAMES, st.just({"literal": {"value": "shop"}}), max_size=2),
    }),
    "tracingServiceName": st.sampled_from(("APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY")),
}  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> str:
    """A proxy's configuration of harmless keys, as YAML or JSON."""
    found = draw(st.fixed_dictionaries({}, optional={
        **CONFIG_KEYS,
        "interceptionMode": st.sampled_from(("REDIRECT", "TPROXY")),
        "discoveryAddress": st.just("istiod.istio-system.svc:15012"),
        "proxyMetadata": st.fixed_dictionaries({}, optional={
            name: of_form(form) for name, form in istio.HARMLESS_ENV.items()
        }),
    }))  # fmt: skip
    text = json.dumps(found)
    if draw(st.booleans()):
        return text
    # Parsed again, so that PyYAML finds no repeated object and writes no alias.
    return yaml.safe_dump(
        json.loads(text), default_flow_style=draw(st.sampled_from((True, False, None)))
    )


def _additional() -> Texts:
    entry = st.fixed_dictionaries(
        {"name": st.sampled_from(sorted(linkerd.HARMLESS_ENV))},
        optional={"value": of_form(forms.LOG_LEVEL)},
    )
    return st.lists(entry, max_size=3).map(json.dumps)


_SOURCES = st.sampled_from((
    {"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, {"configMap": {"name": "shop"}},
    {"secret": {"secretName": "shop", "optional": True}},
    {"persistentVolumeClaim": {"claimName": "shop"}},
    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
))  # fmt: skip
_MOUNTS = st.fixed_dictionaries(
    {"mountPath": st.from_regex(r"/(?:tmp|extra|var/log)/[a-z]{1,8}", fullmatch=True)},
    optional={"readOnly": st.booleans(), "subPath": _NAMES},
)
_VOLUME_NAMES = st.from_regex(r"own-[a-z0-9]{1,8}", fullmatch=True)
_BUCKETS = st.dictionaries(
    st.from_regex(r"[a-z_*.]{1,20}", fullmatch=True),
    st.lists(st.integers(1, 9999), min_size=1, max_size=4, unique=True).map(sorted),
    max_size=2,
).map(json.dumps)

VOLUME, MOUNT = "sidecar.istio.io/userVolume", "sidecar.istio.io/userVolumeMount"
DATADOG = "apm.datadoghq.com/env"


def _ports(*listed: str) -> Texts:
    return st.sampled_from(("", *listed))


#: Strategies for values that a pattern alone can't describe.
OWN: Mapping[str, Texts] = {
    # Another check decides which values opt in.
    "linkerd.io/inject": st.just("enabled"),
    "sidecar.istio.io/inject": st.just("true"),
    "security.istio.io/tlsMode": st.just("istio"),
    # Other containers with this user are judged in the final pod.
    linkerd.CONFIG + "proxy-uid": st.just("2102"),
    linkerd.CONFIG + "proxy-gid": st.just("-1"),
    # With the CNI plugin these are the node's.
    linkerd.CONFIG + "inbound-port": st.just("4143"),
    linkerd.CONFIG + "outbound-port": st.just("4140"),
    # The injector fails on it, unless linkerd-init runs as root.
    linkerd.CONFIG + "close-wait-timeout": st.just("0s"),
    # The stand-in rounds only the CPU suffixes in use up to cores.
    linkerd.CONFIG + "proxy-cpu-request": st.sampled_from(("100m", "1", "1.5")),
    linkerd.CONFIG + "proxy-cpu-limit": st.sampled_from(("2500m", "2", "0.5")),
    linkerd.CONFIG + "proxy-additional-env": _additional(),
    linkerd.CONFIG + "control-port": st.sampled_from(("4190", "25")),
    linkerd.CONFIG + "admin-port": st.sampled_from(("4191", "4567")),
    linkerd.CONFIG + "skip-inbound-ports": _ports("25", " 4567-4568, 25"),
    linkerd.CONFIG + "skip-outbound-ports": _ports("4567", "8000-8100", "8001,8080-8090"),
    linkerd.CONFIG + "skip-subnets": _ports("10.0.0.0/8"),
    "proxy.istio.io/config": configs(),
    "sidecar.istio.io/interceptionMode": st.sampled_from(("REDIRECT", "TPROXY")),
    # A limit is not below its request.
    "sidecar.istio.io/proxyCPU": st.sampled_from(("10m", "0.5", "1")),
    "sidecar.istio.io/proxyCPULimit": st.sampled_from(("2", "2500m", "1e1")),
    "sidecar.istio.io/proxyMemory": st.sampled_from(("64Mi", "128M", "0.5e9")),
    "sidecar.istio.io/proxyMemoryLimit": st.sampled_from(("1Gi", "2G")),
    "sidecar.istio.io/statsHistogramBuckets": _BUCKETS,
    "k8s.v1.cni.cncf.io/networks": st.sampled_from(("", "shop/a, b", '[\n  {"name": "a"}\n]')),
    # Not empty, and not one of Istio's own.
    "prometheus.io/port": _ports("1", "8080", "65535"),
    "status.sidecar.istio.io/port": st.sampled_from(("15020", "15021")),
    "traffic.sidecar.istio.io/includeInboundPorts": st.just("*"),
    "traffic.sidecar.istio.io/includeOutboundIPRanges": st.just("*"),
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports("9901", "15020, 9901"),
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports("5432", "8001, 5432"),
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": _ports("10.0.0.0/8"),
    "traffic.sidecar.istio.io/excludeInterfaces": _ports(),
    "traffic.sidecar.istio.io/kubevirtInterfaces": _ports(),
    "istio.io/reroute-virtual-interfaces": _ports(),
    "inject.istio.io/templates": st.just("sidecar"),
    "ambient.istio.io/bypass-inbound-capture": st.sampled_from(("false", "0")),
    DATADOG: st.dictionaries(
        st.sampled_from(("DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_TAGS")), of_form(forms.NAME)
    ).map(json.dumps),
}  # fmt: skip
#: Keys whose values, all or none, are judged by another check.
CONTROL_PLANE = frozenset({
    "linkerd.io/control-plane-component", "linkerd.io/cni-resource", "istio.io/dataplane-mode",
})  # fmt: skip


@functools.lru_cache
def lists(by: str) -> tuple[Inputs, Inputs]:
    """The lists of annotations and labels of a mesh, bound to SETTINGS."""
    found = mesh(by, SETTINGS)
    assert found.annotations is not None
    assert found.labels is not None
    return found.annotations, found.labels


@functools.lru_cache
def drawable(by: str, *, label: bool) -> Mapping[str, Texts]:
    """Return a strategy for each key that authors may set."""
    found: dict[str, Texts] = {}
    for key, one in lists(by)[label].listed.items():
        if by == "ambient" and key == "sidecar.istio.io/inject":
            continue  # another mesh there
        if one.may in ("admin", "injector") or key in (*CONTROL_PLANE, VOLUME, MOUNT):
            continue
        if key in OWN:
            found[key] = OWN[key]
        elif label:
            found[key] = of_form(_LABEL)
        else:
            found[key] = of_form(one.form)
    return found


def keys(by: str) -> list[str]:
    """Return the keys of annotations and labels that authors may set."""
    return sorted({*drawable(by, label=False), *drawable(by, label=True)})


@st.composite
def allowed(draw: st.DrawFn, by: str, *always: str) -> tuple[dict[str, str], dict[str, str]]:
    """Draw any number of annotations and labels that authors may set; `always` are included."""
    annotations, _ = lists(by)
    said = {}
    for label in (False, True):
        known = drawable(by, label=label)
        more = draw(st.lists(st.sampled_from(sorted(known)), max_size=6, unique=True))
        said[label] = {key: draw(known[key]) for key in (*more, *always) if key in known}
    for start, one in annotations.prefixes.items():
        if draw(st.booleans()):
            said[False][start + draw(_WORDS)] = draw(of_form(one.form))
    if VOLUME in annotations.listed and draw(st.booleans()):
        volumes = draw(st.dictionaries(_VOLUME_NAMES, _SOURCES, max_size=2))
        mounts = {name: draw(_MOUNTS) for name in volumes if draw(st.booleans())}
        said[False] |= {VOLUME: json.dumps(volumes), MOUNT: json.dumps(mounts)}
    return said[False], said[True]


def _controlled(template: Json, kind: str) -> Json:
    return strategies.pod_of(strategies.workload(kind, template))


def mendix_pods() -> list[Json]:
    """Return every kind of pod that Mendix creates, before any webhook."""
    where = "mendix"
    operator = manifests.operator_deployment(where)["spec"]["template"]
    agent = manifests.agent_deployment(where)["spec"]["template"]
    job = manifests.installer_job(where)["spec"]["template"]
    return [
        manifests.app_pod("shop", where),
        manifests.app_pod("shop", where, automount=True, labels={"team": "shop"}),
        manifests.build_pod("shop", where),
        manifests.storage_pod("shop", "database", where),
        manifests.storage_pod("shop", "file", where),
        manifests.backup_pod(where),
        _controlled(job, "Job"),
        _controlled(operator, "Deployment"),
        _controlled(agent, "Deployment"),
    ]


def pods(by: str) -> st.SearchStrategy[Json]:
    """Pods of well-meaning authors and of Mendix, before any webhook."""
    anyone = st.builds(
        _controlled, strategies.sound_templates(by), st.sampled_from(strategies.KINDS)
    )
    return anyone | st.sampled_from(mendix_pods())


def saying(pod: Json, annotations: Mapping[str, str], labels: Mapping[str, str]) -> Json:
    """Return the pod with these annotations and labels, in addition to its own."""
    meta = {**(pod.get("metadata") or {})}
    for place, more in (("annotations", annotations), ("labels", labels)):
        if more:
            meta[place] = {**(meta.get(place) or {}), **more}
    return {**pod, "metadata": meta}
