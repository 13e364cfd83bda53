"""Istio's sidecar: opt in by label, and evidence of the injected proxy.

Sources are paths in istio at 1.32-dev unless said otherwise.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from webhook.policy import sidecars
from webhook.policy.inputs import Inputs, forms, proxyconfig
from webhook.policy.inputs import istio as listed
from webhook.policy.inputs.istio import INIT, PROXY, VALIDATION
from webhook.policy.mesh import (
    BYPASSED,
    CONTROL_PLANE,
    FORGED,
    IMAGE,
    OVERRIDDEN,
    USER,
    Found,
    Mesh,
    Occurrence,
    Want,
    annotation,
    label,
)
from webhook.policy.meshes.istio import gateways, injected
from webhook.policy.meshes.istio.gateways import AUTO, MANAGED, TEMPLATES
from webhook.policy.meshes.istio.injected import Rules
from webhook.policy.pod import ports
from webhook.policy.pod.images import repository
from webhook.policy.pod.workload import Placed, Pod, Users
from webhook.policy.settings import Settings

INJECT = "sidecar.istio.io/inject"
MODE = "istio.io/dataplane-mode"
REVISION = "istio.io/rev"
STATUS = "sidecar.istio.io/status"
NATIVE = "sidecar.istio.io/nativeSidecar"
TLS_MODE = "security.istio.io/tlsMode"
TUNNEL = "networking.istio.io/tunnel"
CONFIG = "proxy.istio.io/config"
OVERRIDES = "proxy.istio.io/overrides"
INTERCEPTION = "sidecar.istio.io/interceptionMode"
DISCOVERY = "sidecar.istio.io/discoveryAddress"
TRAFFIC = "traffic.sidecar.istio.io/"
STATUS_PORT = "status.sidecar.istio.io/port"
#: Traffic that arrives on these interfaces is treated as outbound traffic of the pod. The first
#: name is the new one.
REROUTES = ("istio.io/reroute-virtual-interfaces", f"{TRAFFIC}kubevirtInterfaces")
#: The proxy's variable from which pilot-agent takes the metrics endpoints that it scrapes.
_PROMETHEUS = "ISTIO_PROMETHEUS_ANNOTATIONS"

#: Fields of gateways: what istiod itself writes, and the template of gateways from a chart.
_GATEWAY_KEYS = (
    "metadata.labels[gateway.istio.io/", "metadata.annotations[gateway.istio.io/",
    annotation(TEMPLATES),
)  # fmt: skip

_LINKERD_INJECT = "linkerd.io/inject"
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATION: ("initContainers",),
}
#: The injector's own ports, which are never captured (files/injection-template.yaml).
_OWN_INBOUND = "15090,15021,15020"
#: The proxy's key and token, and the sockets that provide them (files/injection-template.yaml).
IDENTITY_VOLUMES = ("istio-token", "workload-certs", "workload-socket", "credential-socket")
#: The volumes with the proxy's bootstrap and its agent's state.
STATE_VOLUMES = ("istio-envoy", "istio-data")


#: Why a pod has no proxy, and what to check, by its opt-in and its revision.
NO_PROXY = "has no istio-proxy container"
NOT_OPTED_IN = (
    "admin: check that mendix-mesh's mutating webhook runs, and that the name of its "
    "configuration sorts before Istio's"
)
NO_REVISION = (
    "admin: check that Istio's revision or tag ",
    " is installed, and that no label istio-injection or istio.io/rev of the namespace "
    "contradicts it",
)
NO_DEFAULT = (
    "admin: check that the namespace has no label istio-injection=disabled, and no label "
    "istio.io/rev with a revision that is not installed; if no revision is the default, name "
    "yours in settings.istio.revision"
)


#: The fix of a bypass that `settings.allow` cannot allow.
EXEMPT = "author: remove it, or ask an admin for an exemption"
_TO_INJECTOR = f"author: let Istio's injector add {INIT}"


class Istio(Mesh):
    """Istio with its sidecar injector; native or classic sidecar, istio-init or CNI plugin."""

    name = "istio"
    proxy_name = PROXY
    volume_names = listed.VOLUMES

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.own = settings.istio
        self._inbound = ports.parse(f"{_OWN_INBOUND},{self.own.exclude_inbound_ports}")[0]
        self._outbound = ports.parse(self.own.exclude_outbound_ports)[0]
        istiod = forms.structured(
            "the mesh's own istiod",
            lambda text: () if self.is_istiod(text) else ("is another control plane",),
            longest=253,
            parsed=False,
        )
        self.annotations = Inputs(
            self.name, listed.ANNOTATIONS, listed.READS, prefixes=listed.PREFIXES,
            own={CONFIG: listed.config(self.is_istiod), DISCOVERY: istiod},
            allowed=self.own.annotations,
        )  # fmt: skip
        self.labels = Inputs(
            self.name, listed.LABELS, listed.READS_LABELS, allowed=self.own.annotations
        )

    def claims(self, placed: Placed) -> bool:
        """Return whether the container's name is Istio's. An image `auto` is only a placeholder."""
        return placed.kind in _PLACES.get(placed.name, ()) and placed.container.image != AUTO

    def fills_in(self, placed: Placed) -> bool:
        """Return whether the injector replaces this container: image `auto` (pkg/kube/inject)."""
        return placed.name in _PLACES and placed.container.image == AUTO

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:
        """Yield the label that opts in. The annotation can't opt in (inject.go)."""
        value = pod.labels.get(INJECT, pod.annotations.get(INJECT))
        if (value == "false" and self.settings.opt_out == "deny") or self.is_infrastructure(pod):
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

    def keep_out(self, pod: Pod) -> Iterator[Want]:
        """Yield the label that keeps every revision's injector away."""
        if pod.labels.get(INJECT) != "false":
            yield Want("labels", INJECT, "false")

    def opt_outs(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the label, or else the annotation, that opts out.

        Istio versions differ in how they treat other values. In a template, these are fixed when
        its pods are created.
        """
        if self.is_infrastructure(pod):
            return
        where = label if INJECT in pod.labels else annotation
        value = pod.labels.get(INJECT, pod.annotations.get(INJECT))
        if value is None or value == "true":
            return
        if pod.final or (value == "false" and self.settings.opt_out == "deny"):
            reason, fix = self.gateway_like(pod)
            yield Occurrence(
                where(INJECT), (value,), *((reason, fix) if reason else self.kept_out(pod))
            )

    def is_infrastructure(self, pod: Pod) -> bool:
        """Return whether the pod is a genuine gateway or waypoint: only Istio's own proxy.

        It has no application whose traffic could bypass the mesh.
        """
        if pod.infrastructure is None:
            only = gateways.candidate(pod)
            pod.infrastructure = only is not None and not any(self.unexpected(pod, only))
        return pod.infrastructure

    def unexpected(self, pod: Pod, only: Placed) -> Iterator[Occurrence]:
        """Yield what the pod has that a genuine gateway does not have."""
        yield from gateways.unexpected(pod, only, self.own, self.is_istiod)
        for found in chain(super()._keys(pod, submitted=False), self._names(pod)):
            # The author's only container is judged as it is, so its own fields are not reported
            # here.
            if not found.occurrence.field.startswith((*_GATEWAY_KEYS, annotation(OVERRIDES))):
                yield found.occurrence

    def customised(self, placed: Placed) -> Iterator[str]:
        """Yield each field that is not harmless, of the fields that policy reads."""
        return listed.customised(msgspec.json.decode(msgspec.json.encode(placed.container)))

    def _keys(self, pod: Pod, submitted: bool) -> Iterator[Found]:
        """Yield keys as for any mesh, except those of an opted-out gateway (see `opt_outs`)."""
        opts_out = pod.labels.get(INJECT) == "false" or pod.labels.get(MODE) == "none"
        for found in super()._keys(pod, submitted):
            if not (opts_out and found.occurrence.field.startswith(_GATEWAY_KEYS)):
                yield found

    def gateway_like(self, pod: Pod) -> tuple[str, str]:
        """Return reason and fix for the opt-out of a gateway that contains more than its proxy.

        istiod creates its gateways with the opt-out and a label (files/kube-gateway.yaml,
        waypoint.yaml), and merges the Gateway's parametersRef into them. For other pods, both texts
        are empty.
        """
        asks = "opts the pod out of the mesh, which only Istio's own gateways are allowed to do"
        fix = (
            "author: keep the gateway as istiod creates it, without what its parametersRef adds; "
            "mesh's admin: name a mirror of its image in settings.istio.proxyImages"
        )
        only = gateways.candidate(pod)
        if only is not None and (found := next(iter(self.unexpected(pod, only)), None)):
            values = f" ({', '.join(value[:80] for value in found.values)})" if found.values else ""
            reason = found.reason or "is not what Istio creates"
            return f"{asks}; {found.field} {reason}{values}", fix
        if MANAGED not in pod.labels or not pod.containers:
            return "", ""
        others = [one for one in pod.containers if one.name != PROXY]
        if len(others) == len(pod.containers):
            return (
                f"{asks}; it runs {others[0].name}, but mendix-mesh recognizes only "
                f"gateways whose single container is {PROXY}",
                "author: use the GatewayClass istio or istio-waypoint, or ask an admin for an "
                "exemption",
            )
        if others:
            return f"{asks}; {others[0].field()} is a container beside the proxy", fix
        return f"{asks}; it uses the node's network, or does not run the proxy as Istio does", fix

    def missing(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the missing proxy. The injector skips a pod without any message."""
        if pod.proxy is not None:
            return
        revision = pod.labels.get(REVISION)
        if pod.labels.get(INJECT) != "true":
            fix = NOT_OPTED_IN
        elif revision is not None:
            fix = revision.join(NO_REVISION)
        else:
            fix = NO_DEFAULT
        yield Occurrence("spec.initContainers", reason=NO_PROXY, fix=fix)

    def forgeries(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield evidence that istio-proxy is not a sidecar that captures traffic."""
        if pod.final:
            for placed in pod.workload_containers:
                if placed.name in _PLACES:
                    yield Occurrence(
                        placed.field("name"),
                        (placed.name,),
                        "is a container name that is reserved for Istio: its CNI plugin can skip "
                        "the pod",
                    )
        proxy = pod.proxy
        if proxy is None or self.is_infrastructure(pod):
            return
        yield from self.proven(pod, FORGED)
        yield from injected.unexpected_volumes(pod)
        if pod.mesh_named.keys() == {PROXY, VALIDATION} and STATUS not in pod.annotations:
            # cni/pkg/plugin/plugin.go. CronJobs that were injected with `istioctl kube-inject` lose
            # it.
            yield Occurrence(
                annotation(STATUS), reason="is missing, so Istio's CNI plugin redirects no traffic"
            )
        if TLS_MODE not in pod.labels and not self._was_ours(pod):
            yield Occurrence(
                label(TLS_MODE), reason="is missing, so other pods send plaintext to this pod"
            )

    def prove(self, pod: Pod) -> Iterator[tuple[str, Occurrence]]:
        """Yield what is wrong with Istio's containers. The rest of the pod is ignored."""
        yield from ((IMAGE, occurrence) for occurrence in self._images_of(pod))
        ineffective = map(injected.not_redirecting, _rules(pod))
        yield from ((BYPASSED, occurrence) for occurrence in chain.from_iterable(ineffective))
        yield from ((USER, occurrence) for occurrence in self._users(pod)[1])
        proxy = pod.proxy
        if proxy is None:
            return
        foreign = (
            sidecars.foreign_changes(placed, injected.REFERRED) for placed in pod.mesh_containers
        )
        for check, occurrences in (
            (FORGED, _forged(pod, proxy)),
            (BYPASSED, injected.idle_proxy(proxy)),
            (OVERRIDDEN, chain(*foreign, self._metrics(proxy))),
            (CONTROL_PLANE, self._control_plane_env(proxy)),
        ):
            yield from ((check, occurrence) for occurrence in occurrences)

    def untrusted_images(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield untrusted images of Istio's containers, other versions, and changed images."""
        return self._images_of(pod) if pod.old else self.proven(pod, IMAGE)

    def _images_of(self, pod: Pod) -> Iterator[Occurrence]:
        fix = (
            "mesh's admin: use the mesh's image, or name your mirror in settings.istio.proxyImages"
        )
        return sidecars.untrusted_images(
            pod, lambda one: repository(one.container.image or "") in self.own.proxy_images, fix
        )

    def capture_bypasses(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield disabled interception, excluded ports and addresses, and other templates.

        The CNI plugin follows the annotations, istio-init its arguments. Both are judged. For a new
        pod, an argument that comes from an annotation is reported once. Updates are compared field
        by field.
        """
        if self.is_infrastructure(pod):
            return
        inits = _rules((pod.proof or self.proofs.of(pod)).pod)
        yield from self._includes(pod, inits)
        yield from self._excludes(pod, inits)
        yield from _reroutes(pod, inits)
        yield from self.proven(pod, BYPASSED)

    def _said(self, pod: Pod) -> Iterator[Found]:
        """Yield what holds for every mesh, and other injection templates."""
        yield from super()._said(pod)
        if not self.is_infrastructure(pod):
            yield from (Found(BYPASSED, occurrence) for occurrence in self._templates(pod))

    def _templates(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield injection templates other than sidecar, which need not capture traffic (2.3)."""
        requested = pod.annotations.get(TEMPLATES)
        if requested is None:
            return
        allowed = {"sidecar", *self.own.templates, *self.allowed(pod).templates}
        if pod.ingress:
            allowed.add("gateway")
        if other := ports.others(requested, allowed):
            yield Occurrence(annotation(TEMPLATES), other)

    def _includes(self, pod: Pod, inits: Collection[Rules]) -> Iterator[Occurrence]:
        reason = "captures only the listed traffic"
        fix = "author: remove it; exclude single ports or ranges instead, which an admin can allow"
        for key, flag, default in (
            ("includeInboundPorts", "-b", "includeInboundPorts"),
            ("includeOutboundIPRanges", "-i", "includeIPRanges"),
        ):
            if key == "includeInboundPorts" and pod.ingress:
                continue  # its clients are outside the mesh
            requested = pod.annotations.get(TRAFFIC + key, "*").strip()
            if requested != "*":
                yield Occurrence(annotation(TRAFFIC + key), (f'"{requested}"',), reason, fix)
            for init in inits:
                given = init.flags.get(flag, "").strip()
                if given != "*" and not (pod.new and given == requested):
                    yield Occurrence(
                        init.placed.field("args"), (f'{flag} "{given}"',), reason,
                        f'mesh\'s admin: set values.global.proxy.{default} to "*"'
                        if given else _TO_INJECTOR,
                    )  # fmt: skip

    def _excludes(self, pod: Pod, inits: Collection[Rules]) -> Iterator[Occurrence]:
        allow = self.allowed(pod)
        for key, flag, allowed in (
            ("excludeInboundPorts", "-d", self._inbound + allow.inbound),
            ("excludeOutboundPorts", "-o", self._outbound + allow.outbound),
        ):
            requested = ports.beyond(pod.annotations.get(TRAFFIC + key, ""), allowed)
            if requested:
                yield Occurrence(annotation(TRAFFIC + key), requested)
            yield from self._more(pod, inits, flag, frozenset(requested), allowed)
        # Port 0 disables the agent's own port.
        if port := ports.beyond(pod.annotations.get(STATUS_PORT, ""), ((0, 0), *self._inbound)):
            yield Occurrence(
                annotation(STATUS_PORT), port, "is excluded from inbound capture", EXEMPT
            )
        subnets = {*self.own.exclude_outbound_ip_ranges, *allow.subnets}
        for key, flag, fix in (
            ("excludeOutboundIPRanges", "-x", ""),
            ("excludeInterfaces", "-c", EXEMPT),
        ):
            requested = ports.others(pod.annotations.get(TRAFFIC + key, ""), subnets)
            if requested:
                yield Occurrence(annotation(TRAFFIC + key), requested, fix=fix)
            known = {*subnets, *requested} if pod.new else subnets
            for init in inits:
                if more := ports.others(init.flags.get(flag, ""), known):
                    yield Occurrence(init.placed.field("args"), more,
                                     f"excludes traffic from capture with {flag}", fix)  # fmt: skip

    def _more(
        self, pod: Pod, inits: Collection[Rules], flag: str, requested: frozenset[str],
        allowed: ports.Ranges,
    ) -> Iterator[Occurrence]:  # fmt: skip
        """Yield the ports that a flag excludes in addition to the annotation's, `requested`."""
        for init in inits:
            given = injected.excluded(init, flag, allowed)
            if more := tuple(part for part in given if not (pod.new and part in requested)):
                which = "Inbound" if flag == "-d" else "Outbound"
                yield Occurrence(
                    init.placed.field("args"),
                    more,
                    f"excludes ports from capture with {flag}",
                    f"mesh's admin: add the mesh's own to settings.istio.exclude{which}Ports",
                )

    def identity_clashes(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield containers that run as the proxy's user or group (analyzer IST0144).

        A proxy that runs as root, for TPROXY or low ports, is excluded by its group, because no
        rule names root (cni/pkg/plugin/sidecar_redirect.go). In OpenShift, each namespace has its
        own range of user numbers. Such a number is fine if every other container sets a different
        one.
        """
        if self.is_infrastructure(pod):
            return
        yield from self.proven(pod, USER)
        users = (pod.proof or self.proofs.of(pod)).users
        for key, number in users.own:
            yield from sidecars.unproven(pod, key, number, "settings.istio.proxyUid")
        yield from sidecars.clashes(pod, users.uids, users.gids)

    def users(self, pod: Pod) -> Users:
        """Return the users that are not captured: those of the mesh, the proxy and istio-init."""
        return self._users(pod)[0]

    def _users(self, pod: Pod) -> tuple[Users, list[Occurrence]]:
        """Return the users that are not captured, and what is wrong with them."""
        ours = self.own.proxy_uid
        users = set() if ours is None else {ours}
        groups = set(users)  # istio-init uses the user's number for the group too
        own: list[tuple[str, int]] = []
        wrong: list[Occurrence] = []
        if pod.proxy:
            context = pod.proxy.container.security_context
            uid = context.run_as_user if context else None
            gid = context.run_as_group if context else None
            if ours is not None and uid is None:
                wrong.append(Occurrence(
                    pod.proxy.field("securityContext.runAsUser"), ("unset",),
                    f"is not {ours}, the user whose traffic is not captured",
                    "author: let Istio's injector add istio-proxy; on OpenShift, mesh's admin: set "
                    "settings.istio.proxyUid: null",
                ))  # fmt: skip
            for key, number, taken in (("runAsUser", uid, users), ("runAsGroup", gid, groups)):
                if number and number != ours:
                    taken.add(number)
                    if ours is not None:
                        own.append((key, number))
            groups |= users - ({0} if uid == 0 else set())
        for rules in _rules(pod):
            passing, unexpected = injected.passing(rules)
            if others := [*map(str, sorted(passing - groups)), *unexpected]:
                wrong.append(Occurrence(
                    rules.placed.field("args"), tuple(others),
                    "excludes other users or groups from capture than the proxy's",
                    f"author: let Istio's injector add {rules.placed.name}",
                ))  # fmt: skip
            users |= passing
            groups |= passing
        return Users(frozenset(users), frozenset(groups), tuple(own)), wrong

    def mtls_disabled(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the label that tells peers that the pod uses mTLS (service.go)."""
        mode = pod.labels.get(TLS_MODE)
        if mode is not None and mode != "istio" and not self._was_ours(pod):
            yield Occurrence(label(TLS_MODE), (mode,))

    def overridden_env(self, pod: Pod) -> Sequence[Occurrence]:
        """Return variables that other webhooks add to Istio's containers or that are expanded."""
        return () if self.is_infrastructure(pod) else self.proven(pod, OVERRIDDEN)

    def _metrics(self, proxy: Placed) -> Iterator[Occurrence]:
        """Yield scrape annotations that are not allowed. The injector keeps them in a variable."""
        assert self.annotations is not None  # noqa: S101 - set above
        given = proxy.env.get(_PROMETHEUS) or "{}"
        for key, value in listed.prometheus(given).items():
            problem = self.annotations.problem(f"prometheus.io/{key}", value, submitted=True)
            if problem:
                yield Occurrence(
                    proxy.field(f"env[{_PROMETHEUS}]"),
                    (value,),
                    f"makes the agent, whose traffic is not captured, call another address: {key} "
                    f"{problem.reason}",
                    f"author: set prometheus.io/{key} to a plain value",
                )

    def foreign_control_plane(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield addresses of another istiod than the cluster's."""
        if self.is_infrastructure(pod):
            return
        yield from sidecars.moved_names(
            pod, self.own.control_plane_hosts, self.own.control_plane_namespace
        )
        yield from self.proven(pod, CONTROL_PLANE)

    def _control_plane_env(self, proxy: Placed) -> Iterator[Occurrence]:
        env = proxy.env
        injected = proxyconfig.parse(env.get("PROXY_CONFIG")) or {}
        for name, found in (
            ("PROXY_CONFIG", injected.get("discoveryAddress")), ("CA_ADDR", env.get("CA_ADDR")),
        ):  # fmt: skip
            if found is not None and not self.is_istiod(str(found)):
                yield Occurrence(proxy.field(f"env[{name}]"), (str(found),), "",
                                 "author: remove it; mesh's admin: name its host in "
                                 "settings.istio.controlPlaneHosts")  # fmt: skip

    def exposed_identity(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield mounts of the proxy's token, key, sockets and bootstrap."""
        yield from sidecars.mounts(pod, IDENTITY_VOLUMES)
        yield from sidecars.mounts(
            pod, STATE_VOLUMES, "lets the container change what the proxy runs"
        )

    def forged_status(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the injector's own status without its proxy."""
        if pod.final and STATUS in pod.annotations and pod.proxy is None:
            yield Occurrence(annotation(STATUS))

    def opt_in_removed(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield each label that tells peers to use mTLS. istiod reads them from running pods.

        ztunnel sends HBONE to a sidecar only while the second one is `http`
        (serviceregistry/ambient/workloads.go setTunnelProtocol).
        """
        old = pod.old
        if old is None:
            return
        for key, value in ((TLS_MODE, "istio"), (TUNNEL, "http")):
            now = pod.labels.get(key)
            if old.labels.get(key) == value != now:
                yield Occurrence(label(key), (f"{value} -> {now or 'removed'}",))

    def late_proxy(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield init containers before a native proxy, or all of them with a classic one."""
        return sidecars.before_proxy(pod, INIT, {NATIVE})

    def lasting_before_rules(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield init containers that keep running and start before the one that sets the rules."""
        return sidecars.before_rules(pod, INIT)

    def _was_ours(self, pod: Pod) -> bool:
        return pod.old is not None and pod.old.labels.get(TLS_MODE) == "istio"

    def is_istiod(self, address: str) -> bool:
        """Return whether an address is the cluster's istiod, or a host in the settings."""
        host = address.rpartition(":")[0] or address
        return host in self.own.control_plane_hosts or sidecars.is_service_in(
            address, self.own.control_plane_namespace, self.settings.cluster_domain
        )


def leave_linkerd(pod: Pod) -> Iterator[Want]:
    """Yield the annotation that keeps Linkerd's injector away from a formerly Linkerd pod.

    An admin sets the namespace's label, so it decides to which mesh the pods belong. An opt-in by
    label is not changed, and the pod is denied, because a controller may select its pods by this
    label.
    """
    if pod.annotations.get(_LINKERD_INJECT) in ("enabled", "ingress"):
        yield Want("annotations", _LINKERD_INJECT, "disabled")


def _rules(pod: Pod) -> list[Rules]:
    """Return the arguments of the mesh's init containers that concern redirection rules."""
    return [injected.rules(one) for one in pod.mesh_containers if one.name != PROXY]


def _forged(pod: Pod, proxy: Placed) -> Iterator[Occurrence]:
    for placed in pod.mesh_containers:
        yield from injected.own_programs(placed)
        if placed.name == PROXY and placed is not proxy:
            yield Occurrence(placed.field("name"), (PROXY,), "is a second proxy")
    role = tuple((proxy.container.args or ())[:2])
    if role != ("proxy", "sidecar"):
        yield Occurrence(proxy.field("args"), (" ".join(role)[:80] or "none",),
                         "does not run the proxy as a sidecar")  # fmt: skip
    if proxy.kind == "initContainers" and proxy.container.restart_policy != "Always":
        yield Occurrence(
            proxy.field("restartPolicy"), reason="makes the proxy end before the app starts"
        )
    if pod.mesh_named.keys() == {PROXY}:
        yield Occurrence(
            "spec.initContainers",
            reason=f"has no {INIT} or {VALIDATION}, so no traffic is redirected",
        )


def _reroutes(pod: Pod, inits: Collection[Rules]) -> Iterator[Occurrence]:
    reason = "makes inbound traffic count as outbound traffic"
    requested = {key: pod.annotations[key] for key in REROUTES if pod.annotations.get(key)}
    for key, value in requested.items():
        yield Occurrence(annotation(key), (value,), reason, EXEMPT)
    for init in inits:
        given = init.flags.get("-k")
        if given and not (pod.new and given in requested.values()):
            yield Occurrence(init.placed.field("args"), (f"-k {given}",), reason, _TO_INJECTOR)


MESH = Istio
