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
    means="the operator sets these labels or annotations on the pods that it creates, so the pods "
    "are denied",
    fix="correct the OperatorConfiguration, then restart the Deployment mendix-operator",
    source="Mendix on Kubernetes: runtimeDeploymentPodAnnotations, customPodLabels, "
    "customPodAnnotations",
)
#: Fields of the OperatorConfiguration's spec, and whether they become annotations or labels.
_FIELDS = (
    ("runtimeDeploymentPodAnnotations", "annotations"),
    ("customPodAnnotations.general", "annotations"),
    ("customPodLabels.general", "labels"),
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each field that makes pods break a rule."""
    group = facts.get(f"/apis/{GROUP}")
    if group is None:
        return
    version = group["preferredVersion"]["groupVersion"]
    for one in facts.objects(path(version, "operatorconfigurations", place.name)):
        for field, kind in _FIELDS:
            marks = _at(one.get("spec"), field)
            if isinstance(marks, dict) and marks:
                texts = {str(key): str(value) for key, value in marks.items()}
                yield from _broken(facts, place, f"{one['metadata']['name']} {field}", kind, texts)


def _at(value: Any, field: str) -> Any:
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _broken(
    facts: Facts, place: Place, field: str, kind: str, marks: dict[str, str]
) -> Iterator[Occurrence]:
    """Yield each rule that a pod with these labels or annotations breaks after our mutation."""
    request = Request(namespace=place.name, object=facts.promised(place, **{kind: marks}))
    verdict = validate(request, place.mesh, "enforce", facts.settings, final=False)
    for violation in verdict.violations:
        if violation.level == "deny":
            yield Occurrence(
                f"OperatorConfiguration {field}: {violation.field} {violation.reason}; "
                f"check {violation.check} denies it"
            )
