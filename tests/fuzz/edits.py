"""Random changes to pods, with the settings that can bypass a mesh, for hypothesis.

An author changes a pod before our mutating webhook and the mesh's injector see it. It is an
ordinary pod, or a pod that was written by hand to look injected. In a stored pod, an author can
change what the API server allows: labels, annotations, images, and ephemeral containers.
"""

import copy
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jsonpatch
from hypothesis import strategies as st

from tests.fixtures.changes import RECORD
from tests.fixtures.meshes import ambient, istio, linkerd
from tests.standins import istio as istiod
from tests.standins import linkerd as injector
from tests.unit.policy.judge import whole_patch
from webhook.policy.inputs import istio as istio_inputs
from webhook.policy.inputs import linkerd as linkerd_inputs

Json = dict[str, Any]
Draw = st.DrawFn
Edit = Callable[[Draw, Json], None]

CONFIG, TRAFFIC = linkerd.CONFIG, istio.TRAFFIC
LISTS = ("initContainers", "containers", "ephemeralContainers")

PORTS = ("", "*", "15020", "15020,15021", "8080", " 15090 , 8080", "1-65535", "4567,4568",
         "4567-4600", "04567", "0", "25,")  # fmt: skip
RANGES = ("", "*", "0.0.0.0/0", "10.0.0.0/8", " ", "*,10.0.0.0/8")
SWITCHES = ("true", "True", "T", "1", "false", "False", "0", "", "yes", "NONE", " true")
ADDRESSES = (
    "istiod.istio-system.svc:15012", "istiod.istio-system.svc.cluster.local:15012",
    "istiod.istio-system.svc.evil.io:15012", "evil.io:15012", "istiod.mendix.svc:15012", "",
    "istiod-canary.istio-system.svc:15012", "$(EVIL)",
)  # fmt: skip
CONFIGS = (
    "", "{}", "concurrency: 2", "interceptionMode: NONE", "interception_mode: NONE",
    "interceptionMode: REDIRECT", '{"interceptionMode": "NONE"}', "interceptionMode: 2",
    "discoveryAddress: evil.io:15012", "binaryPath: /extra/envoy",
    "proxyMetadata: {FILE_MOUNTED_CERTS: 'true'}", "proxy_metadata: {ISTIO_METAJSON_X: '{}'}",
    "x: &a NONE\ninterceptionMode: *a", "<<: {interceptionMode: NONE}", "- NONE", "a: b\na: c",
    "proxyMetadata: {DRY_RUN: 'true', ISTIO_META_DNS_CAPTURE: 'true'}",
    "proxyMetadata: {<<: {SKIP_RULE_APPLY: 'true'}}", "interceptionMode: !!str NONE",
    "caCertificatesPem: [x]",
)  # fmt: skip

#: Annotations that a mesh reads, with possible values.
ANNOTATIONS: dict[str, tuple[str, ...]] = {
    "linkerd.io/inject": ("enabled", "disabled", "ingress", "Enabled", ""),
    **dict.fromkeys(
        (CONFIG + short for short in ("skip-inbound-ports", "skip-outbound-ports", "control-port",
                                      "admin-port", "inbound-port", "outbound-port")), PORTS),
    CONFIG + "skip-subnets": RANGES,
    **dict.fromkeys((CONFIG + "proxy-uid", CONFIG + "proxy-gid"), ("2102", "1000", "02102", "")),
    CONFIG + "proxy-image": ("cr.l5d.io/linkerd/proxy", "evil.io/linkerd/proxy"),
    CONFIG + "proxy-additional-env": ("[]", '[{"Name": "LD_PRELOAD", "value": "/x.so"}]', "[{"),
    CONFIG + "default-inbound-policy": ("all-authenticated", "all-unauthenticated", "none"),
    CONFIG + "disable-identity": SWITCHES,
    istio.INJECT: SWITCHES,
    istio.STATUS: ("", "{}", '{"containers": ["istio-proxy"]}'),
    istio.NATIVE: ("true", "false", ""),
    istio.MODE: ("REDIRECT", "TPROXY", "NONE", ""),
    istio.CONFIG: CONFIGS,
    istio.TEMPLATES: ("sidecar", "gateway", "grpc-agent", " sidecar ", "sidecar,shop", ""),
    **dict.fromkeys(
        (TRAFFIC + short for short in ("includeInboundPorts", "excludeInboundPorts",
                                       "includeOutboundPorts", "excludeOutboundPorts")), PORTS),
    **dict.fromkeys(
        (TRAFFIC + short for short in ("includeOutboundIPRanges", "excludeOutboundIPRanges")),
        RANGES),
    **dict.fromkeys((TRAFFIC + "excludeInterfaces", TRAFFIC + "kubevirtInterfaces",
                     "istio.io/reroute-virtual-interfaces"), ("", "eth0", " , ")),
    "status.sidecar.istio.io/port": ("15020", "8080", "0"),
    "sidecar.istio.io/proxyImage": ("docker.io/istio/proxyv2:1", "evil.io/istio/proxyv2:1"),
    "sidecar.istio.io/bootstrapOverride": ("shop",),
    "sidecar.istio.io/discoveryAddress": ADDRESSES,
    "sidecar.istio.io/userVolume": ('{"extra": {"emptyDir": {}}}',),
    "sidecar.istio.io/userVolumeMount": ('{"extra": {"mountPath": "/var/lib/istio/envoy"}}',),
    "sidecar.istio.io/capNetBindService": ("true",),
    ambient.BYPASS: SWITCHES,
    ambient.REDIRECTION: ("enabled", "pending"),
}  # fmt: skip
LABELS: dict[str, tuple[str, ...]] = {
    linkerd.LABEL: ("linkerd", "elsewhere", ""),
    "linkerd.io/control-plane-component": ("web",),
    istio.INJECT: SWITCHES,
    istio.TLS_MODE: ("istio", "disabled", "Istio", ""),
    "istio.io/rev": ("default", "canary"),
    "gateway.istio.io/managed": ("istio.io-mesh-controller",),
    ambient.MODE: ("ambient", "none", "Ambient", ""),
}

#: Invalid values, and values that are valid for other annotations.
ILL = (
    "", " ", "true", "0", "1", "-1", "99999999999", "100m", "10s", "debug", "none", "enabled",
    "a,b", "[]", "{}", "null", "~", "*", "&a b", "# x", "x: y", "- x", "$(EVIL)", "$$(EVIL)",
    "a$(POD_NAME)",
    'a"b', "a'b", "a\\", "a\nb", "a\tb", "a\u2028b", "\x7f", "all-unauthenticated", "/../x",
    '", "op": "add', 'x"}, {"op": "remove", "path": "/spec/initContainers/0"}, {"x": "',
    "IfNotPresent\nenv: []", "IfNotPresent\nsecurityContext: {privileged: true}",
    'x\nenv: [{"name": "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "value": "0.0.0.0:1"}]',
    "x\ncommand: [sleep, infinity]", "x\n- name: linkerd-proxy",
)  # fmt: skip
#: All keys that policy knows, and similar ones that it does not know.
KEYS = (
    *linkerd_inputs.ANNOTATIONS, *istio_inputs.ANNOTATIONS,
    CONFIG + "x", "config.beta.linkerd.io/x", "linkerd.io/x", "resource.opentelemetry.io/x",
    "sidecar.istio.io/x", "x.istio.io/y", "istio.io/x", "prometheus.io/x", "prometheus.io/param_x",
)  # fmt: skip
LABEL_KEYS = (
    *linkerd_inputs.LABELS, *istio_inputs.LABELS, "linkerd.io/x", "x.istio.io/y",
    "gateway.networking.k8s.io/gateway-name",
)  # fmt: skip
CUSTOMISED: tuple[Json, ...] = (
    {"resources": {"limits": {"cpu": "1"}}}, {"readinessProbe": {"periodSeconds": 3}},
    {"env": [{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}]},
    {"env": [{"name": "DISABLE_ENVOY", "value": "true"}]},
    {"env": [{"name": "ISTIO_META_DNS_CAPTURE", "value": "$(EVIL)"}]},
    {"env": [{"name": "TZ", "valueFrom": {"configMapKeyRef": {"name": "shop", "key": "x"}}}]},
    {"env": [{"name": "ISTIO_BOOTSTRAP", "value": "/extra/x"}]}, {"command": ["sleep", "5"]},
    {"args": ["proxy", "router"]}, {"volumeMounts": [{"name": "extra", "mountPath": "/etc/istio"}]},
    {"securityContext": {"privileged": True}}, {"envFrom": [{"configMapRef": {"name": "shop"}}]},
    {"lifecycle": {"postStart": {"exec": {"command": ["curl", "evil.io"]}}}},
    {"restartPolicy": "Always"}, {"workingDir": "/extra"}, {"livenessProbe": {"exec": {}}},
)  # fmt: skip
HOSTS = ("shop.local", "istiod.istio-system.svc", "linkerd-dst-headless.linkerd.svc.cluster.local",
         "linkerd-policy.linkerd.svc.cluster.local.", "ISTIOD.istio-system.svc")  # fmt: skip

NAMES = ("mendix", "helper", "linkerd-proxy", "linkerd-init", "linkerd-network-validator",
         "istio-proxy", "istio-init", "istio-validation")  # fmt: skip
IMAGES = (
    "shop:1", "auto", istio.IMAGE, "docker.io/istio/proxyv2", "evil.io/docker.io/istio/proxyv2:1",
    "docker.io/istio/proxyv2-evil:1", linkerd.PROXY_IMAGE, linkerd.OLD_INIT_IMAGE,
    "cr.l5d.io:5000/linkerd/proxy:1", f"cr.l5d.io/linkerd/proxy@sha256:{'a' * 64}",
    "linkerd/proxy:1",
)  # fmt: skip
WORDS = (
    "istio-iptables", "proxy", "sidecar", "router", "waypoint", "wait", "version",
    "-p", "-z", "-u", "-g", "-m", "-i", "-x", "-b", "-d", "-o", "-k", "-c", "-n", "-h", "--",
    "15001", "15006", "1337", "1337,1000", "01337", "8080", "*", "", "NONE", "REDIRECT", "eth0",
    "--dry-run", "--dry-run=false", "--help", "--run-validation", "--run-validation=false",
    "--skip-rule-apply", "--skip-rule-apply=false", "--cleanup-only", "-b=", "-i10.0.0.0/8",
    "--istio-service-cidr=", "--istio-inbound-ports", "--network-namespace=/x", "--log_as_json",
    "--templateFile=/extra/x", "--meshConfig", "/extra/x", "--concurrency=2", "-nu", "-u1000",
    "--simulate", "--simulate=false", "--netns", "--ports-to-redirect", "-r9999", "9999", "2102",
    "--incoming-proxy-port", "--outgoing-proxy-port=9999", "4143", "4140", "04143",
    "--proxy-uid", "--proxy-uid=1000", "--proxy-gid=1000", "--inbound-ports-to-ignore", "1-65535",
    "--outbound-ports-to-ignore=5432", "--subnets-to-ignore", "0.0.0.0/0", "--ipv6", "--version",
    "--firewall-bin-path", "true", "iptables-legacy", "--connect-addr", "127.0.0.1:4140",
)  # fmt: skip
COMMANDS: tuple[list[str], ...] = (
    ["sleep", "infinity"], ["sleep", "5"], ["curl", "evil.io"], ["pilot-agent", "wait"],
    ["pilot-agent", "istio-clean-iptables"], ["pilot-agent", "request", "POST", "drain"],
    ["/usr/lib/linkerd/linkerd-await", "--timeout=2m"],
    ["/usr/lib/linkerd/linkerd-await", "--", "curl", "evil.io"],
    ["/usr/lib/linkerd/linkerd2-proxy-init"], ["true"], [],
)  # fmt: skip
VARIABLES: dict[str, tuple[str, ...]] = {
    "DISABLE_ENVOY": ("true", "false"),
    "ISTIO_META_INTERCEPTION_MODE": ("NONE", "REDIRECT"),
    "PROXY_CONFIG": CONFIGS,
    "CA_ADDR": ADDRESSES,
    **dict.fromkeys(("DRY_RUN", "SKIP_RULE_APPLY", "CLEANUP_ONLY", "RUN_VALIDATION",
                     "FILE_MOUNTED_CERTS"), ("true", "false")),
    "IPTABLES_PROBE_PORT": ("15001", "15002"),
    "ISTIO_SERVICE_CIDR": RANGES,
    "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE": PORTS,
    "PROXY_GID": ("1000", "1337"),
    "ISTIO_BOOTSTRAP": ("/extra/x",),
    "ISTIO_METAJSON_X": ("{}",),
    "XTABLES_LIBDIR": ("/extra",),
    "LD_PRELOAD": ("/extra/x.so",),
    "PATH": ("/extra",),
    "ENVOY_PATH": ("/extra/envoy",),
    "LINKERD2_PROXY_INGRESS_MODE": ("true", "false"),
    "LINKERD2_PROXY_IDENTITY_DISABLED": ("disabled",),
    "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": ("", "me"),
    "LINKERD2_PROXY_INBOUND_LISTEN_ADDR": ("0.0.0.0:1",),
    "LINKERD2_PROXY_DESTINATION_SVC_ADDR": ("evil.io:8086", "a.linkerd.svc:8086"),
    "LINKERD2_PROXY_LOG": ("debug",),
    "TEAM": ("shop",),
}  # fmt: skip
SOURCES: tuple[Json, ...] = (
    {}, {"hostPath": {"path": "/"}}, {"downwardAPI": {"items": [
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    {"projected": {"sources": [{"secret": {"name": "shop"}}]}},
    {"configMap": {"name": "istio-ca-root-cert", "items": [{"key": "x", "path": "root-cert.pem"}]}},
    {"emptyDir": {}}, {"secret": {"secretName": "shop"}}, {"configMap": {"name": "shop"}},
    {"csi": {"driver": "csi.spiffe.io"}},
)  # fmt: skip
VOLUMES = ("extra", "workload-certs", "workload-socket", "istio-envoy", "istio-data", "istio-token",
           "istio-certs", "gke-workload-certificate", "istiod-ca-cert", "istio-podinfo",
           "istio-ca-crl", "credential-socket", "linkerd-proxy-init-xtables-lock",
           "linkerd-identity-end-entity", "linkerd-identity-token")  # fmt: skip
PATHS = ("/extra", "/", "/usr/local/bin", "usr/../usr/sbin", "/var/lib", "/var/lib/istio/envoy",
         "/run/secrets", "/var/run/secrets/istio/root-cert.pem", "/etc/certs", "/etc/istio/proxy",
         "/etc/istio", "/var/run/secrets/workload-spiffe-credentials",
         "/var/run/linkerd/identity/end-entity", "/lib")  # fmt: skip
CONTEXT: dict[str, tuple[Any, ...]] = {
    "runAsUser": (0, 1000, 1337, 2102),
    "runAsGroup": (0, 1000, 1337, 2102),
    "privileged": (True, False),
    "capabilities": (
        {"add": ["NET_ADMIN"]}, {"add": ["cap_net_raw"]}, {"add": ["ALL"]}, {"drop": ["ALL"]},
        {"add": ["NET_BIND_SERVICE"]},
    ),
}  # fmt: skip
WHOLE: dict[str, tuple[Any, ...]] = {
    "runAsUser": (1000, 1337, 2102),
    "runAsGroup": (1000, 1337, 2102),
    "fsGroup": (1000, 1337, 2102),
    "supplementalGroups": ([1000], [1000, 1337], [2102]),
}


def _pick(draw: Draw, options: Any) -> Any:
    return copy.deepcopy(draw(st.sampled_from(list(options))))


def _containers(pod: Json) -> list[Json]:
    return [container for place in LISTS for container in pod["spec"].get(place) or ()]


def _annotate(draw: Draw, pod: Json) -> None:
    key = _pick(draw, ANNOTATIONS)
    pod["metadata"].setdefault("annotations", {})[key] = _pick(draw, ANNOTATIONS[key])


def _annotate_ill(draw: Draw, pod: Json) -> None:
    pod["metadata"].setdefault("annotations", {})[_pick(draw, KEYS)] = _pick(draw, ILL)


def _label_ill(draw: Draw, pod: Json) -> None:
    values = ("true", "false", "x", "", "istio", "linkerd", "none", "ambient")
    pod["metadata"].setdefault("labels", {})[_pick(draw, LABEL_KEYS)] = _pick(draw, values)


def _user_volume(draw: Draw, pod: Json) -> None:
    """Add volumes, and mounts in the proxy, by Istio's annotations."""
    name = _pick(draw, VOLUMES)
    annotations = pod["metadata"].setdefault("annotations", {})
    made = json.dumps({name: _pick(draw, SOURCES)})
    annotations["sidecar.istio.io/userVolume"] = made
    mount = json.dumps({name: {"mountPath": _pick(draw, PATHS)}})
    annotations["sidecar.istio.io/userVolumeMount"] = mount


def _customise(draw: Draw, pod: Json) -> None:
    """Add a container with one of Istio's names and the image `auto`."""
    name = _pick(draw, ("istio-proxy", "istio-proxy", "istio-init", "istio-validation"))
    made = {"name": name, "image": "auto", **_pick(draw, CUSTOMISED)}
    pod["spec"].setdefault(_pick(draw, LISTS[:2]), []).append(made)


def _vary_by_annotation(draw: Draw, pod: Json) -> None:
    """Add a variable to the proxy by Linkerd's annotation."""
    name = _pick(draw, VARIABLES)
    said = json.dumps([{"name": name, "value": _pick(draw, VARIABLES[name])}])
    pod["metadata"].setdefault("annotations", {})[CONFIG + "proxy-additional-env"] = said


def _rename_host(draw: Draw, pod: Json) -> None:
    pod["spec"]["hostAliases"] = [{"ip": "203.0.113.1", "hostnames": [_pick(draw, HOSTS)]}]


def _stay(draw: Draw, pod: Json) -> None:
    """Add an init container that keeps running."""
    made = {"name": _pick(draw, NAMES), "image": "shop:1", "restartPolicy": "Always"}
    members = pod["spec"].setdefault("initContainers", [])
    members.insert(draw(st.integers(0, len(members))), made)


def _debug(draw: Draw, pod: Json) -> None:
    """Add an ephemeral container, which is possible in a running pod."""
    made: Json = {"name": _pick(draw, (*NAMES, "debugger")), "image": _pick(draw, IMAGES)}
    for edit in draw(st.lists(st.sampled_from((_secure, _mount, _vary)), max_size=2)):
        edit(draw, made)
    pod["spec"].setdefault("ephemeralContainers", []).append(made)


def _replace_image(draw: Draw, container: Json) -> None:
    container["image"] = _pick(draw, IMAGES)


def _label(draw: Draw, pod: Json) -> None:
    key = _pick(draw, LABELS)
    pod["metadata"].setdefault("labels", {})[key] = _pick(draw, LABELS[key])


def _unmark(draw: Draw, pod: Json) -> None:
    marks = pod["metadata"].get(_pick(draw, ("labels", "annotations")))
    if marks:
        del marks[_pick(draw, sorted(marks))]


def _whole(draw: Draw, pod: Json) -> None:
    if draw(st.booleans()):
        pod["spec"]["hostNetwork"] = draw(st.booleans())
        return
    field = _pick(draw, WHOLE)
    pod["spec"].setdefault("securityContext", {})[field] = _pick(draw, WHOLE[field])


def _volume(draw: Draw, pod: Json) -> None:
    name = _pick(draw, VOLUMES)
    others = [v for v in pod["spec"].get("volumes") or () if v["name"] != name]
    pod["spec"]["volumes"] = [*others, {"name": name, **_pick(draw, SOURCES)}]


def _on_container(edit: Edit) -> Edit:
    def on_one(draw: Draw, pod: Json) -> None:
        if containers := _containers(pod):
            edit(draw, containers[draw(st.integers(0, len(containers) - 1))])

    return on_one


def _argue(draw: Draw, container: Json) -> None:
    args = container.setdefault("args", [])
    at = draw(st.integers(0, len(args)))
    how = draw(st.integers(0, 2))
    words = [_pick(draw, WORDS)] if how else []
    args[at : at + draw(st.integers(0, 2)) * (how != 1)] = words


def _vary(draw: Draw, container: Json) -> None:
    env = container.setdefault("env", [])
    name = _pick(draw, VARIABLES)
    entry: Json = {"name": name, "value": _pick(draw, VARIABLES[name])}
    how = draw(st.integers(0, 3))
    if how == 0:
        entry = {"name": name, "valueFrom": {"configMapKeyRef": {"name": "shop", "key": "x"}}}
    if how == 1 or not env:
        env.append(entry)
        return
    at = next((i for i, known in enumerate(env) if known["name"] == name), len(env))
    env[at : at + 1] = [] if how == 2 else [entry]


def _rerun(draw: Draw, container: Json) -> None:
    command = _pick(draw, COMMANDS)
    match draw(st.integers(0, 3)):
        case 0:
            container["command"] = command
        case 1:
            hook = _pick(draw, ("postStart", "preStop"))
            container.setdefault("lifecycle", {})[hook] = {"exec": {"command": command}}
        case 2:
            container["livenessProbe"] = {"exec": {"command": command}}
        case _:
            container["workingDir"] = _pick(draw, ("/", "", "/extra"))


def _rename(draw: Draw, container: Json) -> None:
    if draw(st.booleans()):
        container["name"] = _pick(draw, NAMES)
    else:
        container["image"] = _pick(draw, IMAGES)


def _restart(draw: Draw, container: Json) -> None:
    container["restartPolicy"] = "Always"
    if draw(st.booleans()):
        del container["restartPolicy"]


def _secure(draw: Draw, container: Json) -> None:
    field = _pick(draw, CONTEXT)
    container.setdefault("securityContext", {})[field] = _pick(draw, CONTEXT[field])


def _mount(draw: Draw, container: Json) -> None:
    mount = {"name": _pick(draw, VOLUMES), "mountPath": _pick(draw, PATHS)}
    container.setdefault("volumeMounts", []).append(mount)


def _import(draw: Draw, container: Json) -> None:
    container["envFrom"] = _pick(draw, ([], [{"configMapRef": {"name": "shop"}}]))


def _add(draw: Draw, pod: Json) -> None:
    place = _pick(draw, LISTS)
    made = {"name": _pick(draw, NAMES), "image": _pick(draw, IMAGES)}
    members = pod["spec"].setdefault(place, [])
    members.insert(draw(st.integers(0, len(members))), made)


def _move(draw: Draw, pod: Json) -> None:
    """Move a container to another list, or copy it there, or remove it."""
    place = _pick(draw, LISTS)
    members = pod["spec"].get(place)
    if not members:
        return
    how = draw(st.integers(0, 2))
    at = draw(st.integers(0, len(members) - 1))
    moved = copy.deepcopy(members[at])
    if how:
        del members[at]
    if how < 2:
        pod["spec"].setdefault(_pick(draw, LISTS), []).append(moved)


#: What an author can do to an ordinary pod.
AUTHOR: tuple[Edit, ...] = (
    _annotate, _annotate, _annotate, _annotate_ill, _annotate_ill, _label, _label_ill, _whole,
    _volume, _add, _user_volume, _customise, _vary_by_annotation, _rename_host,
    _stay, _unmark,
    _on_container(_secure), _on_container(_mount), _on_container(_vary), _on_container(_rename),
    _on_container(_restart),
)  # fmt: skip
#: What an author can do to a pod that imitates the injector's result.
FORGER: tuple[Edit, ...] = (
    *AUTHOR, _move, _on_container(_argue), _on_container(_argue), _on_container(_rerun),
    _on_container(_import),
)  # fmt: skip
#: What anyone can change in a running pod.
UPDATER: tuple[Edit, ...] = (
    _annotate, _annotate_ill, _label, _label_ill, _unmark, _debug, _on_container(_replace_image),
)  # fmt: skip


def _edited(draw: Draw, pod: Json, edits: tuple[Edit, ...], most: int) -> Json:
    changed = copy.deepcopy(pod)
    for edit in draw(st.lists(st.sampled_from(edits), max_size=most)):
        edit(draw, changed)
    return _valid(changed)


def _valid(pod: Json) -> Json:
    """Return the pod without repeated names and with volume sources, as the API server requires."""
    spec, seen = pod["spec"], set[str]()
    for place in LISTS:
        members = {c["name"]: c for c in spec.get(place) or () if c["name"] not in seen}
        seen |= members.keys()
        if place in spec:
            spec[place] = list(members.values())
    for holder, field, key in (
        (spec, "volumes", "name"),
        *((container, "volumeMounts", "mountPath") for container in _containers(pod)),
    ):
        if holder.get(field):
            holder[field] = list({entry[key]: entry for entry in holder[field]}.values())
    for volume in spec.get("volumes") or ():
        if volume.keys() == {"name"}:
            volume["emptyDir"] = {}
    return pod


class Life(NamedTuple):
    """A pod at three times: submitted, stored and updated.

    `untouched` is the injector's result for the pod without the author's changes. `stored` and
    `updated` are None if the injector, and so the API server, denies the pod.
    """

    submitted: Json
    untouched: Json
    stored: Json | None
    updated: Json | None


APPS = {"linkerd": linkerd.app, "istio": istio.app, "ambient": ambient.app}
MESHES = tuple(APPS)


def created(by: str, pod: Json, config: Any) -> Json | None:
    """Return what the API server would store: after our webhook, then the injector."""
    recorded: Json = jsonpatch.apply_patch(pod, whole_patch(pod, by=by))
    try:
        if by == "linkerd":
            if not injector.selected(recorded, None):
                return recorded
            return _named(injector.inject(recorded, None, config).pod)
        return _named(istiod.inject(recorded, config)) if by == "istio" else recorded
    except (injector.InjectionError, istiod.InjectionError, ValueError, TypeError, KeyError,
            AttributeError):  # fmt: skip
        return None  # the stand-ins fail on what the real injectors deny


def _named(pod: Json) -> Json | None:
    """Return the pod if the API server would accept it, as far as this matters here."""
    for key, values in (("name", _containers(pod)), ("name", pod["spec"].get("volumes") or [])):
        named = [one.get(key) if isinstance(one, dict) else None for one in values]
        if None in named or len(set(named)) < len(named):
            return None
    return pod


def configured(draw: Draw, by: str) -> Any:
    """Draw the configuration of the installed mesh."""
    native, cni = draw(st.booleans()), draw(st.booleans())
    if by == "linkerd":
        return injector.InjectorConfig(native=native, cni=cni)
    return istiod.InjectorConfig(native=native, cni=cni) if by == "istio" else None


def _start(draw: Draw, by: str, config: Any) -> tuple[Json, tuple[Edit, ...]]:
    """Draw the pod from which an author starts, and the possible changes."""
    how = draw(st.integers(0, 7))
    if how == 0 and by != "linkerd":
        return copy.deepcopy(draw(st.sampled_from((istio.waypoint, istio.gateway))))(), FORGER
    if how == 1:
        made = created(by, APPS[by](), config)
        assert made is not None
        made["metadata"]["annotations"].pop(RECORD, None)
        return made, FORGER
    return APPS[by](), AUTHOR


@st.composite
def submitted(draw: Draw, by: str) -> Json:
    """Draw a pod as its author writes it, before any injector has seen it."""
    return _edited(draw, APPS[by](), AUTHOR, 4)


@st.composite
def lives(draw: Draw, by: str) -> Life:
    """Draw the versions of a pod."""
    config = configured(draw, by)
    untouched = created(by, APPS[by](), config)
    assert untouched is not None
    start, edits = _start(draw, by, config)
    submitted = _edited(draw, start, edits, 4)
    stored = created(by, submitted, config)
    updated = None if stored is None else _edited(draw, stored, UPDATER, 3)
    return Life(submitted, untouched, stored, updated)
