"""Objects through policy, as an admission review would take them."""

import datetime
from typing import Any

from webhook.policy import checks, meshes
from webhook.policy.mesh import RECORD, Mesh
from webhook.policy.mutate import mutate
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of
from webhook.policy.settings import Settings, parse
from webhook.policy.validate import Mode, Verdict, validate

Json = dict[str, Any]

DEFAULTS = Settings()
_BY_DEFAULT = meshes.load(DEFAULTS)


def settings(**document: Any) -> Settings:
    """Return settings as their file would define them."""
    return parse(document, checks=checks.ids())


def mesh(name: str = "linkerd", given: Settings = DEFAULTS) -> Mesh:
    return (_BY_DEFAULT if given is DEFAULTS else meshes.load(given))[name]


def request(obj: Any, old: Any = None, **more: Any) -> Request:
    """Return a CREATE, or with an old object an UPDATE, in the namespace `mendix`."""
    given: dict[str, Any] = {
        "operation": "CREATE" if old is None else "UPDATE",
        "namespace": "mendix",
        "object": objects.convert(obj),
        "old": None if old is None else objects.convert(old),
        "template_changed": old is None or objects.template_of(obj) != objects.template_of(old),
    }
    return Request(**(given | more))


def judge(
    obj: Any,
    old: Any = None,
    *,
    by: str = "linkerd",
    mode: Mode = "enforce",
    given: Settings = DEFAULTS,
    final: bool = True,
    today: datetime.date | None = None,
    **more: Any,
) -> Verdict:
    """The verdict on an object, or on its update from an old one."""
    review = request(obj, old, **more)
    return validate(review, mesh(by, given), mode, given, final=final, today=today)


def broken(verdict: Verdict, level: str = "deny") -> list[str]:
    """The ids of the checks that are broken at a level, each once, in order."""
    return sorted({v.check for v in verdict.violations if v.level == level})


def words(verdict: Verdict) -> list[str]:
    """Return the field, reason and fix of the violations."""
    return [f"{v.field} {v.reason}; {v.fix}" for v in verdict.violations]


def deployment(pod: Json) -> Json:
    """Return a Deployment with the pod as its template."""
    template = {key: pod[key] for key in ("metadata", "spec")}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "shop", "namespace": "mendix"},
            "spec": {"template": template}}  # fmt: skip


def patch_for(
    obj: Any, old: Any = None, *, by: str = "linkerd", given: Settings = DEFAULTS, **more: Any
) -> list[Json]:
    """Return the JSON Patch of the mutation as it is sent, without the record."""
    patch = whole_patch(obj, old, by=by, given=given, **more)
    return [op for op in map(_unrecorded, patch) if op["value"] not in ({}, None)]


def whole_patch(
    obj: Any, old: Any = None, *, by: str = "linkerd", given: Settings = DEFAULTS, **more: Any
) -> list[Json]:
    """Return the JSON Patch of the mutation as it is sent."""
    operations = mutate(request(obj, old, **more), mesh(by, given), given)
    return [{"op": o.op, "path": o.path, "value": o.value} for o in operations]


def recorded(pod: Any, *, by: str = "linkerd", given: Settings = DEFAULTS) -> str | None:
    """Return our mutating webhook's record of a pod's inputs; None if there is none."""
    of = mesh(by, given)
    seen = pod_of(objects.convert(pod), of, request(pod))
    return of.record(seen).text if seen else None


def _unrecorded(operation: Json) -> Json:
    """Return an operation without its part about the record."""
    value = operation["value"]
    if operation["path"].endswith(RECORD.replace("/", "~1")):
        return {**operation, "value": None}
    if isinstance(value, dict):
        kept = {
            key: inner
            for key, inner in ((k, _without(v)) for k, v in value.items() if k != RECORD)
            if inner != {}
        }
        return {**operation, "value": kept}
    return operation


def _without(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != RECORD} if isinstance(value, dict) else value
