"""A pod whose author opts out of the mesh."""

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.occurrences import annotation, label

CHECK = Check(
    id="opted-out",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "metadata.annotations[linkerd.io/inject]",
        "metadata.labels[sidecar.istio.io/inject]",
        "metadata.annotations[sidecar.istio.io/inject]",
        "metadata.labels[istio.io/dataplane-mode]",
    ),
    reason="opts the pod out of the mesh",
    fix="author: remove it, or ask an admin for an exemption",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
    explains_absence=True,
    excuses_absence=True,
    asks="opt_outs",
)


#: Where each mesh reads the opt-in, and the values that opt in.
_READ = {
    "linkerd": ((annotation("linkerd.io/inject"), "linkerd.io/inject", cel.ANNOTATIONS),),
    "istio": (
        (label("sidecar.istio.io/inject"), "sidecar.istio.io/inject", cel.LABELS),
        (annotation("sidecar.istio.io/inject"), "sidecar.istio.io/inject", cel.ANNOTATIONS),
    ),
    "ambient": ((label("istio.io/dataplane-mode"), "istio.io/dataplane-mode", cel.LABELS),),
}
_OPT_IN = {"linkerd": ("", "enabled", "ingress"), "istio": ("true",), "ambient": ("ambient",)}


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    places = _READ[terms.mesh]
    rows, shown = [], []
    for number, (field, key, place) in enumerate(places):
        value = f"{place}[?{cel.text(key)}].orValue('')"
        # A label takes precedence over the annotation.
        first = [f"!({cel.text(key)} in {before})" for _, _, before in places[:number]]
        broken = cel.every(
            f"{cel.text(key)} in {place}",
            f"!({value} in {cel.listed(_OPT_IN[terms.mesh])})",
            *first,
        )
        found = cel.row(cel.text(field), cel.reason(CHECK.reason, value), cel.text(CHECK.fix))
        rows.append(f"({broken} ? [{found}] : [])")
        shown.append(cel.is_shown(value))
    return cel.Rule(" + ".join(rows), cel.every(*shown))
