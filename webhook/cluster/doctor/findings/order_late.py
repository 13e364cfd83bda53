"""The API server calls our mutating webhook after the injector, which is too late."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="order-late",
    severity="error",
    means="the injector receives pods before mendix-mesh marks them for injection, and is not "
    "called again",
    fix="set mutatingWebhookConfigurationName in the chart's values to a name that sorts before "
    "the injector's; the default is 00-mendix-mesh",
    source="kubernetes apiserver/pkg/admission/configuration/mutating_webhook_manager.go",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each of our webhook configurations that sorts after an injector's."""
    injectors = {entry.configuration for entry in facts.injectors(place.mesh.name)}
    ours = {entry.configuration for entry in facts.ours(place) if "/mutate/" in entry.webhook.path}
    for own in sorted(ours):
        early = sorted(name for name in injectors if name < own)
        if early:
            yield Occurrence(
                f"{own} is called after {', '.join(early)}",
                fix=facts.helm("--set", "mutatingWebhookConfigurationName=00-mendix-mesh"),
            )
