"""Linkerd: opt in by annotation, evidence of the injected proxy, and the ways round it.

Sources are paths in linkerd2 at edge-26.8.3 unless said otherwise.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from webhook.policy import ports, sidecars
from webhook.policy.containers import LOADER_ENV, covers_programs, hooks, number
from webhook.policy.images import repository
from webhook.policy.meshes import Level, Mesh, Spot, Want, annotation, label
from webhook.policy.objects import Container
from webhook.policy.settings import Settings
from webhook.policy.workload import Placed, Pod

INJECT = "linkerd.io/inject"
CONTROL_PLANE_NS = "linkerd.io/control-plane-ns"
CONFIG = "config.linkerd.io/"
NATIVE = CONFIG + "proxy-enable-native-sidecar"
#: Oldest name of the above, still read by every version since 2.15; newer ones know both.
NATIVE_ALPHA = "config.alpha.linkerd.io/proxy-enable-native-sidecar"
NATIVE_BETA = "config.beta.linkerd.io/proxy-enable-native-sidecar"
INBOUND_POLICY = CONFIG + "default-inbound-policy"
SKIP_SUBNETS = CONFIG + "skip-subnets"
PROXY_IMAGE = CONFIG + "proxy-image"
ADDITIONAL_ENV = CONFIG + "proxy-additional-env"
DISABLE_IDENTITY = CONFIG + "disable-identity"

PROXY, INIT, VALIDATOR = "linkerd-proxy", "linkerd-init", "linkerd-network-validator"
#: Where each of Linkerd's own containers may stand (charts/patch/templates/patch.json). The debug
#: sidecar is judged as the app's: it is a shell that anyone may ask for by annotation.
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATOR: ("initContainers",),
}
#: Images on which the injector skips a pod, whatever their container is called
#: (pkg/healthcheck/sidecar.go).
_SKIPPED_IMAGES = (
    "cr.l5d.io/linkerd/proxy:",
    "cr.l5d.io/linkerd/proxy-init:",
    "gcr.io/istio-release/proxyv2:",
    "gcr.io/istio-release/proxy_init:",
)
#: What they run; an older proxy-init image brings its command with it.
_COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    PROXY: ((),),
    INIT: ((), ("/usr/lib/linkerd/linkerd2-proxy-init",)),
    VALIDATOR: (("/usr/lib/linkerd/linkerd2-network-validator",),),
}
#: The injector's own hooks wait, for the proxy or before its end; the former could do more.
_AWAIT, _SLEEP = "/usr/lib/linkerd/linkerd-await", ("/bin/sleep", "sleep")
#: Values of the inject annotation that opt in (pkg/inject/report.go); `disabled` opts out, and
#: any other value makes the injector skip the pod without a word.
_OPT_IN = ("enabled", "ingress")
_IDENTITY_VOLUME = "linkerd-identity-end-entity"
_TOKEN_VOLUME = "linkerd-identity-token"  # noqa: S105 - the name of a volume

#: Labels that the injector's objectSelector excludes, whatever their value (values.yaml).
_INJECTOR_BYPASSES = ("linkerd.io/control-plane-component", "linkerd.io/cni-resource")

#: What the proxy needs to have an identity, and so mTLS at all (charts/partials/_proxy.tpl).
_IDENTITY_ENV = ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "LINKERD2_PROXY_IDENTITY_SVC_ADDR")
_CONTROL_PLANE_ENV = (
    "LINKERD2_PROXY_DESTINATION_SVC_ADDR",
    "LINKERD2_PROXY_POLICY_SVC_ADDR",
    "LINKERD2_PROXY_IDENTITY_SVC_ADDR",
)
#: Variables of the proxy that change nothing about what is encrypted.
_HARMLESS_ENV = (
    "LINKERD2_PROXY_LOG",
    "LINKERD2_PROXY_LOG_FORMAT",
    "LINKERD2_PROXY_CORES",
    "LINKERD2_PROXY_CORES_MIN",
    "LINKERD2_PROXY_CORES_MAX",
    "LINKERD2_PROXY_CORES_MAX_RATIO",
    "LINKERD2_PROXY_ACCESS_LOG",
    "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD",
)
#: The proxy reads these; the rest of its environment is anyone's.
_GUARDED_ENV = ("LINKERD2_PROXY_", "_pod_", "_l5d_", "LD_")
#: Default inbound policies that take in no client without a mesh identity (cli/cmd/doc.go); an
#: unknown one is ignored by the policy controller, so that the mesh's default holds.
CLOSED_POLICIES = ("all-authenticated", "cluster-authenticated", "deny")
#: Annotations that end up in the ports that linkerd-init does not redirect: it leaves the proxy's
#: own control and admin ports alone, and a proxy without tap serves nothing on the former.
_SKIP_ANNOTATIONS = {
    "inbound": (CONFIG + "skip-inbound-ports", CONFIG + "control-port", CONFIG + "admin-port"),
    "outbound": (CONFIG + "skip-outbound-ports",),
}
#: All arguments that the injector gives linkerd-init (charts/partials/templates/_proxy-init.tpl).
#: Others, --simulate, --ports-to-redirect or --help, make it redirect little or nothing.
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
#: The programs that linkerd-init may set rules with: ip6tables alone would leave IPv4 alone.
_FIREWALLS = {
    "--firewall-bin-path": ("iptables", "iptables-legacy", "iptables-nft"),
    "--firewall-save-bin-path": ("iptables-save", "iptables-legacy-save", "iptables-nft-save"),
}
#: linkerd-init's flag -> the proxy's variable that must agree with it, and the proxy's default
#: (linkerd2-proxy linkerd/app/src/env.rs).
_PORTS = {
    "--incoming-proxy-port": ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "0.0.0.0:4143"),
    "--outgoing-proxy-port": ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"),
}


class Linkerd(Mesh):
    """Linkerd with its proxy injector; native or classic sidecar, linkerd-init or CNI plugin."""

    name = "linkerd"
    proxy_name = PROXY

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.own = settings.linkerd
        self._images = {
            PROXY: self.own.proxy_images,
            INIT: [*self.own.proxy_images, *self.own.init_images],
            VALIDATOR: [*self.own.proxy_images, *self.own.init_images],
        }
        #: User and group: their annotation, linkerd-init's flag for them, and what they should be.
        self._users = [
            (who, f"{CONFIG}proxy-{who}", f"--proxy-{who}", None if ours is None else str(ours))
            for who, ours in (("uid", self.own.proxy_uid), ("gid", self.own.proxy_gid))
        ]
        #: Direction -> the ports that may be skipped.
        self._skips = {
            "inbound": ports.parse(self.own.skip_inbound_ports)[0],
            "outbound": ports.parse(self.own.skip_outbound_ports)[0],
        }

    def claims(self, placed: Placed) -> bool:
        """Linkerd's containers are known by name and place."""
        return placed.kind in _PLACES.get(placed.name, ())

    def opt_in(self, pod: Pod, *, task: bool) -> Iterator[Want]:
        """Annotations alone: inject, a native sidecar for what must end, the inbound policy."""
        value = pod.annotations.get(INJECT)
        out = value == "disabled"
        if out and self.settings.opt_out == "deny":
            return
        if value not in _OPT_IN:
            yield Want("annotations", INJECT, "enabled")
        # Both names, or a build pod would never end on Linkerd 2.15 to 2.19.
        if task and not any(key in pod.annotations for key in (NATIVE, NATIVE_BETA, NATIVE_ALPHA)):
            yield Want("annotations", NATIVE, "true")
            yield Want("annotations", NATIVE_ALPHA, "true")
        wanted = self.own.inbound_policy
        if wanted and INBOUND_POLICY not in pod.annotations and not pod.ingress:
            yield Want("annotations", INBOUND_POLICY, wanted)

    def opt_outs(self, pod: Pod) -> Iterator[Spot]:
        """`disabled`, and on a stored pod any value that the injector does not know.

        A template's other values are mended when its pods are born.
        """
        value = pod.annotations.get(INJECT)
        if not value or value in _OPT_IN:
            return
        if pod.final or (value == "disabled" and self.settings.opt_out == "deny"):
            yield Spot(annotation(INJECT), (value,))

    def injector_bypasses(self, pod: Pod) -> Iterator[Spot]:
        """Labels by which the API server does not even ask the injector."""
        for key in _INJECTOR_BYPASSES:
            if key in pod.labels:
                yield Spot(label(key))

    def missing(self, pod: Pod) -> Iterator[Spot]:
        """No container is the proxy, in either list."""
        if pod.proxy is None:
            yield Spot("spec.initContainers", reason="has no linkerd-proxy container")

    def forgeries(self, pod: Pod) -> Iterator[Spot]:
        """The name linkerd-proxy without what makes it one; the injector skips on the name."""
        proxy = pod.proxy
        if proxy is None:
            yield from self._misleading(pod)
            return
        for placed in pod.mesh_containers:
            yield from self._own_programs(placed)
        if proxy.container.args:
            yield Spot(proxy.field("args"), reason="gives the proxy arguments of its own")
        if proxy.kind == "initContainers" and proxy.container.restart_policy != "Always":
            yield Spot(
                proxy.field("restartPolicy"), reason="is an init container, gone before the app"
            )
        if not any(placed.name in (INIT, VALIDATOR) for placed in pod.mesh_containers):
            yield Spot(
                "spec.initContainers",
                reason="has no linkerd-init or linkerd-network-validator: nothing is redirected",
            )
        if not self._has_identity_volume(pod, proxy):
            yield Spot("spec.volumes", reason=f"has no {_IDENTITY_VOLUME} volume for the proxy")
        if CONTROL_PLANE_NS not in pod.labels and not self._was_ours(pod):
            yield Spot(
                label(CONTROL_PLANE_NS), reason="is missing, so peers speak plaintext to the pod"
            )

    def _misleading(self, pod: Pod) -> Iterator[Spot]:
        """What makes the injector take a pod without a proxy for one that has it."""
        skips = "so that Linkerd's injector skips the pod"
        for placed in pod.containers:
            if placed.name == INIT and placed.kind == "initContainers":
                yield Spot(placed.field("name"), reason=f"is named {INIT}, {skips}")
            elif (placed.container.image or "").startswith(_SKIPPED_IMAGES):
                yield Spot(placed.field("image"), reason=f"is the mesh's own, {skips}",
                           fix="remove the container, or take the image from a mirror")  # fmt: skip

    def _own_programs(self, placed: Placed) -> Iterator[Spot]:
        """Ways to make a container of Linkerd's run something else than its program, or not end."""
        container = placed.container
        if tuple(container.command or ()) not in _COMMANDS[placed.name]:
            yield Spot(placed.field("command"), reason="runs a command of its own")
        if placed.name != PROXY and container.restart_policy:
            yield Spot(placed.field("restartPolicy"),
                       reason="lets the pod start although the container fails")  # fmt: skip
        for field, command in hooks(container):
            if not _only_waits(command):
                yield Spot(placed.field(field), reason="runs a command of its own")
        for index, mount in enumerate(container.volume_mounts or ()):
            if covers_programs(mount.mount_path):
                yield Spot(placed.field(f"volumeMounts[{index}]"), (mount.mount_path,),
                           "puts a volume over the container's programs")  # fmt: skip

    def untrusted_images(self, pod: Pod) -> Iterator[Spot]:
        """Images of Linkerd's containers, or those asked for by annotation."""
        for placed in pod.mesh_containers:
            if not self._trusts(placed.container):
                yield Spot(placed.field("image"), (placed.container.image or "none",))
        asked = pod.annotations.get(PROXY_IMAGE)
        if asked and pod.proxy is None and repository(asked) not in self.own.proxy_images:
            yield Spot(annotation(PROXY_IMAGE), (asked,))

    def capture_bypasses(self, pod: Pod) -> Iterator[Spot]:
        """Skipped ports and subnets, ingress mode, and a linkerd-init that does not do its work.

        With the CNI plugin the annotations are all there is; else linkerd-init's arguments, which
        also show what a namespace's annotation or the mesh's settings add.
        """
        init, given, odd = self._init(pod)
        allow = self.allowed(pod)
        for direction, ours in self._skips.items():
            allowed = ours + (allow.inbound if direction == "inbound" else allow.outbound)
            flag, annotated = f"--{direction}-ports-to-ignore", False
            for key in _SKIP_ANNOTATIONS[direction]:
                text = pod.annotations.get(key)
                if text and (past := ports.beyond(text, allowed)):
                    annotated = True
                    yield Spot(annotation(key), past)
            text = given.get(flag)
            if init and text and not annotated and (past := ports.beyond(text, allowed)):
                yield Spot(
                    init.field("args"),
                    past,
                    f"skips ports by {flag}",
                    f"remove {CONFIG}skip-{direction}-ports from the namespace; if they are the "
                    f"mesh's default, name them in settings.linkerd.skip{direction.title()}Ports",
                )
        subnets = pod.annotations.get(SKIP_SUBNETS)
        told = given.get("--subnets-to-ignore")
        if subnets and (past := self._foreign_subnets(subnets, allow.subnets)):
            yield Spot(annotation(SKIP_SUBNETS), past)
        elif init and told and (past := self._foreign_subnets(told, allow.subnets)):
            yield Spot(init.field("args"), past, "skips subnets by --subnets-to-ignore")
        yield from self._ingress_mode(pod)
        if init and pod.proxy:
            yield from self._hollow_init(init, given, odd, pod.proxy)
        elif pod.proxy:
            yield from self._blind_validator(pod)

    def _ingress_mode(self, pod: Pod) -> Iterator[Spot]:
        if pod.ingress:
            return
        fix = f"set {INJECT}: enabled; ingress mode is for ingress controllers"
        reason = "routes by a header that the client sets (ingress mode)"
        if pod.annotations.get(INJECT) == "ingress":
            yield Spot(annotation(INJECT), (), reason, fix)
        elif pod.proxy and pod.proxy.env.get("LINKERD2_PROXY_INGRESS_MODE") == "true":
            yield Spot(pod.proxy.field("env[LINKERD2_PROXY_INGRESS_MODE]"), (), reason, fix)

    def _init(self, pod: Pod) -> tuple[Placed | None, Mapping[str, str], tuple[str, ...]]:
        """linkerd-init, where the pod has it, with its flags and its odd arguments."""
        init = next((placed for placed in pod.mesh_containers if placed.name == INIT), None)
        return (init, *init.flags(_INIT_FLAGS)) if init else (None, {}, ())

    def _hollow_init(
        self, init: Placed, given: Mapping[str, str], odd: tuple[str, ...], proxy: Placed
    ) -> Iterator[Spot]:
        fix = f"let Linkerd's injector make {INIT}"
        if odd:
            yield Spot(init.field("args"), odd,
                       "has arguments that can keep it from redirecting", fix)  # fmt: skip
        for flag, programs in _FIREWALLS.items():
            if flag in given and given[flag] not in programs:
                yield Spot(init.field("args"), (f"{flag} {given[flag]}",),
                           "sets no firewall rules", fix)  # fmt: skip
        variables = proxy.env
        for flag, (variable, default) in _PORTS.items():
            port = given.get(flag)
            listens = variables.get(variable, default).rpartition(":")[2]
            if port is None or port != listens or not number(port):
                yield Spot(init.field("args"), (f"{flag} {port or 'missing'}",),
                           "redirects to another port than the proxy's", fix)  # fmt: skip

    def _blind_validator(self, pod: Pod) -> Iterator[Spot]:
        """With the CNI plugin nothing in the pod redirects; the validator proves that it is done.

        It connects to a port on which nothing of its own listens, and hears itself only if that is
        redirected. The plugin's ports are the node's: it does not read the pod's annotations.
        """
        for key in (CONFIG + "inbound-port", CONFIG + "outbound-port"):
            if key in pod.annotations:
                yield Spot(annotation(key), (pod.annotations[key],),
                           "moves the proxy away from where the CNI plugin redirects to",
                           "remove the annotation")  # fmt: skip
        for placed in pod.mesh_containers:
            if placed.name != VALIDATOR:
                continue
            given, odd = placed.flags(_VALIDATOR_FLAGS)
            connects, listens = (
                given.get(flag, "").rpartition(":")[2]
                for flag in ("--connect-addr", "--listen-addr")
            )
            if odd or connects == listens:
                yield Spot(placed.field("args"), odd,
                           "can't tell whether traffic is redirected",
                           f"let Linkerd's injector make {VALIDATOR}")  # fmt: skip

    def identity_clashes(self, pod: Pod) -> Iterator[Spot]:
        """The firewall lets the proxy's own user out unproxied: nobody else may be that user."""
        init, given, _ = self._init(pod)
        taken: list[set[int]] = []
        for who, key, flag, expected in self._users:
            asked, passes = pod.annotations.get(key), given.get(flag)
            if asked is not None and asked.strip() != expected:
                yield Spot(annotation(key), (asked,), f"changes the {who} that is not captured",
                           f"remove the annotation, or {_whole(who)}")  # fmt: skip
            elif init and pod.proxy and passes != expected:
                yield Spot(init.field("args"), (f"{flag} {passes or 'missing'}",),
                           f"lets another {who} past the proxy than the mesh's",
                           f"let Linkerd's injector make {INIT}, or {_whole(who)}")  # fmt: skip
            numbers = (number(text) for text in (expected, asked, passes) if text)
            taken.append(set().union(*numbers))
        uids, gids = taken
        if pod.proxy:
            context = pod.proxy.container.security_context
            uid = context.run_as_user if context else None
            if uid not in uids:
                shown = "unset" if uid is None else str(uid)
                yield Spot(pod.proxy.field("securityContext.runAsUser"), (shown,),
                           f"is not {self.own.proxy_uid}, the user that is not captured",
                           "let Linkerd's injector make linkerd-proxy")  # fmt: skip
        yield from sidecars.clashes(pod, uids, gids)

    def mtls_disabled(self, pod: Pod) -> Iterator[Spot]:
        """A proxy without an identity has no mTLS (switch of Linkerd before 2.12 included)."""
        if pod.annotations.get(DISABLE_IDENTITY, "").lower() in ("1", "t", "true"):
            yield Spot(annotation(DISABLE_IDENTITY))
        if pod.proxy is None:
            return
        variables = pod.proxy.env
        for name in _IDENTITY_ENV:
            if not variables.get(name):
                yield Spot(pod.proxy.field(f"env[{name}]"), (), "is missing: no identity, no mTLS",
                           "let Linkerd's injector make linkerd-proxy")  # fmt: skip
        if "LINKERD2_PROXY_IDENTITY_DISABLED" in variables:
            yield Spot(pod.proxy.field("env[LINKERD2_PROXY_IDENTITY_DISABLED]"))

    def overridden_env(self, pod: Pod) -> Iterator[Spot]:
        """Variables given by annotation, twice, or from elsewhere: the last one wins."""
        named = _additional(pod.annotations.get(ADDITIONAL_ENV, ""))
        if named is None:
            yield Spot(annotation(ADDITIONAL_ENV), (), "can't be read, and may override anything",
                       "write it as a plain JSON list of variables")  # fmt: skip
        guarded = sorted(_guarded(named or ()))
        if guarded:
            yield Spot(annotation(ADDITIONAL_ENV), tuple(guarded))
        if pod.proxy is None:
            return
        for placed in pod.mesh_containers:
            if placed.container.env_from:
                yield Spot(placed.field("envFrom"))
            if loads := placed.variables.starting(LOADER_ENV):
                yield Spot(placed.field("env"), tuple(loads))
        if len(pod.proxy.env) != len(pod.proxy.variables.listed):
            names = [variable.name for variable in pod.proxy.variables.listed]
            again = {name for name, count in Counter(names).items() if count > 1}
            if twice := sorted(_guarded(again) - set(guarded)):
                yield Spot(pod.proxy.field("env"), tuple(twice))

    def elsewhere(self, pod: Pod) -> Iterator[Spot]:
        """Peers give TLS identities only to pods of their own control plane's label."""
        if pod.proxy is None:
            return  # the injector will set the label
        ours = self.own.control_plane_namespace
        named = pod.labels.get(CONTROL_PLANE_NS)
        if named is not None and named != ours and not self._was_ours(pod):
            yield Spot(label(CONTROL_PLANE_NS), (named,))
        variables = pod.proxy.env
        for name in _CONTROL_PLANE_ENV:
            address = variables.get(name)
            if address is not None and not sidecars.is_service_in(address, ours):
                yield Spot(pod.proxy.field(f"env[{name}]"), (address,))

    def exposed_identity(self, pod: Pod) -> Iterator[Spot]:
        """The private key and the token that the proxy proves its identity with."""
        return sidecars.mounts(pod, (_IDENTITY_VOLUME, _TOKEN_VOLUME))

    def forsaken(self, pod: Pod) -> Iterator[Spot]:
        """The control plane's label, and the inbound policy where the admin demands one.

        Read live: controller/api/destination/endpoint_translator.go,
        policy-controller/k8s/index/src/inbound/workload.rs.
        """
        if pod.old is None:
            return
        if self._was_ours(pod):
            now = pod.labels.get(CONTROL_PLANE_NS)
            if now != self.own.control_plane_namespace:
                before = self.own.control_plane_namespace
                yield Spot(label(CONTROL_PLANE_NS), (f"{before} -> {now or 'removed'}",))
        wanted = self.own.inbound_policy
        kept = pod.old.annotations.get(INBOUND_POLICY)
        policy = pod.annotations.get(INBOUND_POLICY)
        if wanted and kept == wanted and policy != kept:
            yield Spot(annotation(INBOUND_POLICY), (f"{kept} -> {policy or 'removed'}",))

    def late_proxy(self, pod: Pod) -> Iterator[Spot]:
        """Init containers before a native proxy, all of them beside a classic one."""
        return sidecars.before_proxy(pod)

    def plaintext_inbound(self, pod: Pod) -> Iterator[Spot]:
        """The annotation is read live and wins over what the proxy started with.

        Where the settings demand a policy that takes in no plaintext, an open one is refused.
        """
        wanted = self.own.inbound_policy
        if pod.ingress or (
            wanted and pod.old and pod.old.annotations.get(INBOUND_POLICY) == wanted
        ):
            return  # an update that loosens it is `forsaken`
        level: Level | None = None
        fix = ""
        if wanted in CLOSED_POLICIES:
            level, fix = "deny", f"set it to {wanted}, as settings.linkerd.inboundPolicy demands"
        policy = pod.annotations.get(INBOUND_POLICY)
        if policy is not None:
            if policy not in CLOSED_POLICIES:
                yield Spot(annotation(INBOUND_POLICY), (policy,), "", fix, level)
        elif pod.proxy:
            name = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"
            policy = pod.proxy.env.get(name, "")
            if policy not in CLOSED_POLICIES:
                yield Spot(pod.proxy.field(f"env[{name}]"), (policy,), "", fix, level)

    def ignored_labels(self, pod: Pod) -> Iterator[Spot]:
        """Linkerd reads annotations; Mendix's own guide shows them as labels."""
        for key in pod.labels:
            if key == INJECT or key.startswith(CONFIG):
                yield Spot(label(key))

    def _trusts(self, container: Container) -> bool:
        """Whether the image of one of Linkerd's containers comes from where it should."""
        return repository(container.image or "") in self._images[container.name]

    def _has_identity_volume(self, pod: Pod, proxy: Placed) -> bool:
        mounted = any(m.name == _IDENTITY_VOLUME for m in proxy.container.volume_mounts or ())
        return mounted and any(
            volume.name == _IDENTITY_VOLUME and volume.empty_dir is not None
            for volume in pod.spec.volumes or ()
        )

    def _was_ours(self, pod: Pod) -> bool:
        """Whether an update found our label on the pod: `forsaken` tells what became of it."""
        before = pod.old.labels.get(CONTROL_PLANE_NS) if pod.old else None
        return before == self.own.control_plane_namespace

    def _foreign_subnets(self, text: str, allowed: Collection[str]) -> tuple[str, ...]:
        known = {*self.own.skip_subnets, *allowed}
        parts = (part.strip() for part in text.split(","))
        return tuple(part for part in parts if part and part not in known)


def _whole(who: str) -> str:
    return f"set settings.linkerd.proxy{who.title()} for the whole mesh"


def _only_waits(command: list[str]) -> bool:
    if command[:1] == [_AWAIT]:
        return all(argument.startswith(("--timeout=", "--port=")) for argument in command[1:])
    return bool(command) and command[0] in _SLEEP


class _Pairs(tuple[tuple[str, object], ...]):
    """A JSON object, with every key as often as it was written."""


def _additional(text: str) -> Iterable[str] | None:
    """Names in the JSON list of the annotation; Linkerd ignores what it can't read.

    None where it nests deeper than can be read here. Go's decoder takes keys in any case and
    numbers of any length, and a null leaves what the same key said before; and so does this.
    """
    if not text:
        return ()
    try:
        listed = json.loads(text, object_pairs_hook=_Pairs, parse_int=str)
    except ValueError:
        return ()
    except RecursionError:
        return None
    if not isinstance(listed, list):
        return ()
    pairs = (pair for entry in listed if isinstance(entry, _Pairs) for pair in entry)
    return [name for key, name in pairs if key.lower() == "name" and isinstance(name, str)]


def _guarded(names: Iterable[str]) -> set[str]:
    return {n for n in names if n.startswith(_GUARDED_ENV) and n not in _HARMLESS_ENV}


MESH = Linkerd
