"""The doctor: reports whether a pod that is created now would be in the mesh, and if not, why."""

from collections import Counter
from collections.abc import Iterable, Sequence
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
    #: What `doctor --fix` would change for it, in words; empty if it can't be fixed in this way.
    repairs: list[str] = []
    #: The ids of findings in the same namespaces that cause it; empty for a root cause.
    because: list[str] = []


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

    @property
    def roots(self) -> list[Finding]:
        """Return the findings that no other finding causes."""
        return [finding for finding in self.findings if not finding.because]

    def consequences(self, root: Finding) -> list[Finding]:
        """Return the findings that a root cause is the first cause of."""
        return [one for one in self.findings if one.because and self._root_of(one) is root]

    def _root_of(self, finding: Finding) -> Finding | None:
        names = set(finding.namespaces)
        for one in self.roots:
            if one.id in finding.because and names & set(one.namespaces):
                return one
        return None


def examine(facts: Facts, places: Sequence[Place]) -> Diagnosis:
    """Check every finding in every namespace.

    Checks that need a right that the user lacks are listed in `unchecked`. Raises `ClusterError` if
    the cluster fails.
    """
    findings: dict[tuple[str, str, str], Finding] = {}
    unchecked: dict[tuple[str, str], Unchecked] = {}
    for place in places:
        for rule, find, repair in all_findings().values():
            if place.mesh.name not in rule.meshes:
                continue
            try:
                for occurrence in find(facts, place):
                    _add(findings, rule, occurrence, place.name)
                if repair and any(one.id == rule.id for one in findings.values()):
                    _note_repairs(findings.values(), place.name, repair(facts, place))
            except StatusError as error:
                # 404: the namespace was deleted in the meantime.
                if error.code not in (403, 404):
                    raise
                one = Unchecked(id=rule.id, namespaces=[], why=str(error))
                unchecked.setdefault((rule.id, str(error)), one).namespaces.append(place.name)
    return Diagnosis(
        namespaces=[_examined(facts, place) for place in places],
        findings=_roots_first(list(findings.values())),
        unchecked=list(unchecked.values()),
    )


def _note_repairs(findings: Iterable[Finding], place: str, repairs: Iterable[Repair]) -> None:
    for repair in repairs:
        for one in findings:
            if one.id == repair.id and place in one.namespaces and repair.what not in one.repairs:
                one.repairs.append(repair.what)


def _roots_first(findings: list[Finding]) -> list[Finding]:
    """Return the findings with what causes each one. Root causes come first, then by severity.

    A finding is a consequence if in each of its namespaces there is an error that can cause it.
    """
    rules = {name: entry.rule for name, entry in all_findings().items()}
    errors: dict[str, set[str]] = {}
    for one in findings:
        if one.severity == "error":
            errors.setdefault(one.id, set()).update(one.namespaces)
    for one in findings:
        causes = [
            name for name in rules[one.id].because if errors.get(name, set()) & set(one.namespaces)
        ]
        covered = set().union(*(errors[name] for name in causes))
        if causes and set(one.namespaces) <= covered:
            one.because = causes
            one.fix = f"fix {' and '.join(causes)} first"
    # A cause can be a consequence itself.
    roots = {one.id for one in findings if not one.because}
    for one in findings:
        known = [name for name in one.because if name in roots]
        one.because = known or one.because
    caused = Counter(name for one in findings for name in one.because)
    return sorted(
        findings, key=lambda one: (bool(one.because), one.severity, -caused[one.id], one.id)
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


def by_object(repairs: Iterable[Repair]) -> list[list[Repair]]:
    """Return the repairs, those of the same object together."""
    found: dict[str, list[Repair]] = {}
    for one in repairs:
        found.setdefault(one.where, []).append(one)
    return list(found.values())


def apply(cluster: Cluster, repairs: Sequence[Repair], *, dry_run: bool) -> list[str]:
    """Apply the repairs of one object in one patch, and return the API server's warnings.

    Raises `ClusterError`, also if the object has changed since it was read.
    """
    patch = [step for one in repairs for step in one.patch]
    _, warnings = cluster.patch(repairs[0].where, patch, how="json", dry_run=dry_run)
    return warnings


def _add(
    findings: dict[tuple[str, str, str], Finding],
    rule: FindingRule,
    occurrence: Occurrence,
    name: str,
) -> None:
    found = Finding(
        id=rule.id,
        severity=occurrence.severity or rule.severity,
        namespaces=[],
        evidence=occurrence.text,
        means=rule.means,
        fix=occurrence.fix or rule.fix,
    )
    known = findings.setdefault((rule.id, occurrence.text, found.fix), found)
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
