"""A pod as ServiceAccount default: all such pods of a namespace are one to the mesh."""

from collections.abc import Iterator

from webhook.policy.checks import Check, Violation
from webhook.policy.meshes import Mesh
from webhook.policy.settings import Settings
from webhook.policy.workload import Pod

CHECK = Check(
    id="shared-identity",
    level="advise",
    meshes=("linkerd", "istio", "ambient"),
    fields=("spec.serviceAccountName",),
    reason="is the identity of every pod that names no ServiceAccount",
    fix="give the app a ServiceAccount of its own",
    source="linkerd.io reference/authorization-policy; istio.io concepts/security",
)


def find(pod: Pod, mesh: Mesh, settings: Settings) -> Iterator[Violation]:
    """Yield the field, if it is unset or default."""
    if pod.spec.service_account_name in (None, "", "default"):
        yield CHECK.violation("spec.serviceAccountName")
