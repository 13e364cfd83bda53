"""A proxy, or a volume of the proxy, that comes from the pod's author and not from the injector.

It can have the mesh's image and rules together with the author's variables. Our mutating webhook
runs before the injectors and records it. The mesh reads the record and yields the occurrences.
"""

from webhook.policy.checks import Check
from webhook.policy.mesh import RECORD, annotation

CHECK = Check(
    id="proxy-brought",
    level="deny",
    meshes=("linkerd", "istio"),
    fields=("spec.initContainers", "spec.containers", "spec.volumes", annotation(RECORD)),
    reason="is part of the submitted pod, but only the injector is allowed to add it",
    fix="author: remove it, the injector adds it; debug with an ephemeral container, not with a "
    "copy; admin: exempt restored pods",
    updates_alone=True,
    source="webhook/policy/mutate.py, which sees a pod before the injectors do",
    explains_absence=True,
    asks="altered_record",
)
