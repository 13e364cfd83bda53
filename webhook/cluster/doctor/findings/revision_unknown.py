"""A revision of Istio is asked for that is not installed: pods are silently left alone."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.meshes.istio import REVISION
from webhook.policy.meshes.istio.injection import INJECTION

FINDING = FindingRule(
    id="revision-unknown",
    severity="error",
    meshes=("istio",),
    means="no injector answers to that revision or tag, so pods get no sidecar, without a word",
    mend="correct the namespace's label istio.io/rev or settings.istio.revision, or install the "
    "revision or tag",
    source="istio istio-discovery/templates/mutatingwebhook.yaml, revision-tags-mwc.yaml",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield who asks for which revision, and those there are."""
    installed = look.revisions()
    labels = place.namespace.labels
    if not installed or INJECTION in labels:
        return
    asked, who = labels.get(REVISION), f"the namespace's label {REVISION}"
    if asked is None:
        asked, who = look.settings.istio.revision, "settings.istio.revision"
    if asked and asked not in installed:
        yield Occurrence(f"{who} says {asked}; there are {', '.join(sorted(installed))}")
