"""Our settings do not describe the mesh: by its own configuration, or by the injector's work."""

from collections.abc import Iterator

from webhook.cluster import mesh_reading
from webhook.cluster.doctor import Evidence, Symptom
from webhook.cluster.look import Look, Place
from webhook.cluster.probe import ABSENT

SYMPTOM = Symptom(
    id="settings-differ",
    severity="error",
    means="a pod that asks for nothing breaks a rule by what the mesh's own injector adds, and "
    "so do all others; as a warning: pods may do more than the mesh needs",
    mend="set what `mendix-mesh discover --settings` prints in the chart's values, or correct the "
    "mesh",
    source="policy/checks; linkerd2 templates/config.yaml; istio istiod-injector-configmap.yaml",
)
#: Told by findings of their own.
_OTHERS = (ABSENT, "proxy-image-untrusted")


def find(look: Look, place: Place) -> Iterator[Evidence]:
    """Yield each check that the probe breaks, and each setting that differs from the mesh.

    Raises `RefusedError` if the mesh's configuration is forbidden.
    """
    mesh = place.mesh.name
    reading = look.installed(mesh_reading.CONFIGURED_BY[mesh])
    for one in mesh_reading.differing(reading, mesh, look.settings):
        yield Evidence(f"{one.text}; to match it: {one.line}", one.severity)
    broken = look.probe(place).broken
    if ABSENT not in broken:
        for check, text in broken.items():
            if check not in _OTHERS:
                yield Evidence(f"{check}: {text}")
    refused = [unread.refused for unread in reading.unread if unread.refused]
    if refused:
        raise refused[0]
