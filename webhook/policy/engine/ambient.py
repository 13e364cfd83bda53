"""Istio's ambient mode in CEL: the label, and nothing that would disable it."""

from webhook.policy import cel
from webhook.policy.engine import istio
from webhook.policy.engine import terms as common
from webhook.policy.engine.terms import Condition, EngineMesh, Want
from webhook.policy.meshes import ambient as mesh
from webhook.policy.meshes import istio as sidecar

_TERMS = cel.Terms("ambient", {})
_FOREIGN = (
    "linkerd-proxy", "linkerd-init", "linkerd-network-validator",
    "istio-proxy", "istio-init", "istio-validation",
)  # fmt: skip
_MODE = f"{cel.LABELS}[?{cel.text(mesh.MODE)}].orValue('')"
_OUT_OPTED = f"({_MODE} == 'none' && <<optOutDenied>>)"
#: Annotations with which it is never ordinary: they disable the capture, or forge its proof.
_SPECIAL = (mesh.BYPASS, sidecar.REROUTES[0], sidecar.STATUS, mesh.REDIRECTION)

MESH = EngineMesh(
    _TERMS,
    ordinary=(
        *istio.ORDINARY,
        Condition(
            "no annotation disables the capture or forges its proof",
            f"{cel.listed(_SPECIAL)}.all(k, !(k in {cel.ANNOTATIONS}))",
        ),
        Condition(
            "it runs in the node's own runtime, on Linux",
            "object.spec.?runtimeClassName.orValue('') == '' "
            "&& object.spec.?os.?name.orValue('linux') in ['', 'linux'] "
            f"&& object.spec.?nodeSelector[?{cel.text(mesh.OF_NODE)}].orValue('linux') == 'linux'",
        ),
        Condition(
            "it has no sign of another mesh",
            cel.every(
                common.without(_FOREIGN),
                f"!({cel.ANNOTATIONS}[?'linkerd.io/inject'].orValue('') in ['enabled', 'ingress'])",
                f"{cel.LABELS}[?'sidecar.istio.io/inject'].orValue('') != 'true'",
            ),
        ),
    ),
    submitted=(
        common.SIZE,
        istio.PLAIN,
        Condition("it brings no container of a mesh", common.without(_FOREIGN)),
        *istio.SUBMITTED_KEYS,
    ),
    wants=(
        common.RERECORD,
        istio.leave_linkerd(f"!{_OUT_OPTED}"),
        Want("labels", mesh.MODE, "'ambient'", f"{_MODE} != 'ambient' && !{_OUT_OPTED}"),
    ),
)
