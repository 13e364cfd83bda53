"""Our mutating webhook is called after an injector, which has passed the pod by then."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="order-late",
    severity="error",
    means="the injector sees pods before we ask it to inject them, and is never called again",
    mend="give ours a name that sorts first: the chart's mutatingWebhookConfigurationName, by "
    "default 00-mendix-mesh",
    source="kubernetes apiserver/pkg/admission/configuration/mutating_webhook_manager.go",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each configuration of ours that sorts after an injector's."""
    injectors = {entry.configuration for entry in look.injectors(place.mesh.name)}
    ours = {entry.configuration for entry in look.ours(place) if "/mutate/" in entry.webhook.path}
    for own in sorted(ours):
        early = sorted(name for name in injectors if name < own)
        if early:
            yield Occurrence(f"{own} is called after {', '.join(early)}")
