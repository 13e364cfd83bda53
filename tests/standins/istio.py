"""A stand-in for Istio's sidecar injector: it injects pods without a cluster.

Cluster tests use the real istiod and compare it with this stand-in. Unit tests and fixtures only
need the injected pods. It follows istio at 1.31: pkg/kube/inject for the decision and the order,
istio-discovery/files/{injection-template,gateway-injection-template}.yaml for the content (in
tests.standins.istio_containers). It does not support other templates.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.standins import istio_containers as shapes

__all__ = ["InjectionError", "InjectorConfig", "inject", "required"]

Json = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
NATIVE = "sidecar.istio.io/nativeSidecar"
MODE = "sidecar.istio.io/interceptionMode"
CONFIG = "proxy.istio.io/config"
OVERRIDES = "proxy.istio.io/overrides"
TEMPLATES = "inject.istio.io/templates"
STATUS_PORT = "status.sidecar.istio.io/port"
BOOTSTRAP = "sidecar.istio.io/bootstrapOverride"
TRAFFIC = "traffic.sidecar.istio.io/"
TLS_MODE = "security.istio.io/tlsMode"

PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"
#: The ports on which Envoy serves its metrics and its own readiness.
_ENVOY_PORTS = ("15090", "15021")


class InjectionError(ValueError):
    """Raised if the injector denies the pod."""


@dataclass(frozen=True)
class InjectorConfig:
    """The values of Istio's chart and mesh configuration that affect a pod."""

    native: bool = True
    cni: bool = False
    revision: str = "default"
    hub: str = "docker.io/istio"
    tag: str = "1.31.0"
    uid: int = 1337
    gid: int = 1337
    hold: bool = False
    log_as_json: bool = False
    nftables: bool = False
    include_ip_ranges: str = "*"
    exclude_ip_ranges: str = ""
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    exclude_outbound_ports: str = ""
    status_port: str = "15020"
    #: The mesh's proxyMetadata.
    metadata: Mapping[str, str] = field(default_factory=dict)


def required(pod: Json) -> bool:
    """Return whether the injector injects a pod that the API server sent to it (injectRequired)."""
    if pod["spec"].get("hostNetwork"):
        return False
    return _labels(pod).get(INJECT, _annotations(pod).get(INJECT)) != "false"


def inject(pod: Json, config: InjectorConfig = InjectorConfig()) -> Json:
    """Return the pod as the injector changes it at its creation. The given pod is not changed.

    A skipped pod is returned unchanged. Raise InjectionError if the injector denies the pod.
    """
    if not required(pod):
        return copy.deepcopy(pod)
    result = copy.deepcopy(pod)
    meta, spec = result["metadata"], result["spec"]
    labels = meta.setdefault("labels", {})
    annotations = meta.setdefault("annotations", {})
    sees = _Sees(pod, config)
    own = _take_own(spec)
    made = sees.containers()
    overrides: dict[str, list[Json]] = {}
    for place, container in made:
        if (customised := own.pop(container["name"], None)) is not None:
            overlay = {**customised, "image": customised.get("image", "auto")}
            if overlay["image"] == "auto":
                del overlay["image"]
            overrides.setdefault(place, []).append(copy.deepcopy(overlay))
            _merge(container, overlay)
        spec.setdefault(place, []).append(container)
    volumes = [volume["name"] for volume in _merge_volumes(spec, sees.volumes())]
    spec["containers"] += own.values()  # containers whose names are in no template
    labels.update(sees.labels())
    annotations.update(sees.annotations())
    if overrides:
        annotations[OVERRIDES] = json.dumps(overrides)
    _merge_metrics(result)
    _rewrite_probes(result, config.status_port)
    annotations[STATUS] = _status(made, volumes, config.revision)
    _order(spec, holds=sees.holds)
    return result


class _Sees:
    """The input of the injector's template: the pod, and the configuration for it."""

    def __init__(self, pod: Json, config: InjectorConfig) -> None:
        self._pod = pod
        self._config = config
        self._own = _annotations(pod)
        self._proxy_config = _proxy_config(self._own.get(CONFIG, ""))
        self._metadata = {**config.metadata, **(self._proxy_config.get("proxyMetadata") or {})}
        configured: str = self._proxy_config.get("interceptionMode", "REDIRECT")
        self._mode = self._own.get(MODE, configured)
        if self._mode not in ("REDIRECT", "TPROXY", "NONE"):
            raise InjectionError(f"interceptionMode invalid: {self._mode}")
        template = self._own.get(TEMPLATES, "sidecar").strip()
        if template not in ("sidecar", "gateway"):
            raise InjectionError(f"requested template {template!r} not found")
        self._gateway = template == "gateway"
        requested = self._own.get(NATIVE, str(config.native).lower())
        self._native = requested != "false" and not self._gateway
        holds = self._proxy_config.get("holdApplicationUntilProxyStarts", config.hold)
        self.holds = bool(holds)

    def containers(self) -> list[tuple[str, Json]]:
        """Return the containers, each with the list to which it is added."""
        made = []
        if not self._gateway and self._mode != "NONE":
            made.append(("initContainers", self._init()))
        proxy = shapes.proxy(
            image=self._image(),
            gateway=self._gateway,
            native=self._native,
            holds=self.holds and not self._native,
            env=self._env(),
            log_as_json=self._config.log_as_json,
            status_port=self._own.get(STATUS_PORT, self._config.status_port),
            resources=None if self._gateway else self._resources(),
            context=self._proxy_context(),
            mounts=[*self._bootstrap_mount(), *self._user_mounts()],
        )
        made.append(("initContainers" if self._native else "containers", proxy))
        return made

    def volumes(self) -> list[Json]:
        """Return the volumes. Those from the author's annotation come last."""
        made = shapes.volumes(gateway=self._gateway)
        if BOOTSTRAP in self._own:
            source = {"configMap": {"name": self._own[BOOTSTRAP]}}
            made.insert(3, {"name": "custom-bootstrap-volume", **source})
        users = json.loads(self._own.get("sidecar.istio.io/userVolume", "{}"))
        return made + [{"name": name, **source} for name, source in users.items()]

    def labels(self) -> Json:
        """Return the labels that the pod gets."""
        labels = _labels(self._pod)
        name = next(
            (labels[key] for key in ("service.istio.io/canonical-name", "app.kubernetes.io/name",
                                     "app") if labels.get(key)),
            self._owner()[2],
        )  # fmt: skip
        revision = next(
            (labels[key] for key in ("service.istio.io/canonical-revision",
                                     "app.kubernetes.io/version", "version") if labels.get(key)),
            "latest",
        )  # fmt: skip
        made = {
            "service.istio.io/canonical-name": name,
            "service.istio.io/canonical-revision": revision,
        }
        if not self._gateway:
            made[TLS_MODE] = labels.get(TLS_MODE) or "istio"
            if self._metadata.get("ISTIO_META_ENABLE_HBONE") == "true":
                made["networking.istio.io/tunnel"] = labels.get(
                    "networking.istio.io/tunnel", "http"
                )
        return made

    def annotations(self) -> Json:
        """Return the annotations from the template. The CNI plugin reads its settings from them."""
        made = {"istio.io/rev": self._config.revision}
        if apps := self._apps():
            for key in ("default-container", "default-logs-container"):
                name = f"kubectl.kubernetes.io/{key}"
                made[name] = self._own.get(name, apps[0])
        if self._config.cni and not self._gateway:
            made[MODE] = self._mode
            configured = self._traffic()
            for key in ("includeOutboundIPRanges", "excludeOutboundIPRanges"):
                if configured[key]:
                    made[TRAFFIC + key] = configured[key]
            made[TRAFFIC + "includeInboundPorts"] = configured["includeInboundPorts"]
            made[TRAFFIC + "excludeInboundPorts"] = self._excluded_inbound()
            if configured["excludeOutboundPorts"] or TRAFFIC + "excludeOutboundPorts" in self._own:
                made[TRAFFIC + "excludeOutboundPorts"] = configured["excludeOutboundPorts"]
        return made

    def _init(self) -> Json:
        configured = self._traffic()
        excluded = ",".join([*_ENVOY_PORTS, *filter(None, [self._excluded_inbound()])])
        args = ["istio-iptables", "-p", "15001", "-z", "15006",
                "-u", "1337" if self._mode == "TPROXY" else str(self._config.uid),
                "-m", self._mode,
                "-i", configured["includeOutboundIPRanges"],
                "-x", configured["excludeOutboundIPRanges"],
                "-b", configured["includeInboundPorts"],
                "-d", excluded]  # fmt: skip
        for key, flag in (("includeOutboundPorts", "-q"), ("excludeOutboundPorts", "-o")):
            if TRAFFIC + key in self._own or configured[key]:
                args += [flag, configured[key]]
        reroutes = ("istio.io/reroute-virtual-interfaces", TRAFFIC + "kubevirtInterfaces")
        if virtual := [self._own[key] for key in reroutes if key in self._own]:
            args += ["-k", virtual[0]]
        if TRAFFIC + "excludeInterfaces" in self._own:
            args += ["-c", configured["excludeInterfaces"]]
        args.append(f"--log_output_level={self._level('agentLogLevel', 'default:info')}")
        args += ["--log_as_json"] * self._config.log_as_json
        if self._config.cni:
            args += ["--run-validation", "--skip-rule-apply"]
        args += ["--native-nftables"] * self._config.nftables
        made: Json = {
            "name": VALIDATION if self._config.cni else INIT,
            "image": self._image(),
            "args": args,
            "resources": self._resources(),
            "securityContext": shapes.init_context(
                cni=self._config.cni,
                uid=1337 if self._mode == "TPROXY" else self._config.uid,
                gid=1337 if self._mode == "TPROXY" else self._config.gid,
            ),
        }
        if self._metadata:
            made["env"] = [{"name": key, "value": value} for key, value in self._metadata.items()]
        return made

    def _traffic(self) -> dict[str, str]:
        config = self._config
        mesh = {
            "includeOutboundIPRanges": config.include_ip_ranges,
            "excludeOutboundIPRanges": config.exclude_ip_ranges,
            "includeInboundPorts": config.include_inbound_ports,
            "excludeInboundPorts": config.exclude_inbound_ports,
            "includeOutboundPorts": "",
            "excludeOutboundPorts": config.exclude_outbound_ports,
            "excludeInterfaces": "",
        }
        return {key: self._own.get(TRAFFIC + key, value) for key, value in mesh.items()}

    def _excluded_inbound(self) -> str:
        port = self._own.get(STATUS_PORT, self._config.status_port).strip()
        text = self._traffic()["excludeInboundPorts"]
        ports = text.split(",")
        if port in ("", "0", *ports):
            return text
        return ",".join([*(part.strip() for part in ports if part.strip()), port])

    def _env(self) -> list[Json]:
        kind, version, owner = self._owner()
        named = self._config.revision != "default"
        address = f"istiod{f'-{self._config.revision}' if named else ''}.istio-system.svc:15012"
        mesh = {"discoveryAddress": address} if named else {}
        bootstrap = "/etc/istio/custom-bootstrap/custom_bootstrap.json"
        return shapes.environment(
            ca_address=address,
            proxy_config=json.dumps({**mesh, **self._proxy_config}) + "\n",
            ports=[port for c in self._pod["spec"]["containers"] for port in c.get("ports") or ()],
            apps=self._apps(),
            mode=self._mode if not self._gateway else
            self._proxy_config.get("interceptionMode", "REDIRECT"),
            workload=_labels(self._pod).get("service.istio.io/workload-name", owner),
            owner=f"kubernetes://apis/{version}/namespaces/"
            f"{self._pod['metadata'].get('namespace') or 'default'}/{kind.lower()}s/{owner}",
            bootstrap=bootstrap if BOOTSTRAP in self._own else "",
            metadata=self._metadata,
        )  # fmt: skip

    def _proxy_context(self) -> Json:
        if self._gateway:
            return {"runAsUser": self._config.uid, "runAsGroup": self._config.gid}
        low = self._own.get("sidecar.istio.io/capNetBindService") == "true"
        added = ["NET_ADMIN"] * (self._mode == "TPROXY") + ["NET_BIND_SERVICE"] * low
        return shapes.proxy_context(added, self._config.uid, self._config.gid)

    def _image(self) -> str:
        requested = self._own.get("sidecar.istio.io/proxyImage", "")
        if "/" in requested:
            return requested
        kind = self._own.get("sidecar.istio.io/proxyImageType", "default")
        end = "" if kind == "default" else f"-{kind}"
        return f"{self._config.hub}/proxyv2:{self._config.tag}{end}"

    def _resources(self) -> Json:
        requested: Json = {}
        for place, end in (("requests", ""), ("limits", "Limit")):
            for what, key in (("cpu", "CPU"), ("memory", "Memory")):
                if value := self._own.get(f"sidecar.istio.io/proxy{key}{end}"):
                    requested.setdefault(place, {})[what] = value
        return requested or shapes.resources()

    def _level(self, key: str, otherwise: str) -> str:
        return self._own.get(f"sidecar.istio.io/{key}", otherwise)

    def _bootstrap_mount(self) -> Iterator[Json]:
        if BOOTSTRAP in self._own:
            yield {"name": "custom-bootstrap-volume", "mountPath": "/etc/istio/custom-bootstrap"}

    def _user_mounts(self) -> Iterator[Json]:
        users = json.loads(self._own.get("sidecar.istio.io/userVolumeMount", "{}"))
        yield from ({"name": name, **mount} for name, mount in users.items())

    def _apps(self) -> list[str]:
        return [c["name"] for c in self._pod["spec"]["containers"] if c["name"] != PROXY]

    def _owner(self) -> tuple[str, str, str]:
        """Return kind, version and name of the pod's presumed owner (GetDeployMetaFromPod)."""
        meta = self._pod["metadata"]
        kind, version, name = "Pod", "v1", meta.get("name", "")
        owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
        if not meta.get("generateName") or owner is None:
            return kind, version, name
        kind, version, name = owner["kind"], owner["apiVersion"], owner["name"]
        digest = _labels(self._pod).get("pod-template-hash")
        if kind == "ReplicaSet" and digest and name.endswith(digest):
            return "Deployment", version, name.removesuffix(f"-{digest}")
        if kind == "Job" and (found := re.fullmatch(r"(.+)-\d{8,10}", name)):
            return "CronJob", "batch/v1", found[1]
        return kind, version, name


def _proxy_config(text: str) -> Json:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InjectionError(f"failed to convert to apply proxy config: {error}") from None
    if parsed is not None and not isinstance(parsed, dict):
        raise InjectionError("failed to convert to apply proxy config")
    return parsed or {}


def _take_own(spec: Json) -> dict[str, Json]:
    """Remove and return the containers with names of the template. The author customizes these."""
    taken = {}
    for place in ("initContainers", "containers"):
        members = spec.get(place) or []
        taken.update({c["name"]: c for c in members if c["name"] in (PROXY, INIT, VALIDATION)})
        if place in spec:
            spec[place] = [c for c in members if c["name"] not in taken]
    return taken


def _merge(container: Json, overlay: Json) -> None:
    """Merge one container into another, as a strategic merge patch does."""
    keys = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
    for name, value in overlay.items():
        if name in keys:
            merged = {entry[keys[name]]: entry for entry in [*container.get(name, ()), *value]}
            container[name] = list(merged.values())
        elif isinstance(value, dict) and isinstance(container.get(name), dict):
            _merge(container[name], value)
        else:
            container[name] = value


def _merge_volumes(spec: Json, made: list[Json]) -> list[Json]:
    """Add the volumes. The author's volume keeps its source if the template has none for it."""
    own = {volume["name"]: volume for volume in spec.get("volumes") or ()}
    for volume in made:
        given = own.get(volume["name"], {})
        if volume["name"] not in shapes.WITHOUT_SOURCE or not given:
            own[volume["name"]] = {**given, **volume}
    spec["volumes"] = list(own.values())
    return made


def _merge_metrics(pod: Json) -> None:
    """Make Prometheus scrape the agent, which scrapes the application (applyPrometheusMerge)."""
    annotations = pod["metadata"]["annotations"]
    requested = {
        key: annotations[f"prometheus.io/{key}"]
        for key in ("scrape", "path", "port")
        if f"prometheus.io/{key}" in annotations
    }
    if requested.get("scrape") in ("false", "0", "f") or requested.get("port") == "15020":
        return
    if requested:
        value = json.dumps({"scrape": "", "path": "", "port": "", **requested})
        _proxy_of(pod)["env"].append({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": value})
    for key, value in (("scrape", "true"), ("path", "/stats/prometheus"), ("port", "15020")):
        annotations[f"prometheus.io/{key}"] = value


def _rewrite_probes(pod: Json, status_port: str) -> None:
    """Make the kubelet probe the agent, which probes the application (app_probe.go)."""
    if pod["metadata"]["annotations"].get("sidecar.istio.io/rewriteAppHTTPProbers") == "false":
        return
    port = int(pod["metadata"]["annotations"].get(STATUS_PORT, status_port))
    known = {}
    for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
        if container["name"] == PROXY:
            continue
        named = {p["name"]: p["containerPort"] for p in container.get("ports") or () if "name" in p}
        for kind, short in shapes.PROBES.items():
            probe = container.get(kind)
            found = next((how for how in ("httpGet", "tcpSocket", "grpc") if how in probe or ()), ""
                         ) if probe else ""  # fmt: skip
            if not found:
                continue
            path = f"/app-health/{container['name']}/{short}"
            requested = copy.deepcopy(probe.pop(found))
            requested["port"] = named.get(requested["port"], requested["port"])
            known[path] = {found: requested, "timeoutSeconds": probe.get("timeoutSeconds", 1)}
            kept = requested if found == "httpGet" else {}
            scheme = {"scheme": "HTTP"} if "scheme" in kept else {}
            probe["httpGet"] = {**kept, "path": path, "port": port, **scheme}
    if known:
        value = json.dumps(known)
        _proxy_of(pod)["env"].append({"name": "ISTIO_KUBE_APP_PROBERS", "value": value})


def _proxy_of(pod: Json) -> Json:
    spec = pod["spec"]
    members = (*(spec.get("initContainers") or ()), *spec["containers"])
    proxy: Json = next(container for container in members if container["name"] == PROXY)
    return proxy


def _status(made: list[tuple[str, Json]], volumes: list[str], revision: str) -> str:
    named: dict[str, list[str] | None] = {"initContainers": None, "containers": None}
    for place, container in made:
        named[place] = [*(named[place] or ()), container["name"]]
    configured = {**named, "volumes": volumes, "imagePullSecrets": None, "revision": revision}
    return json.dumps(configured, separators=(",", ":"))


def _order(spec: Json, *, holds: bool) -> None:
    """Put the containers into the order in which they must start (reorderPod)."""
    native = any(c["name"] == PROXY for c in spec.get("initContainers") or ())
    first = (INIT, VALIDATION, PROXY) if native else (VALIDATION,)
    last = () if native else (INIT,)
    if "initContainers" in spec:
        spec["initContainers"].sort(key=lambda c: _rank(c["name"], first, last))
    spec["containers"].sort(
        key=lambda c: _rank(c["name"], (PROXY,) if holds else (), () if holds else (PROXY,))
    )


def _rank(name: str, first: tuple[str, ...], last: tuple[str, ...]) -> int:
    return first.index(name) if name in first else 9 if name in last else 5


def _annotations(pod: Json) -> dict[str, str]:
    return pod["metadata"].get("annotations") or {}


def _labels(pod: Json) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}
