"""The injector's proxy image is from a repository that is not in the settings."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="image-untrusted",
    severity="error",
    meshes=("linkerd", "istio"),
    means="in mode enforce every injected pod is denied, because its proxy image is not trusted",
    fix="if the repository is your mirror, add it to the proxyImages of the mesh in the chart's "
    "settings",
    because=("settings-differ",),
    source="webhook/policy/checks/proxy_image_untrusted.py",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the message of the check proxy-image-untrusted for the dry-run pod."""
    text = facts.probe(place).broken.get("proxy-image-untrusted")
    if text:
        setting = f"settings.{place.mesh.name}.proxyImages"
        yield Occurrence(
            text,
            fix=f"if the repository is your mirror, add it to {setting}: {facts.helm_settings()}",
        )
