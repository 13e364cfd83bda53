"""Would a pod's traffic pass Linkerd's proxy, in mutual TLS? From linkerd2 at edge-26.8.3.

linkerd2-proxy-init cmd/root.go; cni-plugin; charts/partials; the destination controller.
"""

from collections.abc import Iterator

from tests.oracle import common
from tests.oracle.common import Json, Line, Pod, env, listed

IMAGES = ("cr.l5d.io/linkerd/proxy", "cr.l5d.io/linkerd/proxy-init")
CONFIG = "config.linkerd.io/"
BIN = "/usr/lib/linkerd/"
INBOUND, OUTBOUND = "LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR"
#: The ports that the mesh skips by default: the proxy's own, and those of some databases.
SKIPPED = {"in": {4190, 4191, 4567, 4568}, "out": {4567, 4568}}
#: The default networks of a cluster. The proxy looks up no other addresses.
NETWORKS = {"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"}
VOLUME, TOKEN = "linkerd-identity-end-entity", "linkerd-identity-token"
#: Variables to which the injector refers.
REFERRED = {"_pod_ns", "_pod_name", "_pod_nodeName", "_pod_sa", "_l5d_ns", "_l5d_trustdomain"}

FLAGS = {
    "incoming-proxy-port": "text", "outgoing-proxy-port": "text", "proxy-uid": "text",
    "proxy-gid": "text", "ports-to-redirect": "list", "inbound-ports-to-ignore": "list",
    "outbound-ports-to-ignore": "list", "subnets-to-ignore": "list", "simulate": "switch",
    "netns": "text", "use-wait-flag": "switch", "timeout-close-wait-secs": "text",
    "log-format": "text", "log-level": "text", "firewall-bin-path": "text",
    "firewall-save-bin-path": "text", "iptables-mode": "text", "ipv6": "switch",
}  # fmt: skip
LETTERS = {
    "p": "incoming-proxy-port", "o": "outgoing-proxy-port", "u": "proxy-uid", "g": "proxy-gid",
    "r": "ports-to-redirect", "w": "use-wait-flag",
}  # fmt: skip
VALIDATOR_FLAGS = {
    "log-format": "text", "log-level": "text", "connect-addr": "text", "listen-addr": "text",
    "timeout": "text",
}  # fmt: skip


#: Variables that an author's annotations may change. None of them redirects traffic; ports and
#: users are compared with the rules.
KNOBS = {
    "LINKERD2_PROXY_" + name
    for name in (
        "LOG", "LOG_FORMAT", "ACCESS_LOG", "CORES", "CORES_MIN", "CORES_MAX", "CORES_MAX_RATIO",
        "SHUTDOWN_GRACE_PERIOD", "SHUTDOWN_ENDPOINT_ENABLED", "INBOUND_DEFAULT_POLICY",
        "INBOUND_CONNECT_TIMEOUT", "OUTBOUND_CONNECT_TIMEOUT", "OUTBOUND_DISCOVERY_IDLE_TIMEOUT",
        "INBOUND_DISCOVERY_IDLE_TIMEOUT", "CONTROL_LISTEN_ADDR", "ADMIN_LISTEN_ADDR",
        "OUTBOUND_LISTEN_ADDR", "OUTBOUND_LISTEN_ADDRS", "INBOUND_LISTEN_ADDR", "INBOUND_PORTS",
        "DESTINATION_PROFILE_SUFFIXES", "OUTBOUND_METRICS_HOSTNAME_LABELS",
        "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", "INBOUND_PORTS_REQUIRE_IDENTITY",
        "INBOUND_PORTS_REQUIRE_TLS", "INBOUND_DETECT_TIMEOUT", "OUTBOUND_DETECT_TIMEOUT",
        "INBOUND_ACCEPT_KEEPALIVE", "OUTBOUND_CONNECT_KEEPALIVE", "OUTBOUND_ACCEPT_KEEPALIVE",
        "INBOUND_CONNECT_KEEPALIVE", "INBOUND_GATEWAY_SUFFIXES", "INGRESS_MODE",
    )
} | {"RUST_BACKTRACE", "TZ"}  # fmt: skip


def complaints(document: Json, untouched: Json | None = None) -> Iterator[str]:
    """Yield why a stored pod's traffic can bypass Linkerd; nothing if it can't."""
    pod = Pod(document)
    yield from common.node(pod)
    proxies = pod.named("linkerd-proxy")
    if len(proxies) != 1 or proxies[0] in pod.debuggers:
        yield f"it has {len(proxies)} containers called linkerd-proxy"
        return
    (proxy,) = proxies
    inits = [c for c in pod.inits if c["name"] in ("linkerd-init", "linkerd-network-validator")]
    others = [c for c in pod.everything if c is not proxy and not any(c is i for i in inits)]
    yield from genuine(proxy)
    yield from identity(pod, proxy)
    yield from common.renamed(pod, "linkerd")
    yield from common.lasting(pod, ("linkerd-init",))
    if untouched is not None:
        genuine_pod = Pod(untouched)
        yield from common.unexplained(proxy, genuine_pod.named("linkerd-proxy")[0], KNOBS)
        yield from common.refilled(pod, genuine_pod, {VOLUME, TOKEN})
    for init in inits:
        yield from genuine(init)
    if not inits:
        yield "nothing redirects, or nothing checks that it does"
    users, groups = {2102}, set[int]()
    for init in inits:
        if init["name"] == "linkerd-init":
            yield from redirects(init, proxy, users, groups)
        else:
            yield from plugin(pod, proxy, init)
            users |= numbers(pod.annotations.get(CONFIG + "proxy-uid", ""))
            groups |= numbers(pod.annotations.get(CONFIG + "proxy-gid", ""))
    yield from common.unnumbered(pod, others, "runAsUser", users - {2102})
    yield from common.unnumbered(pod, others, "runAsGroup", groups)
    yield from common.impostors(pod, others, users, groups)
    yield from common.meddlers(pod, others)
    yield from common.thieves(others, {VOLUME, TOKEN})
    if pod.named("istio-proxy") or pod.labels.get("istio.io/dataplane-mode") == "ambient":
        yield "another mesh takes part"


def genuine(container: Json) -> Iterator[str]:
    """Yield what makes one of Linkerd's containers run another program than Linkerd's own."""
    name, command = container["name"], container.get("command") or []
    if not common.came_from(container.get("image") or "", *IMAGES):
        yield f"{name} has the image {container.get('image')}"
    if name == "linkerd-proxy":
        if command or container.get("args"):
            yield "the proxy is run otherwise"
    elif container.get("restartPolicy"):
        yield f"no container waits for {name}"
    elif command and command not in ([BIN + "linkerd2-proxy-init"],
                                     [BIN + "linkerd2-network-validator"]):  # fmt: skip
        yield f"{name} runs {command}"
    yield from common.loaded(container)
    yield from common.expanded(container, REFERRED)


def identity(pod: Pod, proxy: Json) -> Iterator[str]:
    """Yield what the proxy or its peers lack for mutual TLS."""
    if proxy in pod.inits and proxy.get("restartPolicy") != "Always":
        yield "the proxy ends before the app starts"
    if pod.labels.get("linkerd.io/control-plane-ns") != "linkerd":
        yield "peers speak plaintext to it"
    yield from set_for(proxy)
    if VOLUME not in {mount["name"] for mount in proxy.get("volumeMounts") or ()}:
        yield "the proxy has no place for its key"
    for volume in pod.spec.get("volumes") or ():
        if volume["name"] == VOLUME and volume.get("emptyDir") is None:
            yield "others know the proxy's key"
        if volume["name"] == TOKEN and not common.projected(volume, "serviceAccountToken"):
            yield "the proxy's token is another's"


def set_for(proxy: Json) -> Iterator[str]:
    """Yield dangerous variables of the proxy."""
    variables = env(proxy)
    for name in ("LOCAL_NAME", "SVC_ADDR"):
        if not variables.get(f"LINKERD2_PROXY_IDENTITY_{name}"):
            yield f"the proxy has no identity ({name})"
    if "LINKERD2_PROXY_IDENTITY_DISABLED" in variables:
        yield "the proxy's identity is disabled"
    for name in ("DESTINATION", "POLICY", "IDENTITY"):
        address = variables.get(f"LINKERD2_PROXY_{name}_SVC_ADDR", "of.linkerd.svc")
        parts = (address or "").split(":")[0].removesuffix(".").split(".")[1:]
        if parts not in (["linkerd", "svc"], ["linkerd", "svc", "cluster", "local"]):
            yield f"the proxy asks {address}"
    networks = variables.get("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS")
    if networks is None or NETWORKS - set(listed(networks)):
        yield f"the proxy looks up no more than {networks}"
    if variables.get("LINKERD2_PROXY_INGRESS_MODE") == "true":
        yield "the proxy goes where clients say"
    seen: dict[str, object] = {}
    for entry in proxy.get("env") or ():
        value = entry.get("value", entry.get("valueFrom"))
        matters = entry["name"].startswith("LINKERD2_PROXY_") and "_LOG" not in entry["name"]
        if matters and seen.setdefault(entry["name"], value) != value:
            yield f"the proxy's {entry['name']} is set again"


def redirects(init: Json, proxy: Json, users: set[int], groups: set[int]) -> Iterator[str]:
    """Yield what linkerd-init does not redirect."""
    line = Line(init.get("args") or [], FLAGS, LETTERS)
    if line.fails:
        return  # the container ends with an error, so the app never starts
    if line.helps or line.on("simulate"):
        yield "linkerd-init does nothing"
    if line.value("netns") or line.value("ports-to-redirect"):
        yield "linkerd-init redirects to another port, or only some ports"
    if not line.value("firewall-bin-path", "iptables").startswith("iptables"):
        yield "linkerd-init sets rules of another kind"
    for flag, variable, default in (
        ("incoming-proxy-port", INBOUND, "4143"),
        ("outgoing-proxy-port", OUTBOUND, "4140"),
    ):
        listens = (env(proxy).get(variable) or default).split(":")[-1]
        if line.value(flag, "-1") != listens:
            yield f"linkerd-init redirects to {line.value(flag)}, the proxy listens on {listens}"
    for flag, direction in (("inbound-ports-to-ignore", "in"), ("outbound-ports-to-ignore", "out")):
        yield from skipped(line.value(flag), direction)
    if listed(line.value("subnets-to-ignore")):
        yield f"linkerd-init leaves {line.value('subnets-to-ignore')} out"
    if line.value("proxy-uid") != str(common.user(proxy, "runAsUser")):
        yield f"linkerd-init lets the user {line.value('proxy-uid')} past"
    if line.value("proxy-gid") not in ("", str(common.user(proxy, "runAsGroup"))):
        yield f"linkerd-init lets the group {line.value('proxy-gid')} past"
    users |= {int(line.value("proxy-uid"))} if line.value("proxy-uid").isdecimal() else set()
    groups |= {int(line.value("proxy-gid"))} if line.value("proxy-gid").isdecimal() else set()


def numbers(text: str) -> set[int]:
    """Return the number in a text as a set; empty if it is none."""
    return {int(text)} if text.isdecimal() else set()


def plugin(pod: Pod, proxy: Json, validator: Json) -> Iterator[str]:
    """Yield what the CNI plugin does not redirect, by annotations, and an ineffective validator."""
    own = pod.annotations
    yield from skipped(own.get(CONFIG + "skip-inbound-ports", ""), "in")
    yield from skipped(own.get(CONFIG + "skip-outbound-ports", ""), "out")
    if listed(own.get(CONFIG + "skip-subnets", "")):
        yield "the CNI plugin leaves subnets out"
    users = own.get(CONFIG + "proxy-uid", "2102"), own.get(CONFIG + "proxy-gid", "-1")
    if users[0] != str(common.user(proxy, "runAsUser")) or (
        users[1] not in ("-1", str(common.user(proxy, "runAsGroup")))
    ):
        yield f"the CNI plugin lets the user and group {users} past"
    for variable, port in ((INBOUND, "4143"), (OUTBOUND, "4140")):
        if any((env(proxy).get(name) or port).split(":")[-1] != port
               for name in (variable, f"{variable}S")):  # fmt: skip
            yield f"the proxy is not where the CNI plugin redirects to ({variable})"
    line = Line(validator.get("args") or [], VALIDATOR_FLAGS, {})
    ports = [line.value(flag).split(":")[-1] for flag in ("connect-addr", "listen-addr")]
    shows = line.helps or "--version" in (validator.get("args") or ())
    if shows or (not line.fails and ports[0] == ports[1]):
        yield "the validator hears itself, or nothing"


def skipped(text: str, direction: str) -> Iterator[str]:
    """Yield ports in addition to those that the mesh skips by default."""
    for part in listed(text):
        low, _, high = part.partition("-")
        if low.strip().isdecimal() and (high or low).strip().isdecimal():
            # One additional port is enough for a complaint.
            ports = set(range(int(low), min(int(high or low), 65535) + 1))
            if ports - SKIPPED[direction]:
                yield f"{part} of what goes {direction} is not redirected"
