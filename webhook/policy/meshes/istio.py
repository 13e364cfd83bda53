"""Istio's sidecar: opt in by label, evidence of the injected proxy, and the ways round it.

Sources are paths in istio at 1.32-dev unless said otherwise.
"""

from collections.abc import Collection, Iterator, Mapping

from webhook.policy import containers, ports, proxyconfig, sidecars
from webhook.policy.images import repository
from webhook.policy.meshes import Mesh, Spot, Want, annotation, label
from webhook.policy.objects import Container
from webhook.policy.settings import Settings
from webhook.policy.workload import Placed, Pod

INJECT = "sidecar.istio.io/inject"
REVISION = "istio.io/rev"
STATUS = "sidecar.istio.io/status"
NATIVE = "sidecar.istio.io/nativeSidecar"
TLS_MODE = "security.istio.io/tlsMode"
CONFIG = "proxy.istio.io/config"
TEMPLATES = "inject.istio.io/templates"
INTERCEPTION = "sidecar.istio.io/interceptionMode"
PROXY_IMAGE = "sidecar.istio.io/proxyImage"
BOOTSTRAP = "sidecar.istio.io/bootstrapOverride"
TRAFFIC = "traffic.sidecar.istio.io/"

PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATION: ("initContainers",),
}
#: An image that the injector replaces: the author only customises the proxy.
_AUTO = "auto"
#: The injector's own ports, which it never captures (files/injection-template.yaml).
_OWN_INBOUND = "15090,15021,15020"
#: All flags that the injector gives istio-init and istio-validation; a -b, -i and -x of other
#: values are judged, and any other flag may make it redirect little or nothing.
_INIT_FLAGS = frozenset({
    "-p", "-z", "-u", "-g", "-m", "-i", "-x", "-b", "-d", "-q", "-o", "-k", "-c",
    "--log_output_level", "--log_as_json", "--redirect-dns", "--capture-all-dns",
    "--run-validation", "--skip-rule-apply", "--native-nftables",
})  # fmt: skip
#: Ways in which other programs than the proxy's own get into its environment or bootstrap.
_GUARDED_ENV = (
    "DISABLE_ENVOY", "CA_ADDR", "CA_PROVIDER", "CA_ROOT_CA", "PILOT_CERT_PROVIDER", "XDS_",
    "FILE_MOUNTED_CERTS", "TRUST_DOMAIN", "ISTIO_BOOTSTRAP", "ISTIO_META_INTERCEPTION_MODE",
    "ISTIO_META_TLS", "PROXY_CONFIG", "POD_", "SERVICE_ACCOUNT", "LD_", "PATH",
)  # fmt: skip
#: The proxy's key, token and the sockets that hand them out (files/injection-template.yaml).
_IDENTITY_VOLUMES = ("istio-token", "workload-certs", "workload-socket", "credential-socket")
#: Labels of pods that are gateways or waypoints (files/waypoint.yaml, kube-gateway.yaml).
_ROLES = ("router", "waypoint")


class Istio(Mesh):
    """Istio with its sidecar injector; native or classic sidecar, istio-init or CNI plugin."""

    name = "istio"
    proxy_name = PROXY

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.own = settings.istio
        self._inbound = ports.parse(f"{_OWN_INBOUND},{self.own.exclude_inbound_ports}")[0]
        self._outbound = ports.parse(self.own.exclude_outbound_ports)[0]

    def claims(self, placed: Placed) -> bool:
        """Istio's containers are known by name; one with image `auto` is only a wish."""
        return placed.kind in _PLACES.get(placed.name, ()) and placed.container.image != _AUTO

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:
        """The label, which works in any namespace; the annotation can't opt in (inject.go)."""
        value = pod.labels.get(INJECT, pod.annotations.get(INJECT))
        if self.is_infrastructure(pod) or (value == "false" and self.settings.opt_out == "deny"):
            return
        if pod.labels.get(INJECT) != "true":
            yield Want("labels", INJECT, "true")
        if self.own.revision and REVISION not in pod.labels:
            yield Want("labels", REVISION, self.own.revision)
        if not task:
            return
        if self.own.native_sidecars:
            if NATIVE not in pod.annotations:
                yield Want("annotations", NATIVE, "true")
        elif merged := proxyconfig.holding(pod.annotations.get(CONFIG)):
            yield Want("annotations", CONFIG, merged)

    def opt_outs(self, pod: Pod) -> Iterator[Spot]:
        """Label before annotation; what is no boolean is a default to one Istio, no to another.

        A template's other values are mended when its pods are born.
        """
        if self.is_infrastructure(pod):
            return
        where = label if INJECT in pod.labels else annotation
        value = pod.labels.get(INJECT, pod.annotations.get(INJECT))
        if value is None or value == "true":
            return
        if pod.final or (value == "false" and self.settings.opt_out == "deny"):
            yield Spot(where(INJECT), (value,))

    def is_infrastructure(self, pod: Pod) -> bool:
        """A gateway or waypoint and nothing else."""
        return is_infrastructure(pod, self.own.proxy_images)

    def missing(self, pod: Pod) -> Iterator[Spot]:
        """No container is the proxy, in either list."""
        if pod.proxy is None:
            yield Spot("spec.initContainers", reason="has no istio-proxy container")

    def forgeries(self, pod: Pod) -> Iterator[Spot]:
        """The name istio-proxy without what makes it a sidecar that captures."""
        proxy = pod.proxy
        if proxy is None or self.is_infrastructure(pod):
            return
        for placed in pod.mesh_containers:
            yield from _own_programs(placed)
        role = tuple(proxy.container.args or ())[:2]
        if role != ("proxy", "sidecar"):
            yield Spot(proxy.field("args"), (" ".join(role) or "none",), "is not run as a sidecar")
        if proxy.kind == "initContainers" and proxy.container.restart_policy != "Always":
            yield Spot(
                proxy.field("restartPolicy"), reason="is an init container, gone before the app"
            )
        names = {placed.name for placed in pod.mesh_containers}
        if not names & {INIT, VALIDATION}:
            yield Spot(
                "spec.initContainers",
                reason=f"has no {INIT} or {VALIDATION}: nothing is redirected",
            )
        elif INIT not in names and STATUS not in pod.annotations:
            # cni/pkg/plugin/plugin.go; kube-injected CronJobs lose theirs.
            yield Spot(annotation(STATUS), reason="is missing, so Istio's CNI redirects nothing")
        if TLS_MODE not in pod.labels and not self._was_ours(pod):
            yield Spot(label(TLS_MODE), reason="is missing, so peers speak plaintext to the pod")

    def untrusted_images(self, pod: Pod) -> Iterator[Spot]:
        """Images of Istio's containers, or those asked for by annotation."""
        for placed in pod.mesh_containers:
            if repository(placed.container.image or "") not in self.own.proxy_images:
                yield Spot(placed.field("image"), (placed.container.image or "none",),
                           fix="use the mesh's image, or name your mirror in "
                           "settings.istio.proxyImages")  # fmt: skip
        asked = pod.annotations.get(PROXY_IMAGE)
        if asked and pod.proxy is None and repository(asked) not in self.own.proxy_images:
            yield Spot(annotation(PROXY_IMAGE), (asked,))

    def capture_bypasses(self, pod: Pod) -> Iterator[Spot]:
        """Interception off, ports and addresses left out, templates that capture nothing."""
        if self.is_infrastructure(pod):
            return
        yield from self._templates(pod)
        config = proxyconfig.parse(pod.annotations.get(CONFIG))
        for spot, mode in (
            (annotation(INTERCEPTION), pod.annotations.get(INTERCEPTION)),
            (annotation(CONFIG), config.get("interceptionMode")),
        ):
            if mode is not None and str(mode).upper() == "NONE":
                yield Spot(spot, ("interceptionMode NONE",))
        init = next((p for p in pod.mesh_containers if p.name in (INIT, VALIDATION)), None)
        flags, odd = containers.flags(_rules(init), _INIT_FLAGS) if init else ({}, [])
        yield from self._includes(pod, init, flags)
        yield from self._excludes(pod, init, flags)
        if init:
            yield from _hollow_init(init, flags, odd)

    def _templates(self, pod: Pod) -> Iterator[Spot]:
        """Only the sidecar template captures: gateway, grpc-* and a custom one need not (2.3)."""
        asked = pod.annotations.get(TEMPLATES)
        if asked is None:
            return
        allowed = {"sidecar", *self.own.templates, *self.allowed(pod).templates}
        if pod.ingress:
            allowed.add("gateway")
        names = [name.strip() for name in asked.split(",") if name.strip()]
        if other := [name for name in names if name not in allowed]:
            yield Spot(annotation(TEMPLATES), tuple(other))

    def _includes(self, pod: Pod, init: Placed | None, flags: Mapping[str, str]) -> Iterator[Spot]:
        for key, flag in (("includeInboundPorts", "-b"), ("includeOutboundIPRanges", "-i")):
            if key == "includeInboundPorts" and pod.ingress:
                continue  # its clients are not of the mesh
            asked = pod.annotations.get(TRAFFIC + key)
            if asked is not None:
                if asked.strip() != "*":
                    yield Spot(annotation(TRAFFIC + key), (f'"{asked}"',),
                               "captures only what it lists")  # fmt: skip
            elif init and flags.get(flag, "*") != "*":
                yield Spot(init.field("args"), (f'{flag} "{flags[flag]}"',),
                           "captures only what it lists")  # fmt: skip

    def _excludes(self, pod: Pod, init: Placed | None, flags: Mapping[str, str]) -> Iterator[Spot]:
        allow = self.allowed(pod)
        for key, flag, allowed in (
            ("excludeInboundPorts", "-d", [*self._inbound, *allow.inbound]),
            ("excludeOutboundPorts", "-o", [*self._outbound, *allow.outbound]),
        ):
            asked = pod.annotations.get(TRAFFIC + key)
            if asked is not None and (past := ports.beyond(asked, allowed)):
                yield Spot(annotation(TRAFFIC + key), tuple(past))
            elif init and (past := ports.beyond(flags.get(flag, ""), allowed)):
                yield Spot(init.field("args"), tuple(past), f"leaves out ports by {flag}")
        subnets = {*self.own.exclude_outbound_ip_ranges, *allow.subnets}
        for key, flag in (("excludeOutboundIPRanges", "-x"), ("excludeInterfaces", "-c")):
            asked = pod.annotations.get(TRAFFIC + key)
            listed = flags.get(flag, "") if asked is None else asked
            parts = [part.strip() for part in listed.split(",")]
            if past := [part for part in parts if part and part not in subnets]:
                if asked is not None:
                    yield Spot(annotation(TRAFFIC + key), tuple(past))
                elif init:
                    yield Spot(init.field("args"), tuple(past), f"leaves out traffic by {flag}")

    def identity_clashes(self, pod: Pod) -> Iterator[Spot]:
        """The firewall lets the proxy's user and group out unproxied (analyzer IST0144)."""
        if self.is_infrastructure(pod):
            return
        ours = self.own.proxy_uid
        taken = set() if ours is None else {ours}
        if pod.proxy:
            context = pod.proxy.container.security_context
            uid = context.run_as_user if context else None
            transparent = pod.annotations.get(INTERCEPTION) == "TPROXY"
            if uid and not transparent:
                taken.add(uid)
            if ours is not None and uid != ours and not transparent:
                yield Spot(pod.proxy.field("securityContext.runAsUser"), (str(uid),),
                           f"is not {ours}, the user that is not captured",
                           "let Istio's injector make istio-proxy, or on OpenShift set "
                           "settings.istio.proxyUid: null")  # fmt: skip
        for placed in pod.mesh_containers:
            if placed.name == INIT:
                flags, _ = containers.flags(_rules(placed), _INIT_FLAGS)
                passes = containers.number(flags.get("-u")) | containers.number(flags.get("-g"))
                if passes - taken:
                    yield Spot(placed.field("args"), tuple(map(str, sorted(passes - taken))),
                               "lets another user past the proxy than the proxy's",
                               "let Istio's injector make istio-init")  # fmt: skip
                taken |= passes
        yield from sidecars.clashes(pod, taken, taken)

    def mtls_disabled(self, pod: Pod) -> Iterator[Spot]:
        """The label by which peers know that the pod speaks mTLS (service.go)."""
        mode = pod.labels.get(TLS_MODE)
        if mode is not None and mode != "istio" and not self._was_ours(pod):
            yield Spot(label(TLS_MODE), (mode,))

    def overridden_env(self, pod: Pod) -> Iterator[Spot]:
        """Variables and bootstraps that undo the proxy, from annotations or in the container."""
        if BOOTSTRAP in pod.annotations:
            yield Spot(annotation(BOOTSTRAP), (pod.annotations[BOOTSTRAP],))
        metadata = proxyconfig.parse(pod.annotations.get(CONFIG)).get("proxyMetadata")
        named = metadata if isinstance(metadata, dict) else {}
        if guarded := sorted(name for name in map(str, named) if name.startswith(_GUARDED_ENV)):
            yield Spot(annotation(CONFIG), tuple(guarded))
        for placed in pod.mesh_containers:
            if placed.container.env_from:
                yield Spot(placed.field("envFrom"))
        if pod.proxy is None:
            return
        env = pod.proxy.container.env or ()
        odd = [v.name for v in env if v.name.startswith(("DISABLE_ENVOY", "LD_", "PATH"))]
        names = [variable.name for variable in env]
        if len(set(names)) != len(names):
            odd += {n for n in names if names.count(n) > 1 and n.startswith(_GUARDED_ENV)}
        if odd:
            yield Spot(pod.proxy.field("env"), tuple(sorted(odd)))

    def elsewhere(self, pod: Pod) -> Iterator[Spot]:
        """Addresses of istiod that are not the cluster's."""
        config = proxyconfig.parse(pod.annotations.get(CONFIG))
        address = config.get("discoveryAddress")
        if address is not None and not self._is_ours(str(address)):
            yield Spot(annotation(CONFIG), (f"discoveryAddress {address}",))
        if pod.proxy:
            env = containers.env(pod.proxy.container)
            injected = proxyconfig.parse(env.get("PROXY_CONFIG")).get("discoveryAddress")
            for name, found in (("CA_ADDR", env.get("CA_ADDR")), ("PROXY_CONFIG", injected)):
                if found and not self._is_ours(str(found)):
                    yield Spot(pod.proxy.field(f"env[{name}]"), (str(found),))

    def exposed_identity(self, pod: Pod) -> Iterator[Spot]:
        """The token, key and sockets with which the proxy proves who it is."""
        return sidecars.mounts(pod, _IDENTITY_VOLUMES)

    def forged_status(self, pod: Pod) -> Iterator[Spot]:
        """The injector's own status without its proxy."""
        if STATUS in pod.annotations and pod.proxy is None:
            yield Spot(annotation(STATUS))

    def forsaken(self, pod: Pod) -> Iterator[Spot]:
        """The label that tells peers to speak mTLS, read live."""
        old = pod.old
        if old is None:
            return
        before, now = old.labels.get(TLS_MODE), pod.labels.get(TLS_MODE)
        if before == "istio" and now != before:
            yield Spot(label(TLS_MODE), (f"{before} -> {now or 'removed'}",))

    def late_proxy(self, pod: Pod) -> Iterator[Spot]:
        """Init containers before a native proxy, all of them beside a classic one."""
        return sidecars.before_proxy(pod)

    def _was_ours(self, pod: Pod) -> bool:
        return pod.old is not None and pod.old.labels.get(TLS_MODE) == "istio"

    def _is_ours(self, address: str) -> bool:
        host = address.rpartition(":")[0] or address
        return host in self.own.control_plane_hosts or sidecars.is_service_in(
            address, self.own.control_plane_namespace
        )


def is_infrastructure(pod: Pod, images: Collection[str]) -> bool:
    """Whether the pod is a gateway or waypoint and nothing else: one container, Istio's own proxy.

    It is all mesh and has no application whose traffic could go past it. Before injection a gateway
    has the placeholder image and asks for the gateway's template.
    """
    if len(pod.containers) != 1 or pod.spec.host_network:
        return False
    only = pod.containers[0].container
    if only.name != PROXY or only.command:
        return False
    if not pod.final and only.image == _AUTO:
        return pod.annotations.get(TEMPLATES, "").strip() == "gateway"
    args = tuple(only.args or ())[:2]
    trusted = repository(only.image or "") in images
    return trusted and len(args) == 2 and args[0] == "proxy" and args[1] in _ROLES


def _own_programs(placed: Placed) -> Iterator[Spot]:
    container = placed.container
    if container.command:
        yield Spot(placed.field("command"), reason="runs a command of its own")
    if placed.name != PROXY:
        if container.restart_policy:
            yield Spot(placed.field("restartPolicy"),
                       reason="lets the pod start although the container fails")  # fmt: skip
        if tuple(container.args or ())[:1] != ("istio-iptables",):
            yield Spot(placed.field("args"), reason="does not set the rules that redirect")
    for field, command in containers.hooks(container):
        if command[:1] != ["pilot-agent"]:
            yield Spot(placed.field(field), reason="runs a command of its own")
    for index, mount in enumerate(container.volume_mounts or ()):
        if containers.covers_programs(mount) and not _is_istios(mount.mount_path):
            yield Spot(placed.field(f"volumeMounts[{index}]"), (mount.mount_path,),
                       "puts a volume over the container's programs")  # fmt: skip


def _is_istios(path: str) -> bool:
    return path.startswith(("/etc/istio", "/var/run/secrets", "/var/lib/istio"))


def _rules(placed: Placed) -> Container:
    """The container without the name of the program that is its first argument."""
    args = placed.container.args or []
    return Container(name=placed.name, args=[*args[1:]])


def _hollow_init(init: Placed, flags: Mapping[str, str], odd: list[str]) -> Iterator[Spot]:
    fix = f"let Istio's injector make {init.name}"
    skips = [flag for flag in ("--skip-rule-apply",) if flag in {*flags, *odd}]
    rest = [part for part in odd if part not in ("--run-validation", "--skip-rule-apply")]
    if rest or (init.name == INIT and skips):
        yield Spot(init.field("args"), tuple(rest or skips),
                   "has arguments that can keep it from redirecting", fix)  # fmt: skip
    for flag, port in (("-p", "15001"), ("-z", "15006")):
        if flags.get(flag, port) != port:
            yield Spot(init.field("args"), (f"{flag} {flags[flag]}",),
                       "redirects to another port than the proxy's", fix)  # fmt: skip
    if flags.get("-m", "REDIRECT") not in ("REDIRECT", "TPROXY"):
        yield Spot(init.field("args"), (f"-m {flags['-m']}",), "redirects nothing", fix)


MESH = Istio
