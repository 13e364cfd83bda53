"""The namespace's own inject annotation has a value that makes the injector skip every pod."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, replaced
from webhook.policy import injection
from webhook.policy.meshes.linkerd import INJECT
from webhook.policy.settings import mistakes

FINDING = FindingRule(
    id="inject-annotation-invalid",
    severity="error",
    meshes=("linkerd",),
    means="the injector skips every pod of the namespace, whatever the pod says",
    mend=f"remove the namespace's annotation {INJECT}, or set it to enabled",
    source="linkerd2 pkg/inject/report.go disabledByAnnotation",
)
#: What other tools, and YAML, take for yes.
_YES = ("true", "yes", "on", "y", "1")


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the value."""
    if value := injection.invalid_inject(place.namespace.annotations):
        yield Occurrence(f"the namespace's annotation {INJECT} says {value}")


def fix(look: Facts, place: Place) -> Iterator[Fix]:
    """Set what was meant as enabled to that; nothing else is plain."""
    value = injection.invalid_inject(place.namespace.annotations)
    meant = value.lower() in _YES or mistakes.nearest(value, injection.INJECT_VALUES) == "enabled"
    if value and meant:
        yield Fix(
            id=FINDING.id,
            what=f"namespace {place.name}: annotation {INJECT}={value} becomes enabled",
            where=path("v1", "namespaces", name=place.name),
            patch=replaced(INJECT, value, "enabled", "annotations"),
        )
