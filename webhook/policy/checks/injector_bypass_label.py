"""A pod with a label that keeps the API server from asking the injector."""

from webhook.policy import cel
from webhook.policy.checks import Check

CHECK = Check(
    id="injector-bypass-label",
    level="deny",
    meshes=("linkerd",),
    fields=(
        "metadata.labels[linkerd.io/control-plane-component]",
        "metadata.labels[linkerd.io/cni-resource]",
    ),
    reason="makes the API server skip the injector for this pod",
    fix="author: remove the label; it is only for the mesh's own pods",
    source="linkerd2 charts/linkerd-control-plane/values.yaml proxyInjector.objectSelector",
    explains_absence=True,
    excuses_absence=True,
    asks="injector_bypasses",
)


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    keys = [field.removeprefix("metadata.labels[").removesuffix("]") for field in CHECK.fields]
    found = cel.row("'metadata.labels[' + k + ']'", cel.text(CHECK.reason), cel.text(CHECK.fix))
    return cel.Rule(f"{cel.listed(keys)}.map(k, k in {cel.LABELS}, {found})")
