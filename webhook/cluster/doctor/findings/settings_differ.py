"""The settings do not match the mesh's configuration, or what the injector adds to pods."""

from collections.abc import Iterator

from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import mesh_reading, mesh_settings
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.cluster.doctor.probe import ABSENT

FINDING = FindingRule(
    id="settings-differ",
    severity="error",
    means="error: the injector adds something that breaks a rule, so pods are denied; warning: no "
    "pod is denied because of it, but the settings allow more than the mesh needs",
    fix="give the chart the settings of the mesh (mendix-mesh discover --settings), or correct the "
    "mesh's configuration",
    source="webhook/policy/checks; linkerd2 templates/config.yaml; istio "
    "istiod-injector-configmap.yaml",
)
#: Checks that have their own findings.
_OTHERS = (ABSENT, "proxy-image-untrusted")


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the settings that differ from the mesh, and each check that the dry-run pod breaks.

    Raises `StatusError` if reading the mesh's configuration, or the dry run, is forbidden.
    """
    mesh = place.mesh.name
    reading = facts.installed(mesh_reading.CONFIGURED_BY[mesh])
    differences = list(mesh_reading.differing(reading, mesh, facts.settings))
    for severity in ("error", "warning"):
        # In one line: in a YAML file a second line `settings: ...` would replace the first.
        if found := [one for one in differences if one.severity == severity]:
            text = "; ".join(one.text for one in found)
            yield Occurrence(
                f"{text}; to match the mesh: {mesh_settings.line(found)}",
                severity,
                fix=f"to match the mesh: {facts.helm_settings()}",
            )
    forbidden = [str(unread.error) for unread in reading.unread if unread.error]
    try:
        broken = facts.probe(place).broken
    except StatusError as error:
        if not error.is_forbidden:
            raise
        broken = {}
        forbidden.append(str(error))
    if ABSENT not in broken:
        for check, text in broken.items():
            if check not in _OTHERS:
                yield Occurrence(f"{check}: {text}")
    if forbidden:
        raise StatusError(403, "; ".join(forbidden))
