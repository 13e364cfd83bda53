"""Would a pod that is created now be in the mesh, and if not, why."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Fix, Occurrence, Severity, all_findings


class Finding(msgspec.Struct, kw_only=True):
    """Something that was found, once for all the namespaces that it concerns."""

    id: str
    severity: Severity
    namespaces: list[str]
    evidence: str
    means: str
    mend: str


class Unseen(msgspec.Struct, kw_only=True):
    """Something that could not be looked for, and why."""

    id: str
    namespaces: list[str]
    why: str


class Examined(msgspec.Struct, kw_only=True):
    """A namespace, and whether a pod that is created in it now would be meshed."""

    name: str
    mesh: str
    mode: str
    meshed: Literal["yes", "no", "unknown"]


class Diagnosis(msgspec.Struct, kw_only=True):
    """What the doctor has to say."""

    namespaces: list[Examined]
    findings: list[Finding]
    unseen: list[Unseen]
    #: What has been mended before this was found, in words.
    mended: list[str] = []

    @property
    def is_good(self) -> bool:
        """Whether nothing keeps pods out of the mesh, as far as was looked."""
        return not any(finding.severity == "error" for finding in self.findings)


def examine(look: Facts, places: Sequence[Place]) -> Diagnosis:
    """Look for every finding in every namespace; what is forbidden is told, and not fatal.

    Raises `ClusterError` where the cluster fails.
    """
    findings: dict[tuple[str, str], Finding] = {}
    unseen: dict[tuple[str, str], Unseen] = {}
    for place in places:
        for symptom, find, _ in all_findings().values():
            if place.mesh.name not in symptom.meshes:
                continue
            try:
                for evidence in find(look, place):
                    _add(findings, symptom, evidence, place.name)
            except RefusedError as error:
                # A namespace may be deleted while it is looked at.
                if error.code not in (403, 404):
                    raise
                one = Unseen(id=symptom.id, namespaces=[], why=str(error))
                unseen.setdefault((symptom.id, str(error)), one).namespaces.append(place.name)
    return Diagnosis(
        namespaces=[_examined(look, place) for place in places],
        findings=sorted(findings.values(), key=lambda one: (one.severity, one.id)),
        unseen=list(unseen.values()),
    )


def fixes(look: Facts, places: Sequence[Place]) -> list[Fix]:
    """What can be mended in these namespaces; what may not be looked at is left out.

    Raises `ClusterError` where the cluster fails.
    """
    found: dict[str, Fix] = {}
    for place in places:
        for symptom, _, fix in all_findings().values():
            if fix is None or place.mesh.name not in symptom.meshes:
                continue
            try:
                found |= {one.what: one for one in fix(look, place)}
            except RefusedError as error:
                if error.code not in (403, 404):
                    raise
    return list(found.values())


def apply(cluster: Cluster, fix: Fix, *, dry_run: bool) -> list[str]:
    """Mend; gives the API server's warnings. Raises `ClusterError`, also where things changed."""
    _, warnings = cluster.patch(fix.where, fix.patch, how="json", dry_run=dry_run)
    return warnings


def _add(
    findings: dict[tuple[str, str], Finding], symptom: FindingRule, evidence: Occurrence, name: str
) -> None:
    found = Finding(
        id=symptom.id,
        severity=evidence.severity or symptom.severity,
        namespaces=[],
        evidence=evidence.text,
        means=symptom.means,
        mend=symptom.mend,
    )
    known = findings.setdefault((symptom.id, evidence.text), found)
    if name not in known.namespaces:
        known.namespaces.append(name)


def _examined(look: Facts, place: Place) -> Examined:
    mode = place.enrolled.mode if place.enrolled else ""
    meshed: Literal["yes", "no", "unknown"] = "no"
    if place.mesh.name != "unknown":
        try:
            meshed = "yes" if look.probe(place).is_meshed else "no"
        except RefusedError:
            meshed = "unknown"
    name = place.enrolled.mesh if place.enrolled else ""
    return Examined(name=place.name, mesh=name, mode=mode, meshed=meshed)
