"""Would a pod's traffic pass Istio's sidecar, in mutual TLS? From istio at 1.31.

tools/istio-iptables/pkg/cmd/root.go; cni/pkg/plugin; pilot/cmd/pilot-agent; the injection template.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from tests.oracle import common
from tests.oracle.common import Json, Line, Pod, env, listed, place

IMAGES = (
    "docker.io/istio/proxyv2",
    "gcr.io/istio-release/proxyv2",
    "registry.istio.io/release/proxyv2",
)
OWN = ("istio-proxy", "istio-init", "istio-validation")
OWN_PORTS = {"15020", "15021", "15090"}
TRAFFIC = "traffic.sidecar.istio.io/"

#: The flags of istio-iptables. Each except the first is also a variable.
FLAGS = {
    "envoy-port": "text", "inbound-capture-port": "text", "inbound-tunnel-port": "text",
    "proxy-uid": "text", "proxy-gid": "text", "istio-inbound-interception-mode": "text",
    "istio-inbound-ports": "text", "istio-local-exclude-ports": "text",
    "istio-exclude-interfaces": "text", "istio-service-cidr": "text",
    "istio-service-exclude-cidr": "text", "istio-outbound-ports": "text",
    "istio-local-outbound-ports-exclude": "text", "kube-virt-interfaces": "text",
    "istio-inbound-tproxy-mark": "text", "istio-inbound-tproxy-route-table": "text",
    "dry-run": "switch", "iptables-probe-port": "text", "probe-timeout": "text",
    "skip-rule-apply": "switch", "run-validation": "switch", "redirect-dns": "switch",
    "drop-invalid": "switch", "dual-stack": "switch", "capture-all-dns": "switch",
    "network-namespace": "text", "cni-mode": "switch", "reconcile": "switch",
    "cleanup-only": "switch", "force-apply": "switch", "native-nftables": "switch",
    "force-iptables-binary": "text", "log_output_level": "text", "log_as_json": "switch",
}  # fmt: skip
LETTERS = {
    "p": "envoy-port", "z": "inbound-capture-port", "e": "inbound-tunnel-port", "u": "proxy-uid",
    "g": "proxy-gid", "m": "istio-inbound-interception-mode", "b": "istio-inbound-ports",
    "d": "istio-local-exclude-ports", "c": "istio-exclude-interfaces", "i": "istio-service-cidr",
    "x": "istio-service-exclude-cidr", "q": "istio-outbound-ports",
    "o": "istio-local-outbound-ports-exclude", "k": "kube-virt-interfaces",
    "t": "istio-inbound-tproxy-mark", "r": "istio-inbound-tproxy-route-table", "n": "dry-run",
}  # fmt: skip

#: Variables that set another Envoy, another bootstrap, or foreign keys for the agent.
WRONG_VARIABLES = (
    "DISABLE_ENVOY", "ENVOY_PATH", "ISTIO_BOOTSTRAP", "ISTIO_BOOTSTRAP_OVERRIDE",
    "FILE_MOUNTED_CERTS", "OUTPUT_CERTS", "PROV_CERT",
    "XDS_AUTH_PLAINTEXT", "ISTIOD_SAN", "WORKLOAD_IDENTITY_SOCKET_FILE",
)  # fmt: skip
#: Fields of the proxy's configuration with the same effect.
WRONG_FIELDS = (
    "binaryPath", "customConfigFile", "proxyBootstrapTemplatePath", "configPath",
    "controlPlaneAuthPolicy",
)  # fmt: skip
#: Additional trust roots. In the proxy's variable they can come from the mesh's configuration.
ROOTS = "caCertificatesPem"
#: Folders that the agent or Envoy reads. Foreign volumes must not be there, above or below.
FOLDERS = (
    "/etc/istio/proxy", "/etc/istio/config", "/etc/istio/custom-bootstrap", "/etc/certs",
    "/var/lib/istio/envoy", "/var/run/secrets/istio", "/var/run/secrets/tokens",
    "/var/run/secrets/workload-spiffe-uds", "/var/run/secrets/workload-spiffe-credentials",
)  # fmt: skip
#: The mount paths of the injector's own volumes.
PLACES = {
    "istio-envoy": "/etc/istio/proxy",
    "istio-podinfo": "/etc/istio/pod",
    "istio-data": "/var/lib/istio/data",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-ca-crl": "/var/run/secrets/istio/crl",
    "istio-token": "/var/run/secrets/tokens",
    "credential-socket": "/var/run/secrets/credential-uds",
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
    "gke-workload-certificate": "/var/run/secrets/workload-spiffe-credentials",
}
#: CSI drivers that are allowed to provide identities.
DRIVERS = {
    "workload-socket": "csi.spiffe.io",
    "gke-workload-certificate": "workloadcertificates.security.cloud.google.com",
}
#: Variables to which the injector refers.
REFERRED = {"POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "HOST_IP", "SERVICE_ACCOUNT"}


def _tells_labels(volume: Json) -> bool:
    items = (volume.get("downwardAPI") or {}).get("items") or []
    return "downwardAPI" in volume and all(
        (item.get("fieldRef") or {}).get("fieldPath") == f"metadata.{item.get('path')}"
        or (str(item.get("path")).startswith("cpu-") and "resourceFieldRef" in item)
        for item in items
    )  # fmt: skip


def _is_root(volume: Json) -> bool:
    config = volume.get("configMap") or {}
    known = config.get("name") == "istio-ca-root-cert" and not config.get("items")
    return known or common.projected(volume, "clusterTrustBundle")


#: The required sources of the other volumes.
SOURCES: dict[str, Callable[[Json], bool]] = {
    "istio-podinfo": _tells_labels,
    "istiod-ca-cert": _is_root,
    "istio-token": lambda volume: common.projected(volume, "serviceAccountToken"),
}
SECRETS = {
    "istio-token", "workload-certs", "workload-socket", "credential-socket", "istio-envoy",
    "istio-data",
}  # fmt: skip


#: Variables that differ between pods, or that the author may set.
KNOBS = {
    "PROXY_CONFIG", "ISTIO_META_POD_PORTS", "ISTIO_META_APP_CONTAINERS", "ISTIO_META_WORKLOAD_NAME",
    "ISTIO_META_OWNER", "ISTIO_META_INTERCEPTION_MODE", "ISTIO_KUBE_APP_PROBERS",
    "ISTIO_PROMETHEUS_ANNOTATIONS", "ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE",
    # Pods of other networks are called through a gateway, and by mutual TLS alone.
    "ISTIO_META_NETWORK",
    "ISTIO_META_HTTP10", "ISTIO_META_IDLE_TIMEOUT", "ISTIO_META_ENABLE_HBONE", "ISTIO_DUAL_STACK",
    "ISTIO_DELTA_XDS", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION", "GOMEMLIMIT",
    "GOMAXPROCS", "TZ",
}  # fmt: skip


def complaints(document: Json, untouched: Json | None = None) -> Iterator[str]:
    """Yield why a stored pod's traffic can bypass Istio, one sentence each; nothing if it can't."""
    pod = Pod(document)
    yield from common.node(pod)
    if is_gateway(pod):
        return
    proxies = pod.named("istio-proxy")
    if len(proxies) != 1 or proxies[0] in pod.debuggers:
        yield f"it has {len(proxies)} containers called istio-proxy"
        return
    (proxy,) = proxies
    others = [container for container in pod.everything if container["name"] not in OWN]
    if proxy in pod.inits and proxy.get("restartPolicy") != "Always":
        yield "the proxy ends before the app starts"
    for container in pod.named(*OWN):
        yield from genuine(container)
    if (proxy.get("args") or [])[:2] != ["proxy", "sidecar"]:
        yield "the proxy is no sidecar"
    yield from agent(pod, proxy)
    yield from uncaptured(pod, proxy)
    yield from common.renamed(pod, "istio-system")
    yield from common.lasting(pod, ("istio-init",))
    if untouched is not None:
        genuine_pod = Pod(untouched)
        own = genuine_pod.named("istio-proxy")[0]
        yield from common.unexplained(proxy, own, KNOBS, mounts=False)
        yield from common.refilled(pod, genuine_pod, set(PLACES))
    if pod.labels.get("security.istio.io/tlsMode") != "istio":
        yield "peers speak plaintext to it"
    firewall = Firewall(pod, proxy)
    yield from firewall.complaints()
    yield from common.impostors(pod, others, firewall.users, firewall.groups)
    yield from common.meddlers(pod, others)
    yield from common.thieves(others, SECRETS)
    if pod.labels.get("istio.io/dataplane-mode") == "ambient" or pod.named("linkerd-proxy"):
        yield "another mesh takes part"


def is_gateway(pod: Pod) -> bool:
    """Return whether the pod has only a genuine proxy that serves as a gateway or waypoint."""
    if len(pod.everything) != 1 or not pod.mains or pod.mains[0]["name"] != "istio-proxy":
        return False
    (only,) = pod.mains
    args = only.get("args") or []
    serves = args[:2] in (["proxy", "router"], ["proxy", "waypoint"])
    runs = [command for command in common.hooks(only) if not common.waits(command)]
    found = [*genuine(only), *runs, *agent(pod, only), *common.node(pod)]
    return serves and not [*found, *common.meddlers(pod, [only])]


def genuine(container: Json) -> Iterator[str]:
    """Yield what makes one of Istio's containers run another program than Istio's own."""
    name, args = container["name"], container.get("args") or []
    if not common.came_from(container.get("image") or "", *IMAGES):
        yield f"{name} has the image {container.get('image')}"
    if container.get("command"):
        yield f"{name} has a command of its own"
    if container.get("workingDir") not in (None, "", "/"):
        yield f"{name} looks for its files in {container['workingDir']}"
    yield from common.loaded(container)
    if name != "istio-proxy":
        if container.get("restartPolicy"):
            yield f"no container waits for {name}"
    elif any(word.startswith(("--templateFile", "--meshConfig")) for word in args):
        yield "the proxy gets another bootstrap"
    yield from common.expanded(container, REFERRED)


def agent(pod: Pod, proxy: Json) -> Iterator[str]:
    """Yield dangerous settings of the agent."""
    variables = env(proxy)
    for name in variables:
        if name in WRONG_VARIABLES or name.startswith("ISTIO_METAJSON_"):
            yield f"the proxy gets {name}"
    if variables.get("PROXY_CONFIG", "") is None:
        yield "a ConfigMap sets the proxy's variables"
    for config in configurations(pod, proxy):
        yield from set_for(config)
    for config in parsed(pod.annotations.get("proxy.istio.io/config")):
        if any(said(config, ROOTS)):
            yield "the pod trusts whom its author trusts"
    yield from scraped(variables.get("ISTIO_PROMETHEUS_ANNOTATIONS") or "{}")
    addresses = [variables.get("CA_ADDR", "istiod.istio-system.svc:15012")]
    addresses += [pod.annotations.get("sidecar.istio.io/discoveryAddress", addresses[0])]
    if not all(is_istiod(address) for address in addresses):
        yield "another istiod configures it"
    if "sidecar.istio.io/bootstrapOverride" in pod.annotations:
        yield "its bootstrap is overridden"
    yield from files(pod, proxy)


def scraped(text: str) -> Iterator[str]:
    """Yield wrong metrics addresses of the uncaptured agent: http://localhost:PORT + PATH."""
    set_for = json.loads(text)
    path, port = str(set_for.get("path", "")), str(set_for.get("port", ""))
    if (path and not path.startswith("/")) or (port and not port.isdecimal()):
        yield f"the agent asks localhost:{port}{path}"


def files(pod: Pod, proxy: Json) -> Iterator[str]:
    """Yield foreign volumes in the folders that the agent and Envoy read."""
    for mount in proxy.get("volumeMounts") or ():
        at = place(mount["mountPath"])
        if mount["name"] in PLACES and at == place(PLACES[mount["name"]]):
            continue
        for folder in map(place, FOLDERS):
            if at == folder[: len(at)] or at[: len(folder)] == folder:
                yield f"a volume is over the proxy's files, at {mount['mountPath']}"
    for volume in pod.spec.get("volumes") or ():
        filled = volume.get("emptyDir") is None
        if volume["name"] in ("workload-certs", "istio-envoy", "istio-data") and filled:
            yield f"others fill the proxy's {volume['name']}"
        is_real = SOURCES.get(volume["name"])
        if is_real and not is_real(volume):
            yield f"others fill the proxy's {volume['name']}"
        driver = (volume.get("csi") or {}).get("driver")
        if filled and DRIVERS.get(volume["name"], driver) != driver:
            yield "others hand out the proxy's identity"


def uncaptured(pod: Pod, proxy: Json) -> Iterator[str]:
    """Yield what tells istiod that nothing is intercepted. For a gateway this is correct."""
    mode = env(proxy).get("ISTIO_META_INTERCEPTION_MODE", "REDIRECT")
    modes = [mode] + [m for c in configurations(pod, proxy) for m in said(c, "interceptionMode")]
    if any(mode not in ("REDIRECT", "TPROXY", 0, 1) for mode in modes):
        yield f"istiod believes that nothing is intercepted ({modes})"


def configurations(pod: Pod, proxy: Json) -> Iterator[Json]:
    """Yield the proxy's configurations, from the variable and from the annotation."""
    yield from parsed(env(proxy).get("PROXY_CONFIG"))
    yield from parsed(pod.annotations.get("proxy.istio.io/config"))


def parsed(text: str | None) -> Iterator[Json]:
    """Yield the content of a YAML or JSON text. Go reads the first document."""
    try:
        first = next(iter(yaml.safe_load_all(text or "")), None)
    except (yaml.YAMLError, ValueError):
        return  # neither the injector nor the agent can read it
    if isinstance(first, dict):
        yield first


def said(config: Json, field: str) -> Iterator[Any]:
    """Yield the values of a configuration field. Go's decoder accepts both of its names."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in field)
    yield from (config[name] for name in (field, snake) if config.get(name))


def set_for(config: Json) -> Iterator[str]:
    """Yield dangerous fields of a configuration."""
    for field in WRONG_FIELDS:
        for _ in said(config, field):
            yield f"the proxy's configuration says {field}"
    if not all(is_istiod(str(address)) for address in said(config, "discoveryAddress")):
        yield "the proxy's configuration names another istiod"
    for metadata in said(config, "proxyMetadata"):
        for name in metadata if isinstance(metadata, dict) else ():
            if name in WRONG_VARIABLES or str(name).startswith("ISTIO_METAJSON_"):
                yield f"the proxy's configuration sets {name}"


def is_istiod(address: str | None) -> bool:
    """Return whether an address belongs to a Service in istiod's namespace."""
    host = (address or "").split(":")[0].split(".")
    rest = host[1:]
    return rest in (["istio-system", "svc"], ["istio-system", "svc", "cluster", "local"])


class Firewall:
    """The redirection rules, by istio-init or by the node's CNI plugin."""

    def __init__(self, pod: Pod, proxy: Json) -> None:
        self._pod = pod
        self._proxy = proxy
        #: Users and groups that are not redirected.
        self.users = {1337}
        self.groups = {1337}

    def complaints(self) -> Iterator[str]:
        """Yield what is not redirected."""
        inits = [init for init in self._pod.inits if init["name"] == "istio-init"]
        validations = [init for init in self._pod.inits if init["name"] == "istio-validation"]
        if inits:
            for init in inits:
                yield from self._init(init)
        elif self._pod.named("istio-init"):
            yield "the CNI plugin leaves a pod alone that has an istio-init"
        elif validations:
            yield from self._plugin()
            for validation in validations:
                yield from self._validated(validation)
        else:
            yield "nothing redirects, or nothing checks that it does"

    def _init(self, init: Json) -> Iterator[str]:
        line = _line(init)
        if line is None:
            yield "istio-init sets no rules"
            return
        if line.fails:
            return  # the container ends with an error, so the app never starts
        if line.helps:
            yield "istio-init shows its help"
        for switch in ("dry-run", "skip-rule-apply", "cleanup-only"):
            if line.on(switch):
                yield f"istio-init does nothing ({switch})"
        if line.value("network-namespace"):
            yield "istio-init works in another network"
        for name in ("ISTIO_OUTBOUND_OWNER_GROUPS", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"):
            if name in env(init):
                yield f"istio-init captures some groups alone ({name})"
        yield from self._rules(
            mode=line.value("istio-inbound-interception-mode", "REDIRECT"),
            included=(line.value("istio-inbound-ports"), line.value("istio-service-cidr")),
            excluded=(
                line.value("istio-local-exclude-ports"),
                line.value("istio-local-outbound-ports-exclude"),
            ),
            beside=[
                line.value(name)
                for name in ("istio-service-exclude-cidr", "istio-exclude-interfaces",
                             "kube-virt-interfaces")
            ],
        )  # fmt: skip
        if line.value("envoy-port", "15001") != "15001":
            yield "outbound traffic is redirected to another port"
        if line.value("inbound-capture-port", "15006") != "15006":
            yield "inbound traffic is redirected to another port"
        users = listed(line.value("proxy-uid", "1337"))
        groups = listed(line.value("proxy-gid")) or users
        if users != ["1337"] or groups != ["1337"]:
            yield f"the firewall lets users {users} and groups {groups} past"

    def _plugin(self) -> Iterator[str]:
        """Yield what the node's CNI plugin does not redirect. It reads the pod."""
        pod, proxy = self._pod, self._proxy
        if "sidecar.istio.io/status" not in pod.annotations:
            yield "the CNI plugin leaves a pod alone that has no status"
        key = "sidecar.istio.io/inject"
        if pod.labels.get(key, pod.annotations.get(key)) in ("0", "f", "F", "FALSE", "false",
                                                             "False"):  # fmt: skip
            yield "the CNI plugin leaves a pod alone that says no"
        own = pod.annotations
        yield from self._rules(
            mode=own.get("sidecar.istio.io/interceptionMode", "REDIRECT"),
            included=(
                own.get(TRAFFIC + "includeInboundPorts", "*"),
                own.get(TRAFFIC + "includeOutboundIPRanges", "*"),
            ),
            excluded=(
                own.get(TRAFFIC + "excludeInboundPorts", ""),
                own.get(TRAFFIC + "excludeOutboundPorts", ""),
            ),
            beside=[
                own.get(TRAFFIC + "excludeOutboundIPRanges", ""),
                own.get(TRAFFIC + "excludeInterfaces", ""),
                own.get("istio.io/reroute-virtual-interfaces",
                        own.get(TRAFFIC + "kubevirtInterfaces", "")),
            ],
        )  # fmt: skip
        for field, numbers in (("runAsUser", self.users), ("runAsGroup", self.groups)):
            number = common.user(proxy, field)
            if number not in (None, 0, 1337):
                numbers.clear()
                numbers.add(number)
                yield f"the CNI plugin lets the proxy's {field} {number} past, whose else it may be"

    def _validated(self, validation: Json) -> Iterator[str]:
        """Yield a complaint if the pod could start on a node without the plugin."""
        line = _line(validation)
        if line is None or (not line.fails and (line.helps or not line.on("run-validation"))):
            yield "istio-validation does not look whether anything is redirected"
        elif line.value("iptables-probe-port", "15002") in ("15001", "15006"):
            yield "istio-validation hears itself"

    def _rules(
        self, *, mode: str, included: tuple[str, str], excluded: tuple[str, str], beside: list[str]
    ) -> Iterator[str]:
        if mode not in ("REDIRECT", "TPROXY"):
            yield f"nothing is redirected in mode {mode}"
        for direction, text in zip(("comes in", "goes out"), included, strict=True):
            if text.strip() != "*":
                yield f"only {text!r} of what {direction} is redirected"
        for direction, text in zip(("comes in", "goes out"), excluded, strict=True):
            if more := set(listed(text)) - (OWN_PORTS if direction == "comes in" else set()):
                yield f"ports {sorted(more)} of what {direction} are not redirected"
        for text in beside:
            if listed(text):
                yield f"{text} is not redirected"


def _line(init: Json) -> Line | None:
    """Return the command line of istio-iptables. Each flag is also a variable."""
    args = init.get("args") or []
    if args[:1] != ["istio-iptables"]:
        return None
    line = Line(args[1:], FLAGS, LETTERS)
    for name in FLAGS:
        value = env(init).get(name.upper().replace("-", "_"))
        if value is not None and name != "envoy-port" and not name.startswith("log"):
            line.values.setdefault(name, value)
    return line
