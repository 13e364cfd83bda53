"""The final proof: a pod that the API server is asked for, and does not store.

It passes every webhook and Pod Security as any pod would; what comes out is judged by policy.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jsonpatch
import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.kinds.webhooks import OURS
from webhook.policy import checks
from webhook.policy.mesh import Mesh
from webhook.policy.mutate import mutate
from webhook.policy.pod import objects
from webhook.policy.pod.objects import Object, PodSpec
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import validate

#: The check that says of a pod that it did not join at all.
ABSENT = "proxy-missing"
_NAME = "mendix-mesh-doctor-probe"
_DENIED = f'{OURS}" denied the request: '


class Probe(NamedTuple):
    """What became of the probe."""

    #: As it would be stored; None where it was refused.
    stored: Object | None
    #: Why it was refused, in the API server's words.
    refusal: str
    #: The checks that it breaks, each with where and why; told by our webhook if that refused it.
    broken: Mapping[str, str]

    @property
    def is_meshed(self) -> bool:
        """Whether it would be in the mesh."""
        return self.stored is not None and not self.broken

    @property
    def init_containers(self) -> set[str]:
        """The names of the init containers that it would have."""
        spec = self._spec
        return {one.name for one in (spec.init_containers if spec else None) or ()}

    @property
    def containers(self) -> set[str]:
        """The names of the containers that it would have beside these."""
        spec = self._spec
        return {one.name for one in (spec.containers if spec else None) or ()}

    @property
    def _spec(self) -> PodSpec | None:
        return self.stored.spec if self.stored else None


def pod(
    namespace: str,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    *,
    task: bool = False,
) -> dict[str, Any]:
    """A pod that asks for nothing of the mesh, and for nothing that Pod Security refuses.

    A task is to end, as those that build an app or provision a database.
    """
    container = {
        "name": "probe",
        "image": _NAME,
        "resources": {key: {"cpu": "10m", "memory": "16Mi"} for key in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    marks = {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _NAME, "namespace": namespace, **marks},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never" if task else "Always",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


def promised(made: dict[str, Any], mesh: Mesh, settings: Settings) -> Object:
    """What our mutating webhook makes of a pod."""
    request = Request(namespace=made["metadata"]["namespace"], object=objects.convert(made))
    patch = mutate(request, mesh, settings)
    return objects.convert(jsonpatch.apply_patch(made, msgspec.to_builtins(patch)))


def ask(
    cluster: Cluster,
    namespace: str,
    mesh: Mesh,
    settings: Settings,
    *,
    ingress: bool,
    task: bool = False,
) -> Probe:
    """Ask for a pod, or a task pod, by a dry run, and judge it.

    Raises `RefusedError` where the user may not create pods, or the namespace is gone.
    """
    try:
        wanted = pod(namespace, task=task)
        made, _ = cluster.create(path("v1", "pods", namespace), wanted, dry_run=True)
    except RefusedError as error:
        if error.code in (401, 404) or "cannot create resource" in str(error):
            raise
        return Probe(None, str(error), _told(str(error)))
    stored = objects.convert(made)
    request = Request(namespace=namespace, object=stored, ingress=ingress)
    verdict = validate(request, mesh, "enforce", settings)
    broken = {
        found.check: f"{found.field} {found.reason}"
        for found in verdict.violations
        # Advice at most in these settings, it still says that there is no proxy.
        if found.level == "deny" or found.check == ABSENT
    }
    # An exemption lets it in; it does not put it into the mesh.
    broken |= {
        found.check: f"{found.field} {found.reason} (exempt: {exemption.reason})"
        for found, exemption in ((done.violation, done.exemption) for done in verdict.exempted)
    }
    return Probe(stored, "", broken)


def _told(refusal: str) -> dict[str, str]:
    """The checks that our webhook names in a refusal of its own."""
    _, ours, text = refusal.partition(_DENIED)
    if not ours:
        return {}
    return {check: text for check in checks.ids() if f" {check} " in text}
