"""Linkerd: opt in by annotation, and evidence of the injected proxy.

Sources are paths in linkerd2 at edge-26.8.3 unless said otherwise.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from webhook.policy import sidecars
from webhook.policy.inputs import Inputs, forms
from webhook.policy.inputs import linkerd as listed
from webhook.policy.inputs.linkerd import CONFIG
from webhook.policy.mesh import (
    BYPASSED,
    CONTROL_PLANE,
    DISABLED,
    FORGED,
    IMAGE,
    OPEN,
    OVERRIDDEN,
    USER,
    Mesh,
    Occurrence,
    Want,
    annotation,
    label,
)
from webhook.policy.pod import ports
from webhook.policy.pod.containers import number
from webhook.policy.pod.images import repository
from webhook.policy.pod.workload import Placed, Pod, Source, Users
from webhook.policy.settings import Settings

INJECT = "linkerd.io/inject"
CONTROL_PLANE_NS = "linkerd.io/control-plane-ns"
NATIVE = CONFIG + "proxy-enable-native-sidecar"
#: The oldest name of the above. Every version since 2.15 reads it; newer ones read both.
NATIVE_ALPHA = "config.alpha.linkerd.io/proxy-enable-native-sidecar"
NATIVE_BETA = "config.beta.linkerd.io/proxy-enable-native-sidecar"
INBOUND_POLICY = CONFIG + "default-inbound-policy"

PROXY, INIT, VALIDATOR = "linkerd-proxy", "linkerd-init", "linkerd-network-validator"
#: The lists in which each of Linkerd's own containers may be (charts/patch/templates/patch.json).
#: The debug sidecar is judged as a container of the app, because anyone can request this shell by
#: annotation.
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATOR: ("initContainers",),
}
#: If a container has one of these images, the injector skips the pod, whatever the container's name
#: is (pkg/healthcheck/sidecar.go).
SKIPPED_IMAGES = (
    "cr.l5d.io/linkerd/proxy:",
    "cr.l5d.io/linkerd/proxy-init:",
    "gcr.io/istio-release/proxyv2:",
    "gcr.io/istio-release/proxy_init:",
)
#: The commands of these containers. An older proxy-init image brings its own command.
_COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    PROXY: ((),),
    INIT: ((), ("/usr/lib/linkerd/linkerd2-proxy-init",)),
    VALIDATOR: (("/usr/lib/linkerd/linkerd2-network-validator",),),
}
#: Values of the inject annotation that opt in (pkg/inject/report.go). `disabled` opts out. For any
#: other value, the injector skips the pod without a message.
OPT_IN = ("enabled", "ingress")
IDENTITY_VOLUME = "linkerd-identity-end-entity"
TOKEN_VOLUME = "linkerd-identity-token"  # noqa: S105 - the name of a volume
_XTABLES_LOCK, _PODINFO = "linkerd-proxy-init-xtables-lock", "linkerd-podinfo"

#: Labels that the injector's objectSelector excludes, with any value (values.yaml).
_INJECTOR_BYPASSES = ("linkerd.io/control-plane-component", "linkerd.io/cni-resource")

#: Prefixes of labels that were meant as annotations.
_MISTAKEN = (INJECT, CONFIG)
#: The variables without which the proxy has no identity, and so no mTLS
#: (charts/partials/_proxy.tpl).
_IDENTITY_ENV = ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "LINKERD2_PROXY_IDENTITY_SVC_ADDR")
_CONTROL_PLANE_ENV = (
    "LINKERD2_PROXY_DESTINATION_SVC_ADDR",
    "LINKERD2_PROXY_POLICY_SVC_ADDR",
    "LINKERD2_PROXY_IDENTITY_SVC_ADDR",
)
#: The variables to which the injector refers in other variables.
REFERRED = frozenset({
    "_pod_ns", "_pod_name", "_pod_nodeName", "_pod_sa", "_pod_uid", "_pod_ip",
    "_pod_containerName", "_l5d_ns", "_l5d_trustdomain",
})  # fmt: skip
#: Default inbound policies that accept no client without a mesh identity (cli/cmd/doc.go).
CLOSED_POLICIES = ("all-authenticated", "cluster-authenticated", "deny")
#: Annotations whose values become ports that linkerd-init does not redirect. These include the
#: proxy's own control and admin ports. A proxy without tap does not listen on the control port.
SKIP_ANNOTATIONS = {
    "inbound": (CONFIG + "skip-inbound-ports", CONFIG + "control-port", CONFIG + "admin-port"),
    "outbound": (CONFIG + "skip-outbound-ports",),
}
SKIP_SUBNETS = CONFIG + "skip-subnets"
USER_ANNOTATIONS = (CONFIG + "proxy-uid", CONFIG + "proxy-gid")
#: All arguments that the injector gives linkerd-init (charts/partials/templates/_proxy-init.tpl).
#: With others, like --simulate, --ports-to-redirect or --help, it redirects little or nothing.
_INIT_FLAGS = frozenset({
    "--firewall-bin-path", "--firewall-save-bin-path", "--iptables-mode", "--ipv6",
    "--incoming-proxy-port", "--outgoing-proxy-port", "--proxy-uid", "--proxy-gid",
    "--inbound-ports-to-ignore", "--outbound-ports-to-ignore", "--subnets-to-ignore",
    "--timeout-close-wait-secs", "--log-format", "--log-level",
})  # fmt: skip
#: The same for the network validator (_network-validator.tpl).
_VALIDATOR_FLAGS = frozenset(
    {"--log-format", "--log-level", "--connect-addr", "--listen-addr", "--timeout"}
)
#: The programs with which linkerd-init may set rules. ip6tables would set no rules for IPv4.
_FIREWALLS = {
    "--firewall-bin-path": ("iptables", "iptables-legacy", "iptables-nft"),
    "--firewall-save-bin-path": ("iptables-save", "iptables-legacy-save", "iptables-nft-save"),
}
#: For each flag of linkerd-init: the proxy's variables that must agree with it, and the proxy's
#: default (linkerd2-proxy linkerd/app/src/env.rs). The last variable overrides the others.
_LISTENS = {
    "--incoming-proxy-port": ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "0.0.0.0:4143"),
    "--outgoing-proxy-port": ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"),
}
_TO_INJECTOR = f"author: let Linkerd's injector add {INIT}"
_NO_INIT: Mapping[str, str] = {}


NO_PROXY = "has no linkerd-proxy container"


class _Init(NamedTuple):
    """linkerd-init, its flags and its unexpected arguments; empty with the CNI plugin."""

    placed: Placed | None
    given: Mapping[str, str]
    unexpected: tuple[str, ...]


class Linkerd(Mesh):
    """Linkerd with its proxy injector; native or classic sidecar, linkerd-init or CNI plugin."""

    name = "linkerd"
    proxy_name = PROXY
    inherits = True
    volume_names = frozenset({IDENTITY_VOLUME, TOKEN_VOLUME, _XTABLES_LOCK, _PODINFO})

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.own = settings.linkerd
        images = forms.one_of(*self.own.proxy_images)
        self.annotations = Inputs(
            self.name, listed.ANNOTATIONS, listed.READS, prefixes=listed.PREFIXES,
            own={CONFIG + "proxy-image": images}, allowed=self.own.annotations,
        )  # fmt: skip
        self.labels = Inputs(
            self.name, listed.LABELS, listed.READS_LABELS, allowed=self.own.annotations
        )
        self._trusted = {
            PROXY: self.own.proxy_images,
            INIT: [*self.own.proxy_images, *self.own.init_images],
            VALIDATOR: [*self.own.proxy_images, *self.own.init_images],
        }
        #: The ports that the settings allow to skip.
        self._skip_inbound = ports.parse(self.own.skip_inbound_ports)[0]
        self._skip_outbound = ports.parse(self.own.skip_outbound_ports)[0]
        #: For each flag of linkerd-init: the port to which the CNI plugin redirects.
        self._plugin = {
            "--incoming-proxy-port": str(self.own.inbound_port),
            "--outgoing-proxy-port": str(self.own.outbound_port),
        }

    def claims(self, placed: Placed) -> bool:
        """Return whether the container's name and list are those of a Linkerd container."""
        return placed.kind in _PLACES.get(placed.container.name, ())

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:
        """Yield the annotations: inject, native sidecar for task pods, inbound policy."""
        value = pod.annotations.get(INJECT)
        out = value == "disabled"
        if out and self.settings.opt_out == "deny":
            return
        if value not in OPT_IN:
            yield Want("annotations", INJECT, "enabled")
        # Set both names. Otherwise a build pod would never end on Linkerd 2.15 to 2.19.
        if task and not any(key in pod.annotations for key in (NATIVE, NATIVE_BETA, NATIVE_ALPHA)):
            yield Want("annotations", NATIVE, "true")
            yield Want("annotations", NATIVE_ALPHA, "true")
        wanted = self.own.inbound_policy
        if wanted and INBOUND_POLICY not in pod.annotations and not pod.ingress:
            yield Want("annotations", INBOUND_POLICY, wanted)

    def keep_out(self, pod: Pod) -> Iterator[Want]:
        """Yield the annotation that keeps the injector away."""
        if pod.annotations.get(INJECT) != "disabled":
            yield Want("annotations", INJECT, "disabled")

    def opt_outs(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the annotation if it is `disabled`, or on a stored pod any unknown value.

        A template's other values are fixed when its pods are created.
        """
        value = pod.annotations.get(INJECT)
        if not value or value in OPT_IN:
            return
        if pod.final or (value == "disabled" and self.settings.opt_out == "deny"):
            yield Occurrence(annotation(INJECT), (value,), *self.kept_out(pod))

    def injector_bypasses(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield labels that make the API server skip the injector."""
        for key in _INJECTOR_BYPASSES:
            if key in pod.labels:
                yield Occurrence(label(key))

    def missing(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the missing proxy if no container is the proxy."""
        if pod.proxy is None:
            yield Occurrence("spec.initContainers", reason=NO_PROXY)

    def prove(self, pod: Pod) -> Iterator[tuple[str, Occurrence]]:
        """Yield what is wrong with Linkerd's containers. The rest of the pod is ignored."""
        proxy = pod.proxy
        yield from ((IMAGE, occurrence) for occurrence in self._images_of(pod))
        if proxy is None:
            return
        init = self._init(pod)
        captures = (
            self._ineffective_init(init, init.placed, proxy)
            if init.placed
            else self._ineffective_validator(pod, proxy)
        )
        foreign = (sidecars.foreign_changes(placed, REFERRED) for placed in pod.mesh_containers)
        for check, occurrences in (
            (FORGED, self._forged(pod, proxy)),
            (BYPASSED, captures),
            (USER, self._wrong_user(pod, proxy)),
            (OPEN, self._opened(proxy)),
            (OVERRIDDEN, chain.from_iterable(foreign)),
            (DISABLED, _without_identity(proxy)),
            (CONTROL_PLANE, self._control_plane_env(proxy)),
        ):
            yield from ((check, occurrence) for occurrence in occurrences)

    def untrusted_images(self, pod: Pod) -> Iterable[Occurrence]:
        """Yield untrusted images of Linkerd's containers, other versions, and changed images."""
        return self._images_of(pod) if pod.old else self.proven(pod, IMAGE)

    def _images_of(self, pod: Pod) -> Iterator[Occurrence]:
        return sidecars.untrusted_images(
            pod, lambda one: repository(one.container.image or "") in self._trusted[one.name]
        )

    def _forged(self, pod: Pod, proxy: Placed) -> Iterator[Occurrence]:
        for placed in pod.mesh_containers:
            if tuple(placed.container.command or ()) not in _COMMANDS[placed.name]:
                yield Occurrence(placed.field("command"), reason="runs its own command")
            if placed.name != PROXY and placed.container.restart_policy:
                yield Occurrence(
                    placed.field("restartPolicy"),
                    reason="lets the pod start even if the container fails",
                )
        if proxy.container.args:
            yield Occurrence(
                proxy.field("args"),
                reason="passes arguments to the proxy, but the injector passes none",
            )
        context = proxy.container.security_context
        if context and context.privileged:
            yield Occurrence(proxy.field("securityContext.privileged"),
                             reason="runs the proxy as privileged, with full access to the "
                                    "node")  # fmt: skip
        if proxy.kind == "initContainers" and proxy.container.restart_policy != "Always":
            yield Occurrence(
                proxy.field("restartPolicy"), reason="makes the proxy end before the app starts"
            )
        if INIT not in pod.mesh_named and VALIDATOR not in pod.mesh_named:
            yield Occurrence(
                "spec.initContainers",
                reason="has no linkerd-init or linkerd-network-validator, so no traffic is "
                "redirected",
            )

    def _control_plane_env(self, proxy: Placed) -> Iterator[Occurrence]:
        ours = self.own.control_plane_namespace
        for name in _CONTROL_PLANE_ENV:
            address = proxy.env.get(name)
            if address is not None and not sidecars.is_service_in(
                address, ours, self.settings.cluster_domain
            ):
                yield Occurrence(
                    proxy.field(f"env[{name}]"), (address,), "",
                    "author: let the injector set it; mesh's admin: name yours in "
                    "settings.linkerd.controlPlaneNamespace and settings.clusterDomain",
                )  # fmt: skip

    def forgeries(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield evidence that linkerd-proxy is not the real proxy. Its name stops the injection."""
        proxy = pod.proxy
        if proxy is None:
            yield from self._misleading(pod)
            return
        yield from self.proven(pod, FORGED)
        # The proxy's key is created in an empty volume. Its token comes only from Kubernetes.
        source = pod.source(IDENTITY_VOLUME)
        mounts = proxy.container.volume_mounts or ()
        if source is None or source.field != "emptyDir" or not any(
            mount.name == IDENTITY_VOLUME for mount in mounts
        ):  # fmt: skip
            yield Occurrence(
                "spec.volumes", reason=f"has no {IDENTITY_VOLUME} volume for the proxy"
            )
        token = pod.source(TOKEN_VOLUME)
        if token is not None and not _is_token(token):
            yield Occurrence(f"spec.volumes[{TOKEN_VOLUME}]", (token.field,),
                             "is not the token that Kubernetes creates for the proxy")  # fmt: skip
        if CONTROL_PLANE_NS not in pod.labels and not self._was_ours(pod):
            yield Occurrence(
                label(CONTROL_PLANE_NS),
                reason="is missing, so other pods send plaintext to this pod",
            )

    def _misleading(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield what makes the injector skip a pod that has no proxy."""
        skips = "so Linkerd's injector skips the pod"
        for placed in pod.containers:
            if placed.name == INIT and placed.kind == "initContainers":
                yield Occurrence(placed.field("name"), reason=f"is named {INIT}, {skips}")
            elif (placed.container.image or "").startswith(SKIPPED_IMAGES):
                yield Occurrence(placed.field("image"), reason=f"is an image of the mesh, {skips}",
                                 fix="author: remove the container, or use the image from a "
                                     "mirror")  # fmt: skip

    def capture_bypasses(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield skipped ports and subnets, ingress mode, and an ineffective linkerd-init.

        With the CNI plugin, only the annotations count. Otherwise linkerd-init's arguments count.
        They also show what a namespace's annotation or the mesh's settings add.
        """
        init = self._init((pod.proof or self.proofs.of(pod)).pod)
        allow = self.allowed(pod)
        for direction, ours, more in (
            ("inbound", self._skip_inbound, allow.inbound),
            ("outbound", self._skip_outbound, allow.outbound),
        ):
            yield from self._skipped(pod, init, direction, ours + more if more else ours)
        if SKIP_SUBNETS in pod.annotations or "--subnets-to-ignore" in init.given:
            yield from self._skipped_subnets(pod, init, {*self.own.skip_subnets, *allow.subnets})
        yield from self._ingress_mode(pod)
        yield from self.proven(pod, BYPASSED)

    def _skipped(
        self, pod: Pod, init: _Init, direction: str, allowed: ports.Ranges
    ) -> Iterator[Occurrence]:
        annotated = False
        for key in SKIP_ANNOTATIONS[direction]:
            text = pod.annotations.get(key)
            if text and (past := ports.beyond(text, allowed)):
                annotated = True
                yield Occurrence(annotation(key), past)
        flag = f"--{direction}-ports-to-ignore"
        text = init.given.get(flag)
        if init.placed and text and not annotated and (past := ports.beyond(text, allowed)):
            yield Occurrence(
                init.placed.field("args"), past, f"skips ports with {flag}",
                f"namespace's owner: remove {CONFIG}skip-{direction}-ports from the namespace; "
                "mesh's admin: add the mesh's default to "
                f"settings.linkerd.skip{direction.title()}Ports",
            )  # fmt: skip

    def _skipped_subnets(self, pod: Pod, init: _Init, known: set[str]) -> Iterator[Occurrence]:
        for field, text, reason in (
            (annotation(SKIP_SUBNETS), pod.annotations.get(SKIP_SUBNETS), ""),
            (
                init.placed.field("args") if init.placed else "",
                init.given.get("--subnets-to-ignore"),
                "skips subnets with --subnets-to-ignore",
            ),
        ):
            if past := ports.others(text or "", known):
                yield Occurrence(field, past, reason)
                return

    def _ingress_mode(self, pod: Pod) -> Iterator[Occurrence]:
        if pod.ingress:
            return
        fix = f"author: set {INJECT}: enabled; ingress mode is only for ingress controllers"
        reason = "routes requests by a header that the client sets (ingress mode)"
        if pod.annotations.get(INJECT) == "ingress":
            yield Occurrence(annotation(INJECT), (), reason, fix)
            return
        proxy = (pod.proof or self.proofs.of(pod)).pod.proxy
        if proxy and proxy.env.get("LINKERD2_PROXY_INGRESS_MODE") == "true":
            yield Occurrence(proxy.field("env[LINKERD2_PROXY_INGRESS_MODE]"), (), reason, fix)

    def _init(self, pod: Pod) -> _Init:
        init = pod.mesh_named.get(INIT)
        return _Init(init, *init.flags(_INIT_FLAGS)) if init else _Init(None, _NO_INIT, ())

    def _ineffective_init(self, init: _Init, placed: Placed, proxy: Placed) -> Iterator[Occurrence]:
        for values, reason in _not_redirecting(init, proxy):
            yield Occurrence(placed.field("args"), values, reason, _TO_INJECTOR)

    def _ineffective_validator(self, pod: Pod, proxy: Placed) -> Iterator[Occurrence]:
        """Yield what stops the validator from proving that the CNI plugin redirects traffic.

        The validator connects to a port on which it does not listen. It reaches itself only if the
        connection is redirected. The plugin's ports are those of the node, because it does not read
        the pod's annotations.
        """
        for flag, (variable, default) in _LISTENS.items():
            listens = _ports(proxy, variable, default)
            if listens != {self._plugin[flag]}:
                way = "inbound" if "INBOUND" in variable else "outbound"
                yield Occurrence(
                    proxy.field(f"env[{variable}]"), tuple(sorted(listens)),
                    f"is not {self._plugin[flag]}, the port that the CNI plugin redirects to",
                    f"author: remove {CONFIG}{way}-port; mesh's admin: if the plugin uses another "
                    f"port, set settings.linkerd.{way}Port",
                )  # fmt: skip
        placed = pod.mesh_named.get(VALIDATOR)
        if placed is not None:
            given, unexpected = placed.flags(_VALIDATOR_FLAGS)
            connects, listens_on = (
                given.get(flag, "").rpartition(":")[2]
                for flag in ("--connect-addr", "--listen-addr")
            )
            if unexpected or connects == listens_on:
                yield Occurrence(placed.field("args"), unexpected,
                                 "cannot check whether traffic is redirected",
                                 f"author: let Linkerd's injector add {VALIDATOR}")  # fmt: skip

    def identity_clashes(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield containers that run as the proxy's user or group, which is not captured.

        In OpenShift, each namespace has its own range of user numbers. Such a number is fine if
        linkerd-init and the proxy agree, and every other container sets a different one.
        """
        yield from self._moved_user(pod)
        yield from self.proven(pod, USER)
        # In a template, linkerd-init and the proxy will get the number from the annotation.
        users = (pod.proof or self.proofs.of(pod)).users if pod.proxy else self.users(pod)
        for key, number_of in users.own:
            setting = f"settings.linkerd.proxy{'Uid' if key == 'runAsUser' else 'Gid'}"
            yield from sidecars.unproven(pod, key, number_of, setting)
        yield from sidecars.clashes(pod, users.uids, users.gids)

    def users(self, pod: Pod) -> Users:
        """Return users and groups that the firewall excludes: the mesh's and those of this pod."""
        init = self._init(pod)
        context = pod.proxy.container.security_context if pod.proxy else None
        numbers: list[frozenset[int]] = []
        own: list[tuple[str, int]] = []
        for key, short, expected, runs_as in (
            (
                "runAsUser",
                "proxy-uid",
                self.own.proxy_uid,
                context.run_as_user if context else None,
            ),
            (
                "runAsGroup",
                "proxy-gid",
                self.own.proxy_gid,
                context.run_as_group if context else None,
            ),
        ):
            requested = "" if pod.proxy else pod.annotations.get(CONFIG + short)
            let_out = init.given.get(f"--{short}") if init.placed else _text(runs_as)
            found = number(_text(expected))
            for text in {requested, let_out} - {None, "", _text(expected)}:
                others = number(str(text)[:_LONGEST_NUMBER])
                found |= others
                own += [(key, other) for other in others]
            numbers.append(found)
        return Users(numbers[0], numbers[1], tuple(own))

    def _wrong_user(self, pod: Pod, proxy: Placed) -> Iterator[Occurrence]:
        init, context = self._init(pod), proxy.container.security_context
        user = _text(context.run_as_user if context else None)
        past = init.given.get("--proxy-uid")
        if init.placed and (past != user or not number(user[:_LONGEST_NUMBER])):
            yield Occurrence(
                init.placed.field("args"),
                (f"--proxy-uid {past or 'missing'}",),
                f"excludes another user from capture than {user or 'unset'}, the user that "
                "the proxy runs as",
                _TO_INJECTOR,
            )
        elif not init.placed and user in ("", "0"):
            yield Occurrence(proxy.field("securityContext.runAsUser"), (user or "unset",),
                             f"is not {self.own.proxy_uid}, the user whose traffic is not captured",
                             f"author: let Linkerd's injector add {PROXY}")  # fmt: skip

    def _moved_user(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield user annotations that an update changes; the CNI plugin can read them later."""
        for key in USER_ANNOTATIONS if pod.old else ():
            before, now = (one and one.annotations.get(key) for one in (pod.old, pod))
            if before != now:
                yield Occurrence(
                    annotation(key),
                    (f"{before or 'unset'} -> {now or 'removed'}",),
                    "changes which user's traffic the CNI plugin does not capture",
                    "user or controller that updates it: keep the value; author: set it in "
                    "the pod "
                    "template",
                )

    def mtls_disabled(self, pod: Pod) -> Sequence[Occurrence]:
        """Return the settings that leave the proxy without an identity."""
        return self.proven(pod, DISABLED)

    def overridden_env(self, pod: Pod) -> Sequence[Occurrence]:
        """Return variables that other webhooks add to Linkerd's containers or that are expanded."""
        return self.proven(pod, OVERRIDDEN)

    def foreign_control_plane(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield labels and addresses of another control plane, which peers do not trust."""
        ours = self.own.control_plane_namespace
        yield from sidecars.moved_names(pod, (), ours)
        if pod.proxy is None:
            return  # the injector will set the label
        named = pod.labels.get(CONTROL_PLANE_NS)
        if named is not None and named != ours and not self._was_ours(pod):
            yield Occurrence(label(CONTROL_PLANE_NS), (named,))
        yield from self.proven(pod, CONTROL_PLANE)

    def exposed_identity(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield mounts of the proxy's private key and of its token."""
        return sidecars.mounts(pod, (IDENTITY_VOLUME, TOKEN_VOLUME))

    def opt_in_removed(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield the control plane's label, and the inbound policy if the settings require one.

        The control plane reads these from running pods:
        controller/api/destination/endpoint_translator.go,
        policy-controller/k8s/index/src/inbound/workload.rs.
        """
        if pod.old is None:
            return
        if self._was_ours(pod):
            now = pod.labels.get(CONTROL_PLANE_NS)
            if now != self.own.control_plane_namespace:
                before = self.own.control_plane_namespace
                yield Occurrence(label(CONTROL_PLANE_NS), (f"{before} -> {now or 'removed'}",))
        wanted = self.own.inbound_policy
        kept = pod.old.annotations.get(INBOUND_POLICY)
        policy = pod.annotations.get(INBOUND_POLICY)
        if wanted and kept == wanted and policy != kept:
            yield Occurrence(annotation(INBOUND_POLICY), (f"{kept} -> {policy or 'removed'}",))

    def late_proxy(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield init containers before a native proxy, or all of them with a classic one."""
        return sidecars.before_proxy(pod, INIT, {NATIVE, NATIVE_BETA, NATIVE_ALPHA})

    def lasting_before_rules(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield init containers that keep running and start before the one that sets the rules."""
        return sidecars.before_rules(pod, INIT)

    def plaintext_inbound(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield an open inbound policy, from the annotation or else from the variable.

        If the settings require a policy that is closed to plaintext, an open one is denied.
        """
        wanted = self.own.inbound_policy
        if pod.ingress or (
            wanted and pod.old and pod.old.annotations.get(INBOUND_POLICY) == wanted
        ):
            return  # `opt_in_removed` reports an update that opens it
        policy = pod.annotations.get(INBOUND_POLICY)
        if policy is not None:
            # An unknown value is reported by another check.
            if policy not in CLOSED_POLICIES and policy in listed.POLICIES:
                yield self._open(annotation(INBOUND_POLICY), policy)
        else:
            yield from self.proven(pod, OPEN)

    def _open(self, field: str, policy: str) -> Occurrence:
        wanted = self.own.inbound_policy
        if wanted not in CLOSED_POLICIES:
            return Occurrence(field, (policy,))
        fix = f"author: set it to {wanted}, as settings.linkerd.inboundPolicy requires"
        return Occurrence(field, (policy,), "", fix, "deny")

    def _opened(self, proxy: Placed) -> Iterator[Occurrence]:
        name = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"
        policy = proxy.env.get(name, "")
        if policy not in CLOSED_POLICIES:
            yield self._open(proxy.field(f"env[{name}]"), policy)

    def ignored_labels(self, pod: Pod) -> Iterator[Occurrence]:
        """Yield labels that are meant as annotations; Mendix's guide shows them as labels."""
        for key in pod.labels:
            if key.startswith(_MISTAKEN) and (key == INJECT or key.startswith(CONFIG)):
                yield Occurrence(label(key))

    def _was_ours(self, pod: Pod) -> bool:
        """Return whether the pod had our label before. `opt_in_removed` reports its change."""
        before = pod.old.labels.get(CONTROL_PLANE_NS) if pod.old else None
        return before == self.own.control_plane_namespace


#: The maximum length of a user's number, in characters.
_LONGEST_NUMBER = 64


def _not_redirecting(init: _Init, proxy: Placed) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what makes linkerd-init ineffective: the values and the reason of each."""
    if init.unexpected:
        yield init.unexpected, "has arguments that can stop it from redirecting traffic"
    for flag, programs in _FIREWALLS.items():
        program = init.given.get(flag)
        if program is not None and program not in programs:
            yield (f"{flag} {program}",), "sets no firewall rules"
    for flag, where in _LISTENS.items():
        port = init.given.get(flag)
        if port is None or not number(port) or _ports(proxy, *where) != {port}:
            yield (f"{flag} {port or 'missing'}",), "redirects to a port that is not the proxy's"


def _ports(proxy: Placed, variable: str, default: str) -> frozenset[str]:
    """Return the ports of a listener, from both of its variables or the default."""
    env = proxy.env
    one, several = env.get(variable), env.get(f"{variable}S")
    if one is None and several is None:
        return _listed_ports(default)
    if several is None or several == one:
        return _listed_ports((one or "")[:_LONGEST_ADDRESSES])
    return _listed_ports(several[:_LONGEST_ADDRESSES]) | (
        frozenset() if one is None else _listed_ports(one[:_LONGEST_ADDRESSES])
    )


def _listed_ports(text: str) -> frozenset[str]:
    return frozenset(address.strip().rpartition(":")[2] for address in text.split(","))


#: The maximum length of a list of addresses, in characters.
_LONGEST_ADDRESSES = 256


def _without_identity(proxy: Placed) -> Iterator[Occurrence]:
    """Yield variables that leave the proxy without an identity, and so without mTLS."""
    for name in _IDENTITY_ENV:
        if not proxy.env.get(name):
            yield Occurrence(
                proxy.field(f"env[{name}]"),
                (),
                "is missing, so the proxy has no identity and no mTLS",
                f"author: let Linkerd's injector add {PROXY}",
            )
    if "LINKERD2_PROXY_IDENTITY_DISABLED" in proxy.env:
        yield Occurrence(proxy.field("env[LINKERD2_PROXY_IDENTITY_DISABLED]"))


def _is_token(source: Source) -> bool:
    """Return whether a volume contains only the token of the pod's ServiceAccount."""
    return source.field == "projected" and bool(source.content.kinds == [{"serviceAccountToken"}])


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


MESH = Linkerd
