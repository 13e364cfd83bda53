"""The injector's proxy comes from a repository that our settings don't name."""

from collections.abc import Iterator

from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.doctor.facts import Look, Place

SYMPTOM = Symptom(
    id="image-untrusted",
    severity="error",
    meshes=("linkerd", "istio"),
    means="every pod that is injected is refused, for its proxy could be anyone's",
    mend="if it is your mirror's, add the repository to the mesh's proxyImages in the settings",
    source="policy/checks/proxy_image_untrusted.py",
)


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield what the check says of the probe."""
    text = look.probe(place).broken.get("proxy-image-untrusted")
    if text:
        yield Evidence(text)
