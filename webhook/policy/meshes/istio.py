"""Istio's sidecar: opt in by label, evidence of the injected proxy, and the ways round it.

Sources are paths in istio at 1.32-dev unless said otherwise.
"""

from collections.abc import Collection, Iterator

from webhook.policy import istio_containers, ports, proxyconfig, sidecars
from webhook.policy.images import repository
from webhook.policy.istio_containers import INIT, PROXY, VALIDATION, Rules
from webhook.policy.meshes import Mesh, Spot, Want, annotation, label
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
MANAGED = "gateway.istio.io/managed"
DISCOVERY = "sidecar.istio.io/discoveryAddress"
TRAFFIC = "traffic.sidecar.istio.io/"
STATUS_PORT = "status.sidecar.istio.io/port"
#: What comes in by such an interface passes as what the pod sends; the first name is the new one.
REROUTES = ("istio.io/reroute-virtual-interfaces", f"{TRAFFIC}kubevirtInterfaces")

_LINKERD_INJECT = "linkerd.io/inject"
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATION: ("initContainers",),
}
#: An image that the injector replaces: the author only customises the proxy.
_AUTO = "auto"
#: The injector's own ports, which it never captures (files/injection-template.yaml).
_OWN_INBOUND = "15090,15021,15020"
#: The proxy's key, token and the sockets that hand them out (files/injection-template.yaml).
_IDENTITY_VOLUMES = ("istio-token", "workload-certs", "workload-socket", "credential-socket")
#: Where the proxy's bootstrap and its agent's state lie.
_STATE_VOLUMES = ("istio-envoy", "istio-data")
#: The proxy's role in pods that are gateways or waypoints (files/waypoint.yaml, kube-gateway.yaml).
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

    def fills_in(self, placed: Placed) -> bool:
        """A container with the proxy's name and image `auto` customises it (pkg/kube/inject)."""
        return placed.name in _PLACES and placed.container.image == _AUTO

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:
        """The label, which works in any namespace; the annotation can't opt in (inject.go)."""
        value = pod.labels.get(INJECT, pod.annotations.get(INJECT))
        if self.is_infrastructure(pod) or (value == "false" and self.settings.opt_out == "deny"):
            return
        yield from leave_linkerd(pod)
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
            yield Spot(where(INJECT), (value,), *gateway_like(pod))

    def is_infrastructure(self, pod: Pod) -> bool:
        """A gateway or waypoint and nothing else: one container, Istio's own proxy, as it is made.

        It is all mesh and has no application whose traffic could go past it. Before injection a
        gateway has the placeholder image and asks for the gateway's template.
        """
        if len(pod.containers) != 1 or pod.spec.host_network:
            return False
        only = pod.containers[0]
        container = only.container
        if only.name != PROXY or only.kind != "containers":
            return False
        if any(istio_containers.own_programs(only)):
            return False
        if not pod.final and container.image == _AUTO:
            return pod.annotations.get(TEMPLATES, "").strip() == "gateway"
        args = tuple(container.args or ())[:2]
        return (
            repository(container.image or "") in self.own.proxy_images
            and args in {("proxy", role) for role in _ROLES}
            and not any(istio_containers.filled_volumes(pod))
            and not any(self.overridden_env(pod))
            and not any(self.elsewhere(pod))
        )

    def missing(self, pod: Pod) -> Iterator[Spot]:
        """No container is the proxy, in either list: the injector skips without a word."""
        if pod.proxy is not None:
            return
        revision = pod.labels.get(REVISION)
        if pod.labels.get(INJECT) != "true":
            fix = ("see that mendix-mesh's mutating webhook runs, and that its configuration's "
                   "name sorts before Istio's")  # fmt: skip
        elif revision is not None:
            fix = (f"see that Istio's revision or tag {revision} is installed, and that no label "
                   "istio-injection or istio.io/rev of the namespace says otherwise")  # fmt: skip
        else:
            fix = ("see that the namespace has no label istio-injection=disabled, and none "
                   "istio.io/rev of a revision that is not installed; where no revision is the "
                   "default, name yours in settings.istio.revision")  # fmt: skip
        yield Spot("spec.initContainers", reason="has no istio-proxy container", fix=fix)

    def forgeries(self, pod: Pod) -> Iterator[Spot]:
        """The name istio-proxy without what makes it a sidecar that captures."""
        if pod.final:
            for placed in pod.workload_containers:
                if placed.name in _PLACES:
                    yield Spot(placed.field("name"), (placed.name,), "is a name of Istio's own, "
                               "for which its CNI plugin may leave the pod alone")  # fmt: skip
        proxy = pod.proxy
        if proxy is None or self.is_infrastructure(pod):
            return
        for placed in pod.mesh_containers:
            yield from istio_containers.own_programs(placed)
            if placed.name == PROXY and placed is not proxy:
                yield Spot(placed.field("name"), (PROXY,), "is a second proxy")
        yield from istio_containers.filled_volumes(pod)
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
        fix = "use the mesh's image, or name your mirror in settings.istio.proxyImages"
        for placed in pod.mesh_containers:
            if repository(placed.container.image or "") not in self.own.proxy_images:
                yield Spot(placed.field("image"), (placed.container.image or "none",), fix=fix)
        asked = pod.annotations.get(PROXY_IMAGE)
        if asked and pod.proxy is None and repository(asked) not in self.own.proxy_images:
            yield Spot(annotation(PROXY_IMAGE), (asked,), fix=fix)

    def capture_bypasses(self, pod: Pod) -> Iterator[Spot]:
        """Interception off, ports and addresses left out, templates that capture nothing.

        The CNI plugin obeys the annotations, istio-init its arguments: both are judged. Of a new
        pod, what an annotation explains is said once; updates are compared place by place.
        """
        if self.is_infrastructure(pod):
            return
        yield from self._templates(pod)
        mode = pod.annotations.get(INTERCEPTION)
        if mode is not None and mode not in ("REDIRECT", "TPROXY"):
            yield Spot(annotation(INTERCEPTION), (mode,))
        config = proxyconfig.parse(pod.annotations.get(CONFIG)) or {}
        if not istio_containers.captures(config):
            yield Spot(annotation(CONFIG), (f"interceptionMode {config['interceptionMode']}",))
        inits = [
            istio_containers.rules(placed) for placed in pod.mesh_containers if placed.name != PROXY
        ]
        yield from self._includes(pod, inits)
        yield from self._excludes(pod, inits)
        yield from _reroutes(pod, inits)
        for init in inits:
            yield from istio_containers.hollow(init)

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

    def _includes(self, pod: Pod, inits: Collection[Rules]) -> Iterator[Spot]:
        reason = "captures only what it lists"
        for key, flag in (("includeInboundPorts", "-b"), ("includeOutboundIPRanges", "-i")):
            if key == "includeInboundPorts" and pod.ingress:
                continue  # its clients are not of the mesh
            asked = pod.annotations.get(TRAFFIC + key, "*").strip()
            if asked != "*":
                yield Spot(annotation(TRAFFIC + key), (f'"{asked}"',), reason)
            for init in inits:
                told = init.flags.get(flag, "").strip()
                if told != "*" and not (pod.new and told == asked):
                    yield Spot(init.placed.field("args"), (f'{flag} "{told}"',), reason)

    def _excludes(self, pod: Pod, inits: Collection[Rules]) -> Iterator[Spot]:
        allow = self.allowed(pod)
        for key, flag, allowed in (
            ("excludeInboundPorts", "-d", self._inbound + allow.inbound),
            ("excludeOutboundPorts", "-o", self._outbound + allow.outbound),
        ):
            asked = ports.beyond(pod.annotations.get(TRAFFIC + key, ""), allowed)
            if asked:
                yield Spot(annotation(TRAFFIC + key), asked)
            for init in inits:
                told = init.excluded_ports(flag, allowed)
                if more := tuple(part for part in told if not (pod.new and part in asked)):
                    yield Spot(init.placed.field("args"), more, f"leaves out ports by {flag}")
        # Port 0 switches the agent's own port off.
        if port := ports.beyond(pod.annotations.get(STATUS_PORT, ""), ((0, 0), *self._inbound)):
            yield Spot(annotation(STATUS_PORT), port, "is left out of what comes in")
        subnets = {*self.own.exclude_outbound_ip_ranges, *allow.subnets}
        for key, flag in (("excludeOutboundIPRanges", "-x"), ("excludeInterfaces", "-c")):
            asked = _beyond(pod.annotations.get(TRAFFIC + key, ""), subnets)
            if asked:
                yield Spot(annotation(TRAFFIC + key), asked)
            for init in inits:
                known = {*subnets, *asked} if pod.new else subnets
                if more := _beyond(init.flags.get(flag, ""), known):
                    yield Spot(init.placed.field("args"), more,
                               f"leaves out traffic by {flag}")  # fmt: skip

    def identity_clashes(self, pod: Pod) -> Iterator[Spot]:
        """The firewall lets the proxy's user and group out unproxied (analyzer IST0144).

        A proxy that runs as root, for TPROXY or low ports, is let out by its group: no rule names
        root (cni/pkg/plugin/sidecar_redirect.go).
        """
        if self.is_infrastructure(pod):
            return
        ours = self.own.proxy_uid
        users = set() if ours is None else {ours}
        groups = set(users)  # istio-init takes the user's number for the group's, too
        if pod.proxy:
            context = pod.proxy.container.security_context
            uid = context.run_as_user if context else None
            gid = context.run_as_group if context else None
            users |= {uid} if uid else set()
            groups |= {own for own in (uid, gid) if own}
            for name, own, fine in (
                ("runAsUser", uid, (ours, 0)),
                ("runAsGroup", gid, (ours, 0, None)),
            ):
                if ours is not None and own not in fine:
                    yield Spot(pod.proxy.field(f"securityContext.{name}"), (str(own or "unset"),),
                               f"is not {ours}, which alone is not captured",
                               "let Istio's injector make istio-proxy, or on OpenShift set "
                               "settings.istio.proxyUid: null")  # fmt: skip
        for placed in pod.mesh_containers:
            if placed.name != PROXY:
                passing, odd = istio_containers.passing(istio_containers.rules(placed))
                if others := [*map(str, sorted(passing - groups)), *odd]:
                    yield Spot(placed.field("args"), tuple(others),
                               "lets others past the proxy than the proxy",
                               f"let Istio's injector make {placed.name}")  # fmt: skip
                users |= passing
                groups |= passing
        yield from sidecars.clashes(pod, users, groups)

    def mtls_disabled(self, pod: Pod) -> Iterator[Spot]:
        """The label by which peers know that the pod speaks mTLS (service.go)."""
        mode = pod.labels.get(TLS_MODE)
        if mode is not None and mode != "istio" and not self._was_ours(pod):
            yield Spot(label(TLS_MODE), (mode,))

    def overridden_env(self, pod: Pod) -> Iterator[Spot]:
        """Variables, programs and bootstraps that undo the proxy, by annotation or in place."""
        fix = "remove it: the proxy's set-up is the injector's"
        if BOOTSTRAP in pod.annotations:
            yield Spot(annotation(BOOTSTRAP), (pod.annotations[BOOTSTRAP],), fix=fix)
        config = proxyconfig.parse(pod.annotations.get(CONFIG))
        said: set[str] = set()
        if config is None:
            yield Spot(annotation(CONFIG), (), "can't be read, and may override anything",
                       "write it as one plain YAML or JSON mapping, without aliases")  # fmt: skip
        else:
            keys = istio_containers.guarded_config(config)
            variables = istio_containers.guarded_metadata(config)
            if keys or variables:
                yield Spot(annotation(CONFIG), (*keys, *variables), fix=fix)
            if pod.new:
                odd = keys or variables or not istio_containers.captures(config)
                said.update(variables, ["PROXY_CONFIG"] if odd else [])
        for placed in pod.mesh_containers:
            if placed.container.env_from:
                yield Spot(placed.field("envFrom"), fix=fix)
            undoing = istio_containers.undoing_env(placed)
            if more := [name for name in undoing if name not in said]:
                yield Spot(placed.field("env"), tuple(more), fix=fix)

    def elsewhere(self, pod: Pod) -> Iterator[Spot]:
        """Addresses of istiod that are not the cluster's; the agent reads annotations too."""
        fix = "remove it, or name its host in settings.istio.controlPlaneHosts"
        config = proxyconfig.parse(pod.annotations.get(CONFIG)) or {}
        told = [
            (annotation(DISCOVERY), pod.annotations.get(DISCOVERY)),
            (annotation(CONFIG), config.get("discoveryAddress")),
        ]
        if pod.proxy:
            env = pod.proxy.env
            injected = proxyconfig.parse(env.get("PROXY_CONFIG")) or {}
            address = injected.get("discoveryAddress")
            if not (pod.new and address == config.get("discoveryAddress")):
                told.append((pod.proxy.field("env[PROXY_CONFIG]"), address))
            told.append((pod.proxy.field("env[CA_ADDR]"), env.get("CA_ADDR")))
        for field, found in told:
            if found is not None and not self._is_ours(str(found)):
                yield Spot(field, (str(found),), fix=fix)

    def exposed_identity(self, pod: Pod) -> Iterator[Spot]:
        """The token, key and sockets with which the proxy proves who it is; and its bootstrap."""
        yield from sidecars.mounts(pod, _IDENTITY_VOLUMES)
        yield from sidecars.mounts(
            pod, _STATE_VOLUMES, "lets the container change what the proxy runs"
        )

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
        """Whether it is istiod's; in a cluster domain of its own, settings must have the host."""
        host = (address.rpartition(":")[0] or address).removesuffix(".cluster.local")
        service, _, rest = host.partition(".")
        ours = rest == f"{self.own.control_plane_namespace}.svc" and bool(service)
        return ours or host in self.own.control_plane_hosts


def leave_linkerd(pod: Pod) -> Iterator[Want]:
    """What keeps Linkerd's injector from a pod whose template is of days when that was its mesh.

    The namespace's label is an admin's and says where its pods belong. An opt-in by label is left
    to be refused: a changed label may be one by which a controller counts its pods.
    """
    if pod.annotations.get(_LINKERD_INJECT) in ("enabled", "ingress"):
        yield Want("annotations", _LINKERD_INJECT, "disabled")


def gateway_like(pod: Pod) -> tuple[str, str]:
    """Reason and fix for the opt-out of a gateway or waypoint that has more in it than its proxy.

    istiod gives its own the opt-out and a label (files/kube-gateway.yaml, waypoint.yaml), and lays
    over them what a Gateway's parametersRef says. Both are empty for other pods.
    """
    if MANAGED not in pod.labels:
        return "", ""
    return (
        "asks to stay outside the mesh, as only a gateway may that is Istio's own proxy and "
        "nothing else",
        "leave the pod as istiod makes it, without what the Gateway's parametersRef adds (a "
        "mirror of its image: settings.istio.proxyImages), or ask an admin for an exemption",
    )


def _reroutes(pod: Pod, inits: Collection[Rules]) -> Iterator[Spot]:
    reason = "lets what comes in pass for what the pod sends"
    asked = {key: pod.annotations[key] for key in REROUTES if pod.annotations.get(key)}
    for key, value in asked.items():
        yield Spot(annotation(key), (value,), reason)
    for init in inits:
        told = init.flags.get("-k")
        if told and not (pod.new and told in asked.values()):
            yield Spot(init.placed.field("args"), (f"-k {told}",), reason)


def _beyond(text: str, allowed: Collection[str]) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")]
    return tuple(part for part in parts if part and part not in allowed)


MESH = Istio
