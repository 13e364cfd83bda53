"""The doctor: reports whether a pod that is created now would be in the mesh, and if not, why."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, Repair, Severity, all_findings


class Finding(msgspec.Struct, kw_only=True):
    """A finding, with all namespaces in which it has the same evidence."""

    id: str
    severity: Severity
    namespaces: list[str]
    evidence: str
    means: str
    fix: str


class Unchecked(msgspec.Struct, kw_only=True):
    """A finding that could not be checked, and why."""

    id: str
    namespaces: list[str]
    why: str


class Examined(msgspec.Struct, kw_only=True):
    """A namespace, and whether a pod that is created in it now would be in the mesh."""

    name: str
    mesh: str
    mode: str
    meshed: Literal["yes", "no", "unknown"]


class Diagnosis(msgspec.Struct, kw_only=True):
    """The doctor's result."""

    namespaces: list[Examined]
    findings: list[Finding]
    unchecked: list[Unchecked]
    #: What `--fix` changed before this examination, in words.
    fixed: list[str] = []

    @property
    def is_good(self) -> bool:
        """Return whether no finding is an error; unchecked findings do not count."""
        return not any(finding.severity == "error" for finding in self.findings)


def examine(facts: Facts, places: Sequence[Place]) -> Diagnosis:
    """Check every finding in every namespace.

    Checks that need a right that the user lacks are listed in `unchecked`. Raises `ClusterError` if
    the cluster fails.
    """
    findings: dict[tuple[str, str], Finding] = {}
    unchecked: dict[tuple[str, str], Unchecked] = {}
    for place in places:
        for rule, find, _ in all_findings().values():
            if place.mesh.name not in rule.meshes:
                continue
            try:
                for occurrence in find(facts, place):
                    _add(findings, rule, occurrence, place.name)
            except StatusError as error:
                # 404: the namespace was deleted in the meantime.
                if error.code not in (403, 404):
                    raise
                one = Unchecked(id=rule.id, namespaces=[], why=str(error))
                unchecked.setdefault((rule.id, str(error)), one).namespaces.append(place.name)
    return Diagnosis(
        namespaces=[_examined(facts, place) for place in places],
        findings=sorted(findings.values(), key=lambda one: (one.severity, one.id)),
        unchecked=list(unchecked.values()),
    )


def repairs(facts: Facts, places: Sequence[Place]) -> list[Repair]:
    """Return the changes that fix findings in these namespaces.

    Findings that the user has no right to check are left out. Raises `ClusterError` if the cluster
    fails.
    """
    found: dict[str, Repair] = {}
    for place in places:
        for rule, _, repair in all_findings().values():
            if repair is None or place.mesh.name not in rule.meshes:
                continue
            try:
                found |= {one.what: one for one in repair(facts, place)}
            except StatusError as error:
                if error.code not in (403, 404):
                    raise
    return list(found.values())


def apply(cluster: Cluster, repair: Repair, *, dry_run: bool) -> list[str]:
    """Apply a repair and return the API server's warnings.

    Raises `ClusterError`, also if the object has changed since it was read.
    """
    _, warnings = cluster.patch(repair.where, repair.patch, how="json", dry_run=dry_run)
    return warnings


def _add(
    findings: dict[tuple[str, str], Finding], rule: FindingRule, occurrence: Occurrence, name: str
) -> None:
    found = Finding(
        id=rule.id,
        severity=occurrence.severity or rule.severity,
        namespaces=[],
        evidence=occurrence.text,
        means=rule.means,
        fix=rule.fix,
    )
    known = findings.setdefault((rule.id, occurrence.text), found)
    if name not in known.namespaces:
        known.namespaces.append(name)


def _examined(facts: Facts, place: Place) -> Examined:
    mode = place.enrolled.mode if place.enrolled else ""
    meshed: Literal["yes", "no", "unknown"] = "no"
    if place.mesh.name != "unknown":
        try:
            meshed = "yes" if facts.probe(place).is_meshed else "no"
        except StatusError:
            meshed = "unknown"
    name = place.enrolled.mesh if place.enrolled else ""
    return Examined(name=place.name, mesh=name, mode=mode, meshed=meshed)
