"""Linkerd: opt in by annotation, evidence of the injected proxy, and the ways round it.

Sources are paths in linkerd2 at edge-26.8.3 unless said otherwise.
"""

import json
from collections.abc import Iterable, Iterator

from webhook.policy import ports
from webhook.policy.images import repository
from webhook.policy.meshes import Mesh, Spot, Want, annotation, label
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
PROXY_IMAGE = CONFIG + "proxy-image"
PROXY_UID = CONFIG + "proxy-uid"
PROXY_GID = CONFIG + "proxy-gid"
ADDITIONAL_ENV = CONFIG + "proxy-additional-env"
DISABLE_IDENTITY = CONFIG + "disable-identity"

PROXY, INIT, VALIDATOR, DEBUG = (
    "linkerd-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-debug",
)
#: Where each of Linkerd's own containers may stand (charts/patch/templates/patch.json).
_PLACES = {
    PROXY: ("initContainers", "containers"),
    INIT: ("initContainers",),
    VALIDATOR: ("initContainers",),
    DEBUG: ("containers",),
}
#: What they run; an older proxy-init image brings its command with it.
_COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    PROXY: ((),),
    INIT: ((), ("/usr/lib/linkerd/linkerd2-proxy-init",)),
    VALIDATOR: (("/usr/lib/linkerd/linkerd2-network-validator",),),
}
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
#: Default inbound policies that take in clients without a mesh identity (cli/cmd/doc.go).
_LETS_PLAINTEXT_IN = ("all-unauthenticated", "cluster-unauthenticated", "audit")
#: Flags of linkerd-init that make it redirect less than everything, or nothing.
_HOLLOW_INIT_FLAGS = ("--simulate", "--ports-to-redirect", "-r", "--netns")
#: The programs that linkerd-init may set rules with.
_FIREWALLS = (
    "iptables", "iptables-legacy", "iptables-nft", "iptables-save", "iptables-legacy-save",
    "iptables-nft-save", "ip6tables", "ip6tables-legacy", "ip6tables-nft", "plain", "legacy",
    "nft",
)  # fmt: skip


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
            DEBUG: self.own.debug_images,
        }
        #: Direction -> the ports that may be skipped.
        self._skips = {
            "inbound": ports.parse(self.own.skip_inbound_ports)[0],
            "outbound": ports.parse(self.own.skip_outbound_ports)[0],
        }
        self._trusted: dict[tuple[str, str | None], bool] = {}

    def claims(self, placed: Placed) -> bool:
        """Linkerd's containers are known by name; a debug sidecar must be Linkerd's image too."""
        places = _PLACES.get(placed.name)
        if places is None or placed.kind not in places:
            return False
        return placed.name != DEBUG or self._trusts(placed.container)

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
        if self.own.inbound_policy and INBOUND_POLICY not in pod.annotations:
            yield Want("annotations", INBOUND_POLICY, self.own.inbound_policy)

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
        for placed in pod.mesh_containers:
            allowed = _COMMANDS.get(placed.name)
            if allowed is not None and tuple(placed.container.command or ()) not in allowed:
                yield Spot(placed.field("command"), reason="runs a command of its own")
        if proxy is None:
            for placed in pod.mesh_containers:
                if placed.name != DEBUG:
                    yield Spot(placed.field("name"), reason=f"is named {placed.name}, so that "
                               "Linkerd's injector skips the pod")  # fmt: skip
            return
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
        if CONTROL_PLANE_NS not in pod.labels:
            yield Spot(
                label(CONTROL_PLANE_NS), reason="is missing, so peers speak plaintext to the pod"
            )

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
        init = next((p for p in pod.mesh_containers if p.name == INIT), None)
        flags = _flags(init.container) if init else {}
        for direction, allowed in self._skips.items():
            key, flag = f"{CONFIG}skip-{direction}-ports", f"--{direction}-ports-to-ignore"
            asked = pod.annotations.get(key)
            if asked is not None and (past := ports.beyond(asked, allowed)):
                yield Spot(annotation(key), tuple(past))
            elif init and (past := ports.beyond(flags.get(flag, ""), allowed)):
                yield Spot(
                    init.field("args"),
                    tuple(past),
                    f"skips ports by {flag}",
                    f"remove {key} from the namespace; if they are the mesh's default, name them "
                    f"in settings.linkerd.skip{direction.title()}Ports",
                )
        subnets = pod.annotations.get(CONFIG + "skip-subnets")
        if subnets is not None and (past := self._foreign_subnets(subnets)):
            yield Spot(annotation(CONFIG + "skip-subnets"), tuple(past))
        elif init and (past := self._foreign_subnets(flags.get("--subnets-to-ignore", ""))):
            yield Spot(init.field("args"), tuple(past), "skips subnets by --subnets-to-ignore")
        yield from self._ingress_mode(pod)
        if init and pod.proxy:
            yield from self._hollow_init(init, flags, pod.proxy.container)

    def _ingress_mode(self, pod: Pod) -> Iterator[Spot]:
        if pod.ingress:
            return
        fix = f"set {INJECT}: enabled; ingress mode is for ingress controllers"
        reason = "routes by a header that the client sets (ingress mode)"
        if pod.annotations.get(INJECT) == "ingress":
            yield Spot(annotation(INJECT), (), reason, fix)
        elif pod.proxy and _env(pod.proxy.container).get("LINKERD2_PROXY_INGRESS_MODE") == "true":
            yield Spot(pod.proxy.field("env[LINKERD2_PROXY_INGRESS_MODE]"), (), reason, fix)

    def _hollow_init(self, init: Placed, flags: dict[str, str], proxy: Container) -> Iterator[Spot]:
        fix = "let Linkerd's injector make linkerd-init"
        for flag in _HOLLOW_INIT_FLAGS:
            if flag in flags:
                yield Spot(init.field("args"), (flag,), "redirects only part of the traffic", fix)
        for flag in ("--firewall-bin-path", "--firewall-save-bin-path"):
            if flag in flags and flags[flag] not in _FIREWALLS:
                yield Spot(init.field("args"), (flags[flag],), "sets no firewall rules", fix)
        env = _env(proxy)
        for flag, short, variable in (
            ("--incoming-proxy-port", "-p", "LINKERD2_PROXY_INBOUND_LISTEN_ADDR"),
            ("--outgoing-proxy-port", "-o", "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR"),
        ):
            port = flags.get(flag) or flags.get(short)
            listens = env.get(variable, "").rpartition(":")[2]
            if port is None or (listens and port != listens):
                yield Spot(init.field("args"), (f"{flag} {port}",),
                           "redirects to another port than the proxy's", fix)  # fmt: skip

    def identity_clashes(self, pod: Pod) -> Iterator[Spot]:
        """The firewall lets the proxy's own user out unproxied: nobody else may be that user."""
        uids, gids = {self.own.proxy_uid}, set[int]()
        asked = pod.annotations.get(PROXY_UID)
        if asked is not None and asked.strip() != str(self.own.proxy_uid):
            yield Spot(annotation(PROXY_UID), (asked,), "changes the proxy's user id",
                       "remove the annotation, or set settings.linkerd.proxyUid for the whole mesh",
                       )  # fmt: skip
        uids |= _number(asked)
        gids |= _number(pod.annotations.get(PROXY_GID))
        for placed in pod.mesh_containers:
            if placed.name == INIT:
                flags = _flags(placed.container)
                exempt = flags.get("--proxy-uid") or flags.get("-u") or ""
                gids |= _number(flags.get("--proxy-gid"))
                uids |= _number(exempt)
                if _number(exempt) != {self.own.proxy_uid}:
                    yield Spot(placed.field("args"), (f"--proxy-uid {exempt}",),
                               f"lets another user than {self.own.proxy_uid} past the proxy",
                               "let Linkerd's injector make linkerd-init")  # fmt: skip
        if pod.proxy:
            context = pod.proxy.container.security_context
            uid = context.run_as_user if context else None
            if uid != self.own.proxy_uid:
                yield Spot(pod.proxy.field("securityContext.runAsUser"), (str(uid),),
                           f"is not {self.own.proxy_uid}, the user that is not captured",
                           "let Linkerd's injector make linkerd-proxy")  # fmt: skip
        yield from clashes(pod, uids, gids)

    def mtls_disabled(self, pod: Pod) -> Iterator[Spot]:
        """A proxy without an identity has no mTLS (switch of Linkerd before 2.12 included)."""
        if pod.annotations.get(DISABLE_IDENTITY, "").lower() == "true":
            yield Spot(annotation(DISABLE_IDENTITY))
        if pod.proxy is None:
            return
        env = _env(pod.proxy.container)
        for name in _IDENTITY_ENV:
            if not env.get(name):
                yield Spot(pod.proxy.field(f"env[{name}]"), (), "is missing: no identity, no mTLS")
        if "LINKERD2_PROXY_IDENTITY_DISABLED" in env:
            yield Spot(pod.proxy.field("env[LINKERD2_PROXY_IDENTITY_DISABLED]"))

    def overridden_env(self, pod: Pod) -> Iterator[Spot]:
        """Variables given by annotation, twice, or from elsewhere: the last one wins."""
        guarded = sorted(_guarded(_additional(pod.annotations.get(ADDITIONAL_ENV, ""))))
        if guarded:
            yield Spot(annotation(ADDITIONAL_ENV), tuple(guarded))
        if pod.proxy is None:
            return
        if pod.proxy.container.env_from:
            yield Spot(pod.proxy.field("envFrom"))
        names = [variable.name for variable in pod.proxy.container.env or ()]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1} - set(guarded))
            if twice := sorted(_guarded(twice)):
                yield Spot(pod.proxy.field("env"), tuple(twice))

    def elsewhere(self, pod: Pod) -> Iterator[Spot]:
        """Peers give TLS identities only to pods of their own control plane's label."""
        ours = self.own.control_plane_namespace
        named = pod.labels.get(CONTROL_PLANE_NS)
        if named is not None and named != ours:
            yield Spot(label(CONTROL_PLANE_NS), (named,))
        if pod.proxy is None:
            return
        env = _env(pod.proxy.container)
        for name in _CONTROL_PLANE_ENV:
            address = env.get(name)
            if address and not _is_service_in(address, ours):
                yield Spot(pod.proxy.field(f"env[{name}]"), (address,))

    def exposed_identity(self, pod: Pod) -> Iterator[Spot]:
        """The private key and the token that the proxy proves its identity with."""
        if pod.proxy is None:
            return
        for placed in pod.workload_containers:
            for index, mount in enumerate(placed.container.volume_mounts or ()):
                if mount.name in (_IDENTITY_VOLUME, _TOKEN_VOLUME):
                    yield Spot(placed.field(f"volumeMounts[{index}]"), (mount.name,))

    def forsaken(self, pod: Pod) -> Iterator[Spot]:
        """The control plane's label, and the inbound policy where the admin demands one.

        Read live: controller/api/destination/endpoint_translator.go,
        policy-controller/k8s/index/src/inbound/workload.rs.
        """
        old = pod.old
        if old is None:
            return
        before, now = old.labels.get(CONTROL_PLANE_NS), pod.labels.get(CONTROL_PLANE_NS)
        if before == self.own.control_plane_namespace and now != before:
            yield Spot(label(CONTROL_PLANE_NS), (f"{before} -> {now or 'removed'}",))
        wanted = self.own.inbound_policy
        kept = old.annotations.get(INBOUND_POLICY)
        policy = pod.annotations.get(INBOUND_POLICY)
        if wanted and kept == wanted and policy != kept:
            yield Spot(annotation(INBOUND_POLICY), (f"{kept} -> {policy or 'removed'}",))

    def late_proxy(self, pod: Pod) -> Iterator[Spot]:
        """Init containers before a native proxy, all of them beside a classic one."""
        proxy = pod.proxy
        if proxy is None:
            return
        for placed in pod.workload_containers:
            if placed.kind == "initContainers" and (
                proxy.kind == "containers" or placed.index < proxy.index
            ):
                yield Spot(placed.field(), (placed.name,))

    def plaintext_inbound(self, pod: Pod) -> Iterator[Spot]:
        """The annotation is read live and wins over what the proxy started with."""
        if pod.ingress:
            return
        policy = pod.annotations.get(INBOUND_POLICY)
        if policy is not None:
            if policy in _LETS_PLAINTEXT_IN:
                yield Spot(annotation(INBOUND_POLICY), (policy,))
        elif pod.proxy:
            name = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"
            policy = _env(pod.proxy.container).get(name)
            if policy in _LETS_PLAINTEXT_IN:
                yield Spot(pod.proxy.field(f"env[{name}]"), (policy,))

    def ignored_labels(self, pod: Pod) -> Iterator[Spot]:
        """Linkerd reads annotations; Mendix's own guide shows them as labels."""
        for key in pod.labels:
            if key == INJECT or key.startswith(CONFIG):
                yield Spot(label(key))

    def _trusts(self, container: Container) -> bool:
        """Whether the image of one of Linkerd's containers comes from where it should."""
        key = (container.name, container.image)
        known = self._trusted.get(key)
        if known is None:
            known = repository(container.image or "") in self._images[container.name]
            if len(self._trusted) < 512:  # a bound: names and images come from outside
                self._trusted[key] = known
        return known

    def _has_identity_volume(self, pod: Pod, proxy: Placed) -> bool:
        mounted = any(m.name == _IDENTITY_VOLUME for m in proxy.container.volume_mounts or ())
        return mounted and any(
            volume.name == _IDENTITY_VOLUME and volume.empty_dir is not None
            for volume in pod.spec.volumes or ()
        )

    def _foreign_subnets(self, text: str) -> list[str]:
        parts = (part.strip() for part in text.split(","))
        return [part for part in parts if part and part not in self.own.skip_subnets]


def clashes(pod: Pod, uids: set[int], gids: set[int]) -> Iterator[Spot]:
    """Workload containers that run as one of the users or groups which are not captured."""
    whole = pod.spec.security_context
    for placed in pod.workload_containers:
        own = placed.container.security_context
        for name, key, taken in (
            ("runAsUser", "run_as_user", uids),
            ("runAsGroup", "run_as_group", gids),
        ):
            mine = getattr(own, key) if own else None
            if mine is not None:
                if mine in taken:
                    yield Spot(placed.field(f"securityContext.{name}"), (str(mine),))
            elif whole and getattr(whole, key) in taken:
                yield Spot(
                    f"spec.securityContext.{name}", (str(getattr(whole, key)),),
                    f"makes container {placed.name} run as the proxy",
                )  # fmt: skip


def _env(container: Container) -> dict[str, str]:
    return {variable.name: variable.value or "" for variable in container.env or ()}


def _flags(container: Container) -> dict[str, str]:
    """Command line flags, as `--flag value` or `--flag=value`; a lone flag has an empty value."""
    flags: dict[str, str] = {}
    last = ""
    for argument in container.args or ():
        if argument.startswith("-"):
            last, _, value = argument.partition("=")
            flags[last] = value
        elif last:
            flags[last] = argument
            last = ""
    return flags


def _number(text: str | None) -> set[int]:
    stripped = (text or "").strip()
    return {int(stripped)} if stripped.isascii() and stripped.isdecimal() else set()


def _additional(text: str) -> Iterable[str]:
    """Names in the JSON list of the annotation; Linkerd ignores what it can't read."""
    if not text:
        return ()
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(listed, list):
        return ()
    return [str(entry.get("name", "")) for entry in listed if isinstance(entry, dict)]


def _guarded(names: Iterable[str]) -> set[str]:
    return {n for n in names if n.startswith(_GUARDED_ENV) and n not in _HARMLESS_ENV}


def _is_service_in(address: str, namespace: str) -> bool:
    """Whether `linkerd-dst-headless.linkerd.svc.cluster.local.:8086` is in the namespace."""
    parts = address.split(".")
    return len(parts) > 2 and parts[1] == namespace and parts[2].split(":")[0] == "svc"


MESH = Linkerd
