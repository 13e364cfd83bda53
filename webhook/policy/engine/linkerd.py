"""Linkerd in CEL: the shape of a pod that its injector completed, with the settings' values."""

from webhook.policy import cel
from webhook.policy.engine import terms as common
from webhook.policy.engine.terms import Condition, EngineMesh, Want
from webhook.policy.inputs import Inputs
from webhook.policy.inputs import linkerd as listed
from webhook.policy.inputs.linkerd import CONFIG
from webhook.policy.mesh import ALLOWED, RECORD
from webhook.policy.meshes import linkerd as mesh
from webhook.policy.meshes.linkerd import INIT, PROXY, VALIDATOR

_OURS = frozenset({PROXY, INIT, VALIDATOR})
_TERMS = cel.Terms("linkerd", {"initContainers": _OURS, "containers": frozenset({PROXY})})
_FOREIGN = ("istio-proxy", "istio-init", "istio-validation")
_PORTS = r"(?:<<linkerd.inboundSkips>>)(?:,(?:<<linkerd.inboundSkips>>))*"
_OUT = r"(?:<<linkerd.outboundSkips>>)(?:,(?:<<linkerd.outboundSkips>>))*"
_HOST = r"(?:0\.0\.0\.0|127\.0\.0\.1|\[::\]|\[::1\])"
_SERVICE = r"[a-z0-9-]+\.<<linkerd.namespace>>\.svc(?:\.<<clusterDomain>>)?\.?:[0-9]{1,5}"
#: The arguments that the injector gives linkerd-init, in its order.
_ARGUMENTS = "".join(
    (
        r"--firewall-bin-path\n(?:iptables|iptables-legacy|iptables-nft)\n",
        r"--firewall-save-bin-path\n(?:iptables-save|iptables-legacy-save|iptables-nft-save)\n",
        r"(?:--ipv6=(?:true|false)\n)?",
        r"--incoming-proxy-port\n<<linkerd.inboundPort>>\n",
        r"--outgoing-proxy-port\n<<linkerd.outboundPort>>\n--proxy-uid\n<<linkerd.proxyUid>>",
        rf"(?:\n--inbound-ports-to-ignore\n{_PORTS})?(?:\n--outbound-ports-to-ignore\n{_OUT})?",
        r"(?:\n--timeout-close-wait-secs\n[0-9]{1,6})?(?:\n--log-format\n[a-z]{1,10})?",
        r"(?:\n--log-level\n[a-z]{1,10})?",
    )
)
_VALIDATES = (
    r"--log-format\n[a-z]{1,10}\n--log-level\n[a-z]{1,10}\n--connect-addr\n[0-9.:\[\]]{1,60}:20001\n"
    r"--listen-addr\n(?:0\.0\.0\.0|\[::\]):4140\n--timeout\n[0-9a-z]{1,10}"
)
_INBOUND = "LINKERD2_PROXY_INBOUND_LISTEN_ADDR"
_OUTBOUND = "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR"
#: Variables of the proxy, and the values that they must have.
_GUARDED = {
    "LINKERD2_PROXY_DESTINATION_SVC_ADDR": _SERVICE,
    "LINKERD2_PROXY_POLICY_SVC_ADDR": _SERVICE,
    "LINKERD2_PROXY_IDENTITY_SVC_ADDR": _SERVICE,
    "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": r"[^\n]+",
    "LINKERD2_PROXY_INGRESS_MODE": "false",
    "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY": "<<linkerd.policies>>",
    **{
        f"{name}{end}": rf"{_HOST}:<<linkerd.{way}Port>>(?:,{_HOST}:<<linkerd.{way}Port>>)?"
        for way, name in (("inbound", _INBOUND), ("outbound", _OUTBOUND))
        for end in ("", "S")
    },
}
_NEEDED = (
    "LINKERD2_PROXY_IDENTITY_SVC_ADDR", "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
    "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
)  # fmt: skip
_UNPRIVILEGED = "!c.?securityContext.?privileged.orValue(false)"
_NO_ENV_FROM = "size(c.?envFrom.orValue([])) == 0"
_PROXY = cel.every(
    "c.image.matches(r'^(?:<<linkerd.proxyImages>>)(?::[A-Za-z0-9_.-]+)?(?:@[a-z0-9:]+)?$')",
    "size(c.?command.orValue([])) == 0 && size(c.?args.orValue([])) == 0",
    _UNPRIVILEGED, _NO_ENV_FROM,
    "c.?securityContext.?runAsUser.orValue(-1) == <<linkerd.proxyUid>>",
    "c.?securityContext.?runAsGroup.orValue(-1) in <<linkerd.groups>> "
    "|| !has(c.securityContext.runAsGroup)",
    common.variables(_GUARDED, ("LINKERD2_PROXY_IDENTITY_DISABLED",), mesh.REFERRED),
    f"[c.?env.orValue([]).map(e, e.name in {cel.listed(_NEEDED)} && e.?value.orValue('') != '', "
    f"e.name)].all(names, {' && '.join(f'{cel.text(name)} in names' for name in _NEEDED)})",
    f"c.?volumeMounts.orValue([]).exists(m, m.name == {cel.text(mesh.IDENTITY_VOLUME)})",
)  # fmt: skip
_IMAGES = cel.some(
    "c.image.matches(r'^(?:<<linkerd.initImages>>)(?::[A-Za-z0-9_.-]+)?(?:@[a-z0-9:]+)?$')",
    common.image_of(PROXY),
)
_RULES = cel.every(
    _IMAGES, _NO_ENV_FROM, _UNPRIVILEGED, "!has(c.restartPolicy)", "size(c.?env.orValue([])) == 0",
    "c.?command.orValue([]) in [[], ['/usr/lib/linkerd/linkerd2-proxy-init'], "
    "['/usr/lib/linkerd/linkerd2-network-validator']]",
    f"(c.name == {cel.text(INIT)} && {common.arguments(_ARGUMENTS)} "
    "&& c.?command.orValue([]) != ['/usr/lib/linkerd/linkerd2-network-validator']) "
    f"|| (c.name == {cel.text(VALIDATOR)} && {common.arguments(_VALIDATES)} "
    "&& c.?command.orValue([]) == ['/usr/lib/linkerd/linkerd2-network-validator'])",
)  # fmt: skip
_COMPLETE = cel.every(
    common.sidecar(PROXY, (INIT, VALIDATOR), _PROXY, _RULES),
    f"{cel.LABELS}[?{cel.text(mesh.CONTROL_PLANE_NS)}].orValue('') == '<<linkerd.namespaceText>>'",
    f"{cel.VOLUMES}.exists(v, v.name == {cel.text(mesh.IDENTITY_VOLUME)} && has(v.emptyDir))",
    common.volume(mesh.TOKEN_VOLUME, "size(v.?projected.?sources.orValue([])) == 1 "
                                      "&& has(v.projected.sources[0].serviceAccountToken)"),
)  # fmt: skip
#: A pod without Linkerd's containers, and without what keeps the injector away by itself.
_NONE = cel.every(
    common.without(_OURS),
    cel.each(f"!{cel.listed(mesh.SKIPPED_IMAGES)}.exists(s, c.image.startsWith(s))"),
    f"{cel.listed(mesh.USER_ANNOTATIONS)}.all(k, !(k in {cel.ANNOTATIONS}))",
)
_SKIPS = sorted({key for keys in mesh.SKIP_ANNOTATIONS.values() for key in keys}
                | {mesh.SKIP_SUBNETS})  # fmt: skip

_LISTED = Inputs("linkerd", listed.ANNOTATIONS, listed.READS, prefixes=listed.PREFIXES)
_LABELS = Inputs("linkerd", listed.LABELS, listed.READS_LABELS)
_INJECT = f"{cel.ANNOTATIONS}[?{cel.text(mesh.INJECT)}].orValue('')"
_OUT_OPTED = f"({_INJECT} == 'disabled' && <<optOutDenied>>)"
_NO_NATIVE = (
    f"!{cel.listed([mesh.NATIVE, mesh.NATIVE_BETA, mesh.NATIVE_ALPHA])}"
    f".exists(k, k in {cel.ANNOTATIONS})"
)

MESH = EngineMesh(
    _TERMS,
    ordinary=(
        common.SIZE,
        Condition("its author set nothing that needs a closer look", common.IS_ALLOWED),
        common.SETTINGS,
        common.NAMES,
        Condition(
            "it has the injector's containers as the settings describe them, or none of them",
            f"({_COMPLETE}) || ({_NONE})",
        ),
        Condition(
            "no annotation lets traffic bypass the proxy",
            f"{cel.listed(_SKIPS)}.all(k, !(k in {cel.ANNOTATIONS})) && {_INJECT} != 'ingress'",
        ),
        Condition(
            "its inbound policy is the one that the settings require",
            f"{cel.ANNOTATIONS}[?{cel.text(mesh.INBOUND_POLICY)}].orValue('all-authenticated')"
            ".matches(r'^(?:<<linkerd.policies>>)$')",
        ),
        Condition(
            "no container runs as the proxy's user or group",
            common.not_run_as(_TERMS, "[<<linkerd.proxyUid>>]", "<<linkerd.groups>>"),
        ),
        Condition(
            "no container mounts the proxy's key or token",
            common.not_mounting(_TERMS, (mesh.IDENTITY_VOLUME, mesh.TOKEN_VOLUME)),
        ),
        Condition(
            "it has no sign of another mesh",
            cel.every(
                common.without(_FOREIGN),
                f"{cel.LABELS}[?'sidecar.istio.io/inject'].orValue('') != 'true'",
                f"{cel.LABELS}[?'istio.io/dataplane-mode'].orValue('') != 'ambient'",
            ),
        ),
        Condition(
            "none of its labels is meant as an annotation",
            f"!({cel.text(mesh.INJECT)} in {cel.LABELS}) "
            f"&& !{cel.LABELS}.exists(k, k.startsWith({cel.text(CONFIG)}))",
        ),
    ),
    submitted=(
        common.SIZE,
        Condition("it brings no container of the mesh", common.without(_OURS)),
        Condition(
            "it brings no volume of the mesh",
            f"!{cel.VOLUMES}.exists(v, v.name in {cel.listed(sorted(mesh.Linkerd.volume_names))})",
        ),
        Condition(
            "its annotations are in the list of what authors may set, with plain values",
            common.inputs(_LISTED, cel.ANNOTATIONS, {}, submitted=True),
        ),
        Condition(
            "so are its labels", common.inputs(_LABELS, cel.LABELS, {}, submitted=True)
        ),
        common.OWNERS,
        common.PLAIN_NAMES,
    ),
    wants=(
        Want("annotations", mesh.INJECT, "'enabled'",
             f"!({_INJECT} in {cel.listed(mesh.OPT_IN)}) && !{_OUT_OPTED}"),
        Want("annotations", mesh.NATIVE, "'true'",
             f"!{_OUT_OPTED} && {_NO_NATIVE} && {common.TASK}"),
        Want("annotations", mesh.NATIVE_ALPHA, "'true'",
             f"!{_OUT_OPTED} && {_NO_NATIVE} && {common.TASK}"),
        Want("annotations", mesh.INBOUND_POLICY, "'<<linkerd.inboundPolicy>>'",
             f"'<<linkerd.inboundPolicy>>' != '' && !{_OUT_OPTED} "
             f"&& !({cel.text(mesh.INBOUND_POLICY)} in {cel.ANNOTATIONS})"),
        Want("annotations", RECORD, cel.text(ALLOWED), f"!({common.IS_ALLOWED})"),
    ),
)  # fmt: skip
