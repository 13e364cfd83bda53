"""Our settings do not describe the mesh: by its own configuration, or by the injector's work."""

from collections.abc import Iterator

from webhook.cluster.doctor import mesh_reading, mesh_settings
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.doctor.probe import ABSENT

FINDING = FindingRule(
    id="settings-differ",
    severity="error",
    means="an error: pods get from the mesh's own injector what breaks a rule, so they are denied; "
    "a warning: no pod is denied for it, but more may be allowed than the mesh needs",
    mend="set what `mendix-mesh discover --settings` prints in the chart's values, or correct the "
    "mesh",
    source="policy/checks; linkerd2 templates/config.yaml; istio istiod-injector-configmap.yaml",
)
#: Told by findings of their own.
_OTHERS = (ABSENT, "proxy-image-untrusted")


def find(look: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the settings that differ from the mesh, and each check that the probe breaks.

    Raises `RefusedError` if the mesh's configuration is forbidden.
    """
    mesh = place.mesh.name
    reading = look.installed(mesh_reading.CONFIGURED_BY[mesh])
    differences = list(mesh_reading.differing(reading, mesh, look.settings))
    for severity in ("error", "warning"):
        # Taken together: lines that were pasted one below the other would replace each other.
        if found := [one for one in differences if one.severity == severity]:
            told = "; ".join(one.text for one in found)
            yield Occurrence(f"{told}; to match the mesh: {mesh_settings.line(found)}", severity)
    broken = look.probe(place).broken
    if ABSENT not in broken:
        for check, text in broken.items():
            if check not in _OTHERS:
                yield Occurrence(f"{check}: {text}")
    refused = [unread.refused for unread in reading.unread if unread.refused]
    if refused:
        raise refused[0]
