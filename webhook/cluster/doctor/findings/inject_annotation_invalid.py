"""The namespace's inject annotation has a value that makes the injector skip every pod."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, replaced
from webhook.policy import injection
from webhook.policy.meshes.linkerd import INJECT
from webhook.policy.settings import mistakes

FINDING = FindingRule(
    id="inject-annotation-invalid",
    severity="error",
    meshes=("linkerd",),
    means="the injector skips every pod of the namespace, even if the pod asks for injection",
    fix=f"remove the namespace's annotation {INJECT}, or set it to enabled",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
)
#: Values that other tools and YAML treat as true.
_YES = ("true", "yes", "on", "y", "1")


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the invalid value."""
    if value := injection.invalid_inject(place.namespace.annotations):
        yield Occurrence(f"the namespace's annotation {INJECT}={value} is invalid")


def repair(facts: Facts, place: Place) -> Iterator[Repair]:
    """Yield a repair that sets `enabled` if the value clearly means that."""
    value = injection.invalid_inject(place.namespace.annotations)
    meant = value.lower() in _YES or mistakes.nearest(value, injection.INJECT_VALUES) == "enabled"
    if value and meant:
        yield Repair(
            id=FINDING.id,
            what=f"namespace {place.name}: change annotation {INJECT}={value} to enabled",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(INJECT, value, "enabled", "annotations"),
        )
