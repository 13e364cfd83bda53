"""The Mendix Operator's configuration gives pods labels or annotations that break a rule."""

from collections.abc import Iterator
from typing import Any

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.mendix import GROUP
from webhook.policy.pod.request import Request
from webhook.policy.validate import validate

FINDING = FindingRule(
    id="operator-settings",
    severity="error",
    means="the operator sets these labels or annotations on the pods that it creates, so in mode "
    "enforce the pods are denied",
    fix="correct the OperatorConfiguration and restart the Deployment mendix-operator, or correct "
    "the MendixApp, in the Mendix Portal if the environment is connected",
    source="Mendix on Kubernetes: runtimeDeploymentPodAnnotations, customPodLabels, "
    "customPodAnnotations; Global Operator",
)
#: Fields of the spec of an OperatorConfiguration or a MendixApp, and what they become.
_FIELDS = (
    ("runtimeDeploymentPodAnnotations", "annotations"),
    ("customPodAnnotations.general", "annotations"),
    ("customPodLabels.general", "labels"),
)


_OPERATOR = "mendix-operator"


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each field that makes pods break a rule.

    An environment's MendixApp adds to the OperatorConfiguration. A namespace that a Global Operator
    manages also has the values of the main namespace's OperatorConfiguration; its own win.
    """
    group = facts.get(f"/apis/{GROUP}")
    if group is None:
        return
    version = group["preferredVersion"]["groupVersion"]
    own = facts.objects(path(version, "operatorconfigurations", place.name))
    apps = facts.objects(path(version, "mendixapps", place.name))
    home = place.name if _operators(facts, place.name) else ""
    overridden = {(field, key) for one in own for field, _ in _FIELDS for key in _marks(one, field)}
    for one in [*own, *apps]:
        is_app = one in apps
        title = f"{'MendixApp' if is_app else 'OperatorConfiguration'} {_name(one)}"
        fix = _of_app(place.name, one) if is_app else _of_configuration(place.name, one, home)
        for field, kind in _FIELDS:
            yield from _broken(facts, place, f"{title} {field}", kind, _marks(one, field), fix)
    if not home:
        yield from _inherited(facts, place, version, overridden)


def _inherited(
    facts: Facts, place: Place, version: str, overridden: set[tuple[str, str]]
) -> Iterator[Occurrence]:
    """Yield the fields of the main namespace of the Global Operator that manages the namespace.

    The name of the field that lists the managed namespaces is not documented, so any list in the
    spec that has the namespace counts.
    """
    for home in _operators(facts):
        for one in facts.objects(path(version, "operatorconfigurations", home)):
            if not _lists(one.get("spec"), place.name):
                continue
            title = f"OperatorConfiguration {home}/{_name(one)}"
            fix = _of_configuration(home, one, home)
            for field, kind in _FIELDS:
                marks = {
                    key: value
                    for key, value in _marks(one, field).items()
                    if (field, key) not in overridden
                }
                yield from _broken(facts, place, f"{title} {field}", kind, marks, fix)


def _operators(facts: Facts, namespace: str = "") -> list[str]:
    """Return the namespaces with an operator: all, or the given one."""
    where = path("apps/v1", "deployments", namespace)
    found = facts.objects(where, fields=f"metadata.name={_OPERATOR}")
    return [one["metadata"]["namespace"] for one in found]


def _lists(value: Any, name: str) -> bool:
    """Return whether a list somewhere in a value has a namespace, as text or as a `name`."""
    if isinstance(value, dict):
        return any(_lists(one, name) for one in value.values())
    if isinstance(value, list):
        return any(
            one == name or (isinstance(one, dict) and name in one.values()) or _lists(one, name)
            for one in value
        )
    return False


def _name(one: dict[str, Any]) -> str:
    return str(one["metadata"]["name"])


def _marks(one: dict[str, Any], field: str) -> dict[str, str]:
    """Return the labels or annotations in a field of an object's spec."""
    value = one.get("spec")
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _of_configuration(namespace: str, one: dict[str, Any], home: str) -> str:
    edit = f"kubectl -n {namespace} edit operatorconfigurations.{GROUP} {_name(one)}"
    if not home:
        return f"correct it: {edit}; then restart the Global Operator that manages the namespace"
    return f"correct it: {edit}; then kubectl -n {home} rollout restart deployment/{_OPERATOR}"


def _of_app(namespace: str, one: dict[str, Any]) -> str:
    return (
        f"correct it: kubectl -n {namespace} edit mendixapps.{GROUP} {_name(one)}; if the "
        "environment is connected, change it in the Mendix Portal"
    )


def _broken(
    facts: Facts, place: Place, field: str, kind: str, marks: dict[str, str], fix: str
) -> Iterator[Occurrence]:
    """Yield each rule that a pod with these labels or annotations breaks after our mutation."""
    if not marks:
        return
    request = Request(namespace=place.name, object=facts.promised(place, **{kind: marks}))
    verdict = validate(request, place.mesh, "enforce", facts.settings, final=False)
    for violation in verdict.violations:
        if violation.level == "deny":
            yield Occurrence(
                f"{field}: {violation.field} {violation.reason}; check {violation.check} denies it",
                fix=fix,
            )
