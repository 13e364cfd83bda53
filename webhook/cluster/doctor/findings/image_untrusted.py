"""The injector's proxy comes from a repository that our settings don't name."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="image-untrusted",
    severity="error",
    meshes=("linkerd", "istio"),
    means="every pod that is injected is refused, for its proxy could be anyone's",
    mend="if it is your mirror's, add the repository to the mesh's proxyImages in the settings",
    source="policy/checks/proxy_image_untrusted.py",
)


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield what the check says of the probe."""
    text = look.probe(place).broken.get("proxy-image-untrusted")
    if text:
        yield Occurrence(text)
