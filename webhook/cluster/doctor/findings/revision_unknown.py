"""The namespace or the settings ask for an Istio revision that is not installed."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.meshes.istio import REVISION
from webhook.policy.meshes.istio.injection import INJECTION
from webhook.policy.settings.mistakes import nearest

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
    known = sorted(installed)
    requested, who = labels.get(REVISION), f"the namespace's label {REVISION}"
    near = nearest(requested or facts.settings.istio.revision or "", known) or known[0]
    fix = f"kubectl label namespace {place.name} {REVISION}={near} --overwrite"
    if requested is None:
        requested, who = facts.settings.istio.revision, "settings.istio.revision"
        fix = facts.helm("--set", f"settings.istio.revision={near}")
    if requested and requested not in installed:
        yield Occurrence(
            f"{who} is {requested}; installed: {', '.join(known)}",
            fix=f"install the revision or tag {requested}, or use an installed one: {fix}",
        )
