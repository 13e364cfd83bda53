"""What a review adds to an object: labels and annotations, as hand-built JSON Patch operations.

It never changes containers, resources or selectors, and never the whole object: a round trip
through types would drop the fields that they don't know (istio#49221). A review of the result adds
nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from webhook.policy import checks, ingress, mendix
from webhook.policy.mesh import RECORD, Mesh, Want
from webhook.policy.pod.objects import Meta
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import NO_META, Pod, is_owned, pod_of
from webhook.policy.settings import Settings


class Operation(msgspec.Struct, frozen=True):
    """One operation of a JSON Patch (RFC 6902)."""

    op: str
    path: str
    value: Any


def mutate(request: Request, mesh: Mesh, settings: Settings) -> list[Operation]:
    """Return the patch that makes the object join the mesh; empty if nothing is missing.

    Pods get it when they are created. Controllers' templates get it on CREATE, and on an update
    that changes the template anyway. An object with an owner never gets it: the owner would revert
    the change or, like a Deployment with its ReplicaSets, create another one. The patch records
    which input of a pod's author is not allowed, because the injectors run after this.
    """
    obj = request.object
    if obj is None or request.subresource or request.operation not in ("CREATE", "UPDATE"):
        return []
    if obj.kind == "Ingress":
        return patch("", obj.metadata, ingress.wants(obj, settings, mesh.name, request.namespace))
    pod = pod_of(obj, mesh, request)
    if pod is None:
        return []
    if not pod.template:
        if request.operation != "CREATE":
            return []
        return patch("", obj.metadata, _of_new(pod, mesh, settings))
    if is_owned(obj) or mendix.is_operator_owned(obj) or not request.template_changed:
        return []
    if obj.spec is None or not pod.spec.containers:
        return []
    pointer = "/" + pod.template.replace(".", "/")
    meta = None if pod.meta is NO_META else pod.meta
    return patch(pointer, meta, mesh.opt_in(pod, task=mendix.is_task(pod)))


def _of_new(pod: Pod, mesh: Mesh, settings: Settings) -> Iterable[Want]:
    """Yield the opt-in, and the record of the author's input.

    After injection it can't be distinguished. If the input could change the injector's template,
    and so the record, the injector must not see the pod, unless an admin allows the input.
    """
    record = mesh.record(pod)
    if record.splits and checks.any_denies(record.splits, pod, settings):
        yield from mesh.keep_out(pod)
    else:
        yield from mesh.opt_in(pod, task=mendix.is_task(pod))
    if record.text is not None and pod.annotations.get(RECORD) != record.text:
        yield Want("annotations", RECORD, record.text)


def patch(pointer: str, meta: Meta | None, wants: Iterable[Want]) -> list[Operation]:
    """Return operations that add labels and annotations below a JSON pointer.

    A map that is null or missing is added as a whole, because `add` needs its parent.
    """
    wanted: dict[str, dict[str, str]] = {}
    for want in wants:
        wanted.setdefault(want.place, {})[want.key] = want.value
    if not wanted:
        return []
    if meta is None:
        return [Operation("add", f"{pointer}/metadata", wanted)]
    operations = []
    for place, pairs in wanted.items():
        existing: Mapping[str, str] | None = getattr(meta, place)
        path = f"{pointer}/metadata/{place}"
        if existing is None:
            operations.append(Operation("add", path, pairs))
        else:
            operations += [
                Operation("add", f"{path}/{_escape(key)}", value) for key, value in pairs.items()
            ]
    return operations


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
