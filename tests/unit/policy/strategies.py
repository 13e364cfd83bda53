"""Kubernetes objects as authors, controllers and attackers write them, for hypothesis."""

import copy
from typing import Any

from hypothesis import strategies as st

from tests.fixtures.changes import RECORD
from tests.fixtures.meshes import ambient, istio, linkerd
from webhook.policy.pod.workload import TEMPLATES

Json = dict[str, Any]

CONFIG = linkerd.CONFIG
KINDS = tuple(TEMPLATES)
VERSIONS = {
    "Pod": "v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Ingress": "networking.k8s.io/v1",
}

KEYS = (
    "linkerd.io/inject", "linkerd.io/control-plane-ns", "linkerd.io/cni-resource",
    *(CONFIG + short for short in (
        "skip-inbound-ports", "skip-outbound-ports", "skip-subnets", "control-port", "proxy-uid",
        "proxy-gid", "proxy-image", "proxy-additional-env", "default-inbound-policy",
        "disable-identity", "proxy-enable-native-sidecar", "inbound-port",
    )),
    istio.INJECT, istio.STATUS, istio.CONFIG, istio.TEMPLATES, istio.MODE, istio.NATIVE,
    istio.TLS_MODE, "istio.io/rev", "sidecar.istio.io/proxyImage", "status.sidecar.istio.io/port",
    *(istio.TRAFFIC + short for short in (
        "includeInboundPorts", "includeOutboundIPRanges", "excludeOutboundPorts",
        "excludeOutboundIPRanges", "kubevirtInterfaces",
    )),
    ambient.MODE, ambient.BYPASS, ambient.REDIRECTION, "privatecloud.mendix.com/component",
    "node-type", "kubernetes.io/ingress.class", "a~b/c", "app", RECORD,
)  # fmt: skip
VALUES = (
    "enabled", "disabled", "ingress", "true", "", " ", "2102", "8080", "1-65535", "9" * 5000,
    "10.0.0.0/8", "all-authenticated", "[]", '[{"name": "LINKERD2_PROXY_LOG"}]',
    '[{"name": "LINKERD2_PROXY_\\ud800", "value": 1}]', "[" * 5000, "line\nline", "nginx",
    "linkerd", "linkerd-proxy", "false", "True", "ambient", "none", "*", "NONE", "gateway", "istio",
    "0",
    "interceptionMode: NONE", '{"proxyMetadata": {"DRY_RUN": "true"}}', "a: &a [*a]", "{a: " * 99,
)  # fmt: skip
NAMES = (
    "mendix", "linkerd-proxy", "linkerd-init", "linkerd-network-validator", "linkerd-debug",
    "istio-proxy", "istio-init", "istio-validation",
)  # fmt: skip
IMAGES = (
    linkerd.PROXY_IMAGE, linkerd.OLD_INIT_IMAGE, "evil.io/linkerd/proxy", "shop:1", "", "@", ":",
    istio.IMAGE, "auto",
)  # fmt: skip
ARGUMENTS = (
    "--simulate", "--proxy-uid", "2102", "--proxy-uid=1", "--incoming-proxy-port", "4143", "=",
    "istio-iptables", "-u", "1337", "-b", "*", "--run-validation", "proxy", "sidecar", "waypoint",
    "pilot-agent", "wait",
)  # fmt: skip
VARIABLES = (
    "LINKERD2_PROXY_INGRESS_MODE", "LINKERD2_PROXY_IDENTITY_SVC_ADDR", "LD_PRELOAD", "A",
    "PROXY_CONFIG", "CA_ADDR", "ISTIO_META_INTERCEPTION_MODE",
)  # fmt: skip

#: Any JSON value, shallow.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def _given(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Draw a map in which each field may be missing or, as in Go, null."""
    return st.fixed_dictionaries({}, optional={k: st.none() | v for k, v in fields.items()})


pairs = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=5),
    st.sampled_from(VALUES) | st.text(max_size=5),
    max_size=5,
)
ids = st.sampled_from((0, 1000, 1337, 2102, 2**40))
words = st.lists(st.sampled_from(ARGUMENTS), max_size=4)
security = _given(
    runAsUser=ids,
    runAsGroup=ids,
    runAsNonRoot=st.booleans(),
    privileged=st.booleans(),
    capabilities=_given(
        add=st.lists(st.sampled_from(("NET_ADMIN", "cap_net_raw", "SETUID", "")), max_size=2),
        drop=st.lists(st.sampled_from(("ALL", "SETUID")), max_size=2),
    ),
)
hook = _given(exec=_given(command=words))
variables = st.lists(
    _given(name=st.sampled_from(VARIABLES), value=st.sampled_from(VALUES)).map(
        lambda entry: {k: v for k, v in entry.items() if v is not None}
    ),
    max_size=3,
)
containers = _given(
    image=st.sampled_from(IMAGES),
    command=words,
    args=words,
    env=variables,
    envFrom=st.lists(json_values, max_size=1),
    ports=st.lists(
        st.fixed_dictionaries(
            {"containerPort": st.integers(1, 65535)},
            optional={"protocol": st.sampled_from(("TCP", "UDP", "SCTP"))},
        ),
        max_size=2,
    ),
    securityContext=security,
    restartPolicy=st.sampled_from(("Always", "Never")),
    volumeMounts=st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(("linkerd-identity-end-entity", "istio-data", "scratch")),
                "mountPath": st.sampled_from(("/", "/usr/../usr/bin", "var/run", "", "/run")),
            }
        ),
        max_size=2,
    ),
    lifecycle=_given(postStart=hook, preStop=hook),
    livenessProbe=hook,
)
named = st.builds(lambda name, rest: {"name": name, **rest}, st.sampled_from(NAMES), containers)
specs = _given(
    hostNetwork=st.booleans(),
    restartPolicy=st.sampled_from(("Always", "OnFailure", "Never")),
    serviceAccountName=st.sampled_from(("default", "shop", "")),
    securityContext=security,
    initContainers=st.lists(named, max_size=3),
    containers=st.lists(named, max_size=3),
    ephemeralContainers=st.lists(named, max_size=1),
    volumes=st.lists(
        _given(emptyDir=_given(medium=st.just("Memory"))).map(
            lambda source: {"name": "linkerd-identity-end-entity", **source}
        ),
        max_size=1,
    ),
)
owners = st.lists(
    st.builds(
        lambda version, kind, controller: {
            "apiVersion": version,
            "kind": kind,
            "name": "shop-master",
            "uid": "1",
            "controller": controller,
        },
        st.sampled_from(("apps/v1", "privatecloud.mendix.com/v1alpha1", "")),
        st.sampled_from(("ReplicaSet", "Build", "StorageInstance", "Job", "")),
        st.none() | st.booleans(),
    ),
    max_size=2,
)
metadata = _given(
    name=st.sampled_from(("shop", "shop-build", "mendix-operator")),
    generateName=st.just("shop-"),
    namespace=st.just("mendix"),
    labels=pairs,
    annotations=pairs,
    ownerReferences=owners,
    finalizers=st.just(["example.com/keep"]),  # not decoded: must survive a patch
    creationTimestamp=st.none(),
)
pod_like = _given(metadata=metadata, spec=specs)


def _object(kind: str, meta: Json | None, template: Json | None) -> Json:
    obj: Json = {"apiVersion": VERSIONS.get(kind, "apps/v1"), "kind": kind, "metadata": meta}
    if kind == "Pod":
        return obj | {"spec": (template or {}).get("spec")}
    if kind == "CronJob":
        return obj | {"spec": {"jobTemplate": {"spec": {"template": template}}}}
    return obj | {"spec": {"template": template}}


#: Objects of any reviewed kind, valid or not, whose fields have the right types.
objects = st.builds(_object, st.sampled_from(KINDS), st.none() | metadata, st.none() | pod_like)

#: Only pods.
pods = st.builds(_object, st.just("Pod"), st.none() | metadata, st.none() | pod_like)

ingresses = st.builds(
    lambda meta, spec: {
        "apiVersion": VERSIONS["Ingress"],
        "kind": "Ingress",
        "metadata": meta,
        "spec": spec,
    },
    st.none() | metadata,
    st.none() | _given(ingressClassName=st.sampled_from(("nginx", "other"))),
)


@st.composite
def broken_objects(draw: st.DrawFn) -> Any:
    """An injected pod in which one value, anywhere, is replaced by any JSON."""
    document: Any = copy.deepcopy(draw(st.sampled_from(_SOUND)))
    holder, key = document, ""
    for _ in range(draw(st.integers(1, 7))):
        inner = holder[key] if key != "" else holder
        if not isinstance(inner, dict | list) or not inner:
            break
        holder = inner
        key = draw(
            st.sampled_from(sorted(holder))
            if isinstance(holder, dict)
            else st.integers(0, len(holder) - 1)
        )
    holder[key] = draw(json_values | st.sampled_from(VALUES))
    return document


_SOUND = [
    linkerd.injected(),
    linkerd.injected(config=linkerd.CNI),
    linkerd.injected(config=linkerd.CLASSIC),
    istio.injected(),
    istio.injected(config=istio.CNI),
    istio.injected(config=istio.CLASSIC),
    istio.waypoint(),
    ambient.app(),
]


#: The opt-ins of a well-meaning author: yes, nothing, or a word that no injector knows.
_SAID: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "linkerd": ("annotations", linkerd.INJECT, ("enabled", "", "Enabled", "true")),
    "istio": ("labels", istio.INJECT, ("true", "", "yes", "True")),
    "ambient": ("labels", ambient.MODE, ("ambient", "", "Ambient")),
}
#: The settings of such an author for Istio's proxy. Other meshes don't read them.
_TUNED = {
    istio.CONFIG: ("concurrency: 2 # two", '{"tracing": {"sampling": 10.5}}', "", "{}"),
    istio.TRAFFIC + "excludeInboundPorts": ("15020",),
    "sidecar.istio.io/logLevel": ("debug",),
    "prometheus.io/port": ("8080",),
}


@st.composite
def sound_templates(draw: st.DrawFn, by: str = "linkerd") -> Json:
    """Draw pod templates of well-meaning authors: their pods must always join the mesh."""
    app = draw(
        _given(
            ports=st.just([{"containerPort": 8080}]),
            securityContext=_given(
                runAsUser=st.sampled_from((0, 1000)), runAsNonRoot=st.booleans()
            ),
            env=st.just([{"name": "A", "value": "b"}]),
            livenessProbe=st.just({"exec": {"command": ["true"]}}),
            readinessProbe=st.just({"httpGet": {"path": "/", "port": 8080}}),
        ).map(_without_none)
    )
    spec = draw(
        _given(
            initContainers=st.just([{"name": "prepare", "image": "busybox:1"}]),
            volumes=st.just([{"name": "scratch", "emptyDir": {}}]),
            serviceAccountName=st.just("shop"),
            automountServiceAccountToken=st.booleans(),
            securityContext=st.just({"runAsNonRoot": True}),
        ).map(_without_none)
    )
    annotations = st.dictionaries(
        st.sampled_from(("prometheus.io/scrape", "a~b/c")), st.just("true"), max_size=2
    )
    labels = st.dictionaries(st.sampled_from(("app", "team")), st.just("shop"), max_size=2)
    meta = draw(
        _given(
            labels=labels, annotations=annotations, finalizers=st.just(["example.com/keep"])
        ).map(_without_none)
    )
    place, key, values = _SAID[by]
    chosen = {name: draw(st.none() | st.sampled_from(texts)) for name, texts in _TUNED.items()}
    said = {key: draw(st.none() | st.sampled_from(values))}
    for where, pairs in (("annotations", _without_none(chosen)), (place, _without_none(said))):
        if pairs:
            meta[where] = {**meta.get(where, {}), **pairs}
    template: Json = {
        "spec": {**spec, "containers": [{"name": "mendix", "image": "shop:1", **app}]}
    }
    if draw(st.booleans()):
        template["metadata"] = draw(st.none() | st.just(meta))
    return template


def _without_none(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def workload(kind: str, template: Json) -> Json:
    """An object of a kind with a pod template; of a Pod, the pod."""
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", **template}
    return _object(kind, {"name": "shop", "namespace": "mendix"}, template)


def template_of(obj: Json) -> Json:
    """Return the pod template of such an object."""
    if obj["kind"] == "Pod":
        return {key: obj[key] for key in ("metadata", "spec") if key in obj}
    spec = obj["spec"]
    if obj["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Json = spec["template"]
    return template


def pod_of(obj: Json) -> Json:
    """Return the pod that Kubernetes creates for such an object."""
    template = copy.deepcopy(template_of(obj))
    kind = "Job" if obj["kind"] == "CronJob" else obj["kind"]
    meta: Json = {
        "generateName": "shop-",
        "namespace": "mendix",
        **(template.get("metadata") or {}),
    }
    if kind != "Pod":
        owner = {"apiVersion": VERSIONS.get(kind, "apps/v1"), "kind": kind, "name": "shop"}
        meta["ownerReferences"] = [{**owner, "uid": "1", "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
