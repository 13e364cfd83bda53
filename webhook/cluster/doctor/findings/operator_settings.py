"""The Mendix Operator's configuration asks for pods that the mesh, or we, refuse."""

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
    means="the operator puts these marks on the pods that it makes, which then break a rule",
    mend="correct the OperatorConfiguration, then restart mendix-operator",
    source="Mendix on Kubernetes: runtimeDeploymentPodAnnotations, customPodLabels, "
    "customPodAnnotations",
)
#: Fields of its spec, and where they end up in pods.
_FIELDS = (
    ("runtimeDeploymentPodAnnotations", "annotations"),
    ("customPodAnnotations.general", "annotations"),
    ("customPodLabels.general", "labels"),
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each field by which pods break a rule."""
    group = look.get(f"/apis/{GROUP}")
    if group is None:
        return
    version = group["preferredVersion"]["groupVersion"]
    for one in look.objects(path(version, "operatorconfigurations", place.name)):
        for field, kind in _FIELDS:
            marks = _at(one.get("spec"), field)
            if isinstance(marks, dict) and marks:
                texts = {str(key): str(value) for key, value in marks.items()}
                yield from _broken(look, place, f"{one['metadata']['name']} {field}", kind, texts)


def _at(value: Any, field: str) -> Any:
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _broken(
    look: Facts, place: Place, field: str, kind: str, marks: dict[str, str]
) -> Iterator[Occurrence]:
    """What policy says of a pod with these marks, after our mutation."""
    request = Request(namespace=place.name, object=look.promised(place, **{kind: marks}))
    verdict = validate(request, place.mesh, "enforce", look.settings, final=False)
    for violation in verdict.violations:
        if violation.level == "deny":
            yield Occurrence(
                f"OperatorConfiguration {field}: {violation.field} {violation.reason}; "
                f"{violation.check} refuses it"
            )
