"""Istio's sidecar in CEL: the shape of a pod that its injector completed."""

from webhook.policy import cel
from webhook.policy.engine import terms as common
from webhook.policy.engine.terms import Condition, EngineMesh, Want
from webhook.policy.inputs import Inputs, forms
from webhook.policy.inputs import istio as listed
from webhook.policy.inputs.istio import INIT, PROXY, VALIDATION, VOLUMES
from webhook.policy.meshes import istio as mesh
from webhook.policy.meshes.istio import gateways, injected

_OURS = frozenset({PROXY, INIT, VALIDATION})
_TERMS = cel.Terms("istio", {"initContainers": _OURS, "containers": frozenset({PROXY})})
_FOREIGN = ("linkerd-proxy", "linkerd-init", "linkerd-network-validator")
_IN = r"(?:15090|15021|15020|<<istio.inboundPorts>>)"
_OUT = r"(?:<<istio.outboundPorts>>)"
_INBOUND, _OUTBOUND = (rf"(?: *{one} *(?:, *{one} *)*)?" for one in (_IN, _OUT))
_LEVELS = r"[A-Za-z0-9_:,.-]{1,200}"
#: The arguments that the injector gives istio-init, in its order.
_ARGUMENTS = (
    r"istio-iptables\n-p\n15001\n-z\n15006\n-u\n<<istio.proxyUid>>\n-m\n(?:REDIRECT|TPROXY)\n"
    rf"-i\n\*\n-x\n\n-b\n\*\n-d\n{_INBOUND}(?:\n-o\n{_OUTBOUND})?(?:\n--log_output_level={_LEVELS})?"
    r"(?:\n--log_as_json)?"
)
_VALIDATES = rf"{_ARGUMENTS}\n--run-validation\n--skip-rule-apply"
_ISTIOD = (
    r"(?:[a-z0-9-]+\.<<istio.namespace>>\.svc(?:\.<<clusterDomain>>)?\.?|<<istio.hosts>>)"
    r":[0-9]{1,5}"
)
_PAIR = (
    r'"(?:holdApplicationUntilProxyStarts|statsCompression)": *(?:true|false)'
    r'|"(?:concurrency|statNameLength)": *[0-9]{1,6}'
    r'|"(?:terminationDrainDuration|drainDuration)": *"[0-9.]{1,9}s"'
    rf'|"discoveryAddress": *"{_ISTIOD}"'
)
#: The configuration that the injector writes, if it has only plain fields.
_CONFIG = rf"\s*|\{{(?:{_PAIR})?(?:, *(?:{_PAIR}))*\}}\s*"
_SCRAPED = (
    r'"scrape":"[A-Za-z0-9]{0,8}"|"port":"[0-9]{1,4}"|"path":"/[A-Za-z0-9_/-]{0,200}"'
    r'|"scheme":"https?"'
)
_GUARDED = {
    "CA_ADDR": _ISTIOD,
    "PROXY_CONFIG": _CONFIG,
    "ISTIO_META_INTERCEPTION_MODE": "REDIRECT|TPROXY",
    "ISTIO_PROMETHEUS_ANNOTATIONS": rf"\{{(?:(?:{_SCRAPED}),?){{0,4}}\}}",
}
_UNPRIVILEGED = "!c.?securityContext.?privileged.orValue(false)"
_NO_ENV_FROM = "size(c.?envFrom.orValue([])) == 0"
_IMAGE = "c.image.matches(r'^(?:<<istio.proxyImages>>)(?::[A-Za-z0-9_.-]+)?(?:@[a-z0-9:]+)?$')"
_PROXY = cel.every(
    _IMAGE, "size(c.?command.orValue([])) == 0", _UNPRIVILEGED, _NO_ENV_FROM,
    "size(c.?args.orValue([])) >= 2 && c.args[0] == 'proxy' && c.args[1] == 'sidecar'",
    "c.args.all(a, !a.contains('$(') || a == '$(POD_NAMESPACE).svc.<<clusterDomainText>>')",
    "c.?securityContext.?runAsUser.orValue(-1) == <<istio.proxyUid>>",
    "c.?securityContext.?runAsGroup.orValue(-1) == <<istio.proxyUid>>",
    common.variables(_GUARDED, (), injected.REFERRED, injected.NO_PROXY_ENV),
)  # fmt: skip
_RULES = cel.every(
    common.image_of(PROXY),
    _NO_ENV_FROM, _UNPRIVILEGED, "!has(c.restartPolicy)", "size(c.?command.orValue([])) == 0",
    common.variables({}, (), (), injected.RULE_ENV),
    f"(c.name == {cel.text(INIT)} && {common.arguments(_ARGUMENTS)}) "
    f"|| (c.name == {cel.text(VALIDATION)} && {common.arguments(_VALIDATES)} "
    f"&& {cel.text(mesh.STATUS)} in {cel.ANNOTATIONS})",
)  # fmt: skip
_PROJECTED = "size(v.?projected.?sources.orValue([])) == 1 && has(v.projected.sources[0].{kind})"
#: The volumes of the injector, and their sources.
_SOURCES = {
    ("workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data"):
        "has(v.emptyDir)",
    ("istio-podinfo",):
        "has(v.downwardAPI) && v.downwardAPI.?items.orValue([]).all(i, "
        "i.path in ['labels', 'annotations'] "
        "&& i.?fieldRef.?fieldPath.orValue('') == 'metadata.' + i.path)",
    ("istio-token",): _PROJECTED.format(kind="serviceAccountToken"),
    ("istiod-ca-cert",):
        "(v.?configMap.?name.orValue('') == 'istio-ca-root-cert' "
        "&& size(v.configMap.?items.orValue([])) == 0) "
        f"|| ({_PROJECTED.format(kind='clusterTrustBundle')})",
    ("istio-ca-crl",):
        "v.?configMap.?name.orValue('') == 'istio-ca-crl' "
        "&& size(v.configMap.?items.orValue([])) == 0",
}  # fmt: skip
_VOLUMES = " || ".join(
    f"(v.name in {cel.listed(names)} && ({source}))" for names, source in _SOURCES.items()
)
_COMPLETE = cel.every(
    common.sidecar(PROXY, (INIT, VALIDATION), _PROXY, _RULES),
    f"{cel.LABELS}[?{cel.text(mesh.TLS_MODE)}].orValue('') == 'istio'",
    f"{cel.VOLUMES}.all(v, !(v.name in {cel.listed(sorted(VOLUMES))}) || {_VOLUMES})",
)  # fmt: skip
#: A pod without Istio's containers and status, and with no label of its gateways.
_NONE = cel.every(
    common.without(_OURS),
    f"!({cel.text(mesh.STATUS)} in {cel.ANNOTATIONS})",
    f"!({cel.text(mesh.TLS_MODE)} in {cel.LABELS})",
    f"!{cel.VOLUMES}.exists(v, v.name in {cel.listed(sorted(VOLUMES))})",
)

#: What the injector or an author may write of these without any effect.
_HARMLESS = {
    f"{mesh.TRAFFIC}includeInboundPorts": r" *\* *",
    f"{mesh.TRAFFIC}includeOutboundIPRanges": r" *\* *",
    f"{mesh.TRAFFIC}excludeInboundPorts": _INBOUND,
    f"{mesh.TRAFFIC}excludeOutboundPorts": _OUTBOUND,
    f"{mesh.TRAFFIC}excludeOutboundIPRanges": "",
    f"{mesh.TRAFFIC}excludeInterfaces": "",
    f"{mesh.TRAFFIC}kubevirtInterfaces": "",
    "istio.io/reroute-virtual-interfaces": "",
    mesh.STATUS_PORT: "0|15020",
    gateways.TEMPLATES: forms.NOTHING,
    "ambient.istio.io/bypass-inbound-capture": forms.NOTHING,
    "ambient.istio.io/redirection": forms.NOTHING,
}
LISTED = Inputs("istio", listed.ANNOTATIONS, listed.READS, prefixes=listed.PREFIXES)
LISTED_LABELS = Inputs("istio", listed.LABELS, listed.READS_LABELS)
_ANNOTATION = f"{cel.ANNOTATIONS}[?{cel.text(mesh.INJECT)}]"
_INJECT = f"{cel.LABELS}[?{cel.text(mesh.INJECT)}].or({_ANNOTATION})"
_OUT_OPTED = f"({_INJECT}.orValue('') == 'false' && <<optOutDenied>>)"
#: A gateway or waypoint is judged as a whole.
PLAIN = Condition(
    "it is no gateway of Istio",
    f"!{cel.LABELS}.exists(k, k.startsWith('gateway.istio.io/')) "
    f"&& !{cel.ANNOTATIONS}.exists(k, k.startsWith('gateway.istio.io/'))",
)
KEYS = (
    Condition(
        "its annotations are in the list of what may be set, with plain values",
        f"{common.IS_ALLOWED} || ({common.RECORDED} == '' && "
        f"{common.inputs(LISTED, cel.ANNOTATIONS, _HARMLESS, submitted=False)})",
    ),
    Condition(
        "so are its labels",
        f"{common.IS_ALLOWED} || {common.inputs(LISTED_LABELS, cel.LABELS, {}, submitted=False)}",
    ),
    common.OWNERS._replace(expression=f"{common.IS_ALLOWED} || {common.OWNERS.expression}"),
)
#: What must hold for sidecars and in ambient mode.
ORDINARY = (common.SIZE, *KEYS, common.SETTINGS, common.NAMES, PLAIN)
SUBMITTED_KEYS = (
    Condition(
        "its annotations are in the list of what authors may set, with plain values",
        common.inputs(LISTED, cel.ANNOTATIONS, {gateways.TEMPLATES: forms.NOTHING},
                      submitted=True),
    ),
    Condition("so are its labels", common.inputs(LISTED_LABELS, cel.LABELS, {}, submitted=True)),
    common.OWNERS,
    common.PLAIN_NAMES,
)  # fmt: skip
#: Values of such annotations that let nothing bypass the proxy.
_PLAIN = [
    f"(k == {cel.text(key)} && {cel.ANNOTATIONS}[k].matches({cel.pattern(form)}))"
    for key, form in {**_HARMLESS, mesh.INTERCEPTION: "REDIRECT|TPROXY"}.items()
    if form != forms.NOTHING
]
_BYPASSES = [key for key, one in listed.ANNOTATIONS.items() if one.may == "bypass"]
_CAPTURED = (f"!(k in {cel.listed(_BYPASSES)})", *_PLAIN)


def leave_linkerd(opted_in: str) -> Want:
    """Return the annotation that keeps Linkerd's injector away, as policy adds it."""
    value = f"{cel.ANNOTATIONS}[?'linkerd.io/inject'].orValue('')"
    return Want("annotations", "linkerd.io/inject", "'disabled'",
                f"{value} in ['enabled', 'ingress'] && {opted_in}")  # fmt: skip


MESH = EngineMesh(
    _TERMS,
    ordinary=(
        *ORDINARY,
        Condition(
            "it has the injector's containers as the settings describe them, or none of them",
            f"({_COMPLETE}) || ({_NONE})",
        ),
        Condition(
            "no annotation lets traffic bypass the proxy",
            f"{cel.ANNOTATIONS}.all(k, {' || '.join(_CAPTURED)})",
        ),
        Condition(
            "no container runs as the proxy's user or group",
            common.not_run_as(_TERMS, "[<<istio.proxyUid>>]", "[<<istio.proxyUid>>]"),
        ),
        Condition(
            "no container mounts the proxy's token, key or state",
            common.not_mounting(_TERMS, (*mesh.IDENTITY_VOLUMES, *mesh.STATE_VOLUMES)),
        ),
        Condition(
            "it has no sign of another mesh",
            cel.every(
                common.without(_FOREIGN),
                f"!({cel.ANNOTATIONS}[?'linkerd.io/inject'].orValue('') in ['enabled', 'ingress'])",
                f"{cel.LABELS}[?'istio.io/dataplane-mode'].orValue('') != 'ambient'",
            ),
        ),
        Condition("the injector uses a fixed user", "<<istio.proxyUid>> > 0"),
    ),
    submitted=(
        common.SIZE,
        PLAIN,
        Condition("it brings no container of the mesh", common.without(_OURS)),
        Condition(
            "it brings no volume of the mesh",
            f"!{cel.VOLUMES}.exists(v, v.name in {cel.listed(sorted(VOLUMES))})",
        ),
        *SUBMITTED_KEYS,
        Condition(
            "its configuration of the proxy is not changed",
            f"<<istio.nativeSidecars>> || !({cel.text(mesh.CONFIG)} in {cel.ANNOTATIONS})",
        ),
    ),
    wants=(
        common.RERECORD,
        leave_linkerd(f"!{_OUT_OPTED}"),
        Want("labels", mesh.INJECT, "'true'",
             f"{cel.LABELS}[?{cel.text(mesh.INJECT)}].orValue('') != 'true' && !{_OUT_OPTED}"),
        Want("labels", mesh.REVISION, "'<<istio.revision>>'",
             f"'<<istio.revision>>' != '' && !({cel.text(mesh.REVISION)} in {cel.LABELS}) "
             f"&& !{_OUT_OPTED}"),
        Want("annotations", mesh.NATIVE, "'true'",
             f"<<istio.nativeSidecars>> && !({cel.text(mesh.NATIVE)} in {cel.ANNOTATIONS}) "
             f"&& !{_OUT_OPTED} && {common.TASK}"),
        Want("annotations", mesh.CONFIG, "'holdApplicationUntilProxyStarts: true'",
             f"!<<istio.nativeSidecars>> && !{_OUT_OPTED} && {common.TASK}"),
    ),
)  # fmt: skip
