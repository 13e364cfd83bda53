"""The injector's proxy is not as our settings describe the mesh."""

from collections.abc import Iterator

from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place
from webhook.cluster.probe import ABSENT

SYMPTOM = Symptom(
    id="settings-differ",
    severity="error",
    means="a pod that asks for nothing breaks a rule by what the mesh's own injector adds, and "
    "so do all others",
    mend="bring the settings of mendix-mesh and the mesh's together: versions, user id, skipped "
    "ports, native sidecars",
    source="policy/checks",
)
#: Told by findings of their own.
_OTHERS = (ABSENT, "proxy-image-untrusted")


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield each check that the probe breaks, and where."""
    broken = look.probe(place).broken
    if ABSENT not in broken:
        for check, text in broken.items():
            if check not in _OTHERS:
                yield Evidence(f"{check}: {text}")
