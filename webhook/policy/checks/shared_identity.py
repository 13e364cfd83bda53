"""A pod with the ServiceAccount default: the mesh gives all such pods one identity."""

from collections.abc import Sequence

from webhook.policy import cel
from webhook.policy.checks import Check
from webhook.policy.mesh import Mesh
from webhook.policy.occurrences import Occurrence
from webhook.policy.pod.workload import Pod

CHECK = Check(
    id="shared-identity",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=("spec.serviceAccountName",),
    reason="is the identity of every pod that does not name its own ServiceAccount",
    fix="author: give the app its own ServiceAccount",
    source="linkerd.io reference/authorization-policy; istio.io concepts/security",
)


def find(mesh: Mesh, pod: Pod) -> Sequence[Occurrence]:
    """Return the field, if it is unset or default."""
    shared = pod.spec.service_account_name in (None, "", "default")
    return (Occurrence("spec.serviceAccountName"),) if shared else ()


def rule(terms: cel.Terms) -> cel.Rule:
    """Return the check in CEL."""
    found = cel.row("'spec.serviceAccountName'", cel.text(CHECK.reason), cel.text(CHECK.fix))
    name = "object.spec.?serviceAccountName.orValue('')"
    return cel.Rule(f"{name} in ['', 'default'] ? [{found}] : []")
