"""The namespace or the settings ask for an Istio revision that is not installed."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.meshes.istio import REVISION
from webhook.policy.meshes.istio.injection import INJECTION

FINDING = FindingRule(
    id="revision-unknown",
    severity="error",
    meshes=("istio",),
    means="no injector handles that revision or tag, so pods get no sidecar and no error is shown",
    fix="correct the namespace's label istio.io/rev or settings.istio.revision, or install the "
    "revision or tag",
    source="istio istio-discovery/templates/mutatingwebhook.yaml, revision-tags-mwc.yaml",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the label or setting with the missing revision, and the installed revisions."""
    installed = facts.revisions()
    labels = place.namespace.labels
    if not installed or INJECTION in labels:
        return
    requested, who = labels.get(REVISION), f"the namespace's label {REVISION}"
    if requested is None:
        requested, who = facts.settings.istio.revision, "settings.istio.revision"
    if requested and requested not in installed:
        yield Occurrence(f"{who} is {requested}; installed: {', '.join(sorted(installed))}")
